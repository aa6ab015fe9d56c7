"""A short name for a model and text encoder as they are patched and set, so that banks can be told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any

import torch

from ..compat import name_of as called
from .clone import COMPILE_KEY, WATCH
from .family import require_clip
from .patches import described, key_of, name_of

SAMPLES = 256
# More words than one chunk of tokens holds, weights, and a word that is split.
PROBE = "a (red:1.2) castle beside an \\(old\\) fire hydrant, " * 8
CHANGING = ("patches", "patches_replace", "optimized_attention_override")
# Precision, and what has a place of its own in the fingerprint or a bank's recipe.
APART = ("model_sampling", "latent_format", "manual_cast_dtype")
# Of model options: what the fingerprint holds, or what alone changes no image.
ELSEWHERE = (
    "transformer_options",
    "model_function_wrapper",
    "disable_cfg1_optimization",
    "torch_compile_kwargs",
)
WRAPPED = ("wrappers", "callbacks")
# Keys of wrappers that change no image: what compiles, and what of ours only watches.
HARMLESS = (COMPILE_KEY, WATCH)


def fingerprint(model: Any, clip: Any) -> str:
    """Three numbers in hex, joined by dashes: the weights of UNet and text encoder, how the text is encoded,
    how the model is run.

    Weights: LoRAs and other patches included, values sampled from every tensor: fast, and different for any
    two trained models. Text: tokenizer, clip skip, hooks. Model: noise levels, patches of attention and
    blocks, replaced parts. Wrappers around whole evaluations are left out: those that watch, count, cache or
    compile cannot be told from those that do more.
    """
    require_clip(clip)
    weights = hashlib.sha256()
    _weights(model, "diffusion_model.", weights)
    _weights(clip.patcher, "", weights)
    return "-".join((weights.hexdigest()[:16], _hashed(_text(clip)), _hashed(_model(model))))


def sampling_patches(model: Any) -> str:
    """Names, and 8 hexadecimal digits, of what changes a run but is not in the fingerprint; empty without.

    Patches that combine predictions otherwise (RescaleCFG, PAG) or change runs (Guidance Cutoff), wrappers
    around anything (EasyCache), callbacks, and what they are set to. What others only watch runs with cannot
    be told from them.
    """
    options = model.model_options
    transformer = options.get("transformer_options", {})
    run: list[Any] = [
        {k: v for k, v in options.items() if k not in ELSEWHERE and not k.startswith("multigpu")},
        {k: v for k, v in transformer.items() if not (k in (*CHANGING, *WRAPPED) or _is_setting(v))},
    ]
    for wrapped in (vars(model), transformer):
        for name in WRAPPED:
            run += [
                {kind: {key: found for key, found in keys.items() if key not in HARMLESS}}
                for kind, keys in wrapped.get(name, {}).items()
            ]
    found = list(_flat(run))
    if not found:
        return ""
    patches = [part for part in found if not isinstance(part, (str, int, float, torch.Tensor))]
    settings = [setting for f in patches for setting in _settings(getattr(f, "__self__", None))]
    always = bool(options.get("disable_cfg1_optimization", False))
    names = ", ".join(dict.fromkeys(map(called, patches))) or "options"
    return f"{names} {_hashed([*described(*found), *map(repr, [*settings, always])])}"


def _settings(owner: Any) -> Iterator[Any]:
    """Of frozen dataclasses that an object holds: those are its settings, not what it counts."""
    for name, part in sorted(getattr(owner, "__dict__", {}).items()):
        if is_dataclass(part) and not isinstance(part, type) and part.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            yield name, type(part).__name__
            yield from (v for v in vars(part).items() if isinstance(v[1], (bool, int, float, str)))
            yield from _settings(part)


def _hashed(parts: Iterable[str | torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for data in _values(part):
            digest.update(data)
    return digest.hexdigest()[:8]


def _values(value: Any) -> Iterable[bytes]:
    """A patch or weight as bytes: tensors by shape and evenly spaced values, the rest as text."""
    if isinstance(value, torch.Tensor):
        yield str(tuple(value.shape)).encode()
        yield _sampled(value)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _values(part)
    elif isinstance(value, (str, int, float, bool, type(None))):
        yield repr(value).encode()
    elif hasattr(value, "weights"):
        yield type(value).__name__.encode()
        yield from _values(value.weights)
    else:
        yield type(value).__name__.encode()


def _sampled(value: torch.Tensor) -> bytes:
    """Evenly spaced values of a tensor; of one that has none to read, such as a meta tensor, its type."""
    for read in (lambda: value, lambda: value.as_subclass(torch.Tensor), lambda: value.dequantize()):
        try:
            flat = read().detach().reshape(-1)
            some = flat[:: max(1, flat.numel() // SAMPLES)][:SAMPLES]
            return some.to("cpu", torch.float32).numpy().tobytes()
        except Exception:
            # Loaders bring tensors of their own, which refuse in ways of their own.
            continue
    return f"{type(value).__name__} {value.dtype}".encode()


def _weights(patcher: Any, prefix: str, digest: Any) -> None:
    """Weights below `prefix` and what is patched onto them, LoRAs with their strengths."""
    # A patched weight has its original there while the model is loaded.
    backup = {k: b.weight for k, b in getattr(patcher, "backup", {}).items()}
    backup |= {k: weight for k, (weight, _) in getattr(patcher, "hook_backup", {}).items()}
    replaced = tuple(f"{name}." for name, part in patcher.object_patches.items() if not _compiled(part))
    try:
        weights = {k.replace("_orig_mod.", ""): v for k, v in patcher.model_state_dict(prefix).items()}
    except Exception as error:
        weights = {}
        digest.update(f"{type(patcher.model).__name__} {type(error).__name__}".encode())
    for key in sorted(weights):
        if key.startswith(replaced):
            continue
        digest.update(key.encode())
        for part in _values(backup.get(key, weights[key])):
            digest.update(part)
        for part in _values(patcher.patches.get(key, ())):
            digest.update(part)


def _compiled(part: Any) -> bool:
    return hasattr(part, "_orig_mod")


def _model(model: Any) -> Iterator[str | torch.Tensor]:
    """What changes a model's attention beside its weights."""
    yield from _sampling(model)
    options = model.model_options
    patches = options.get("transformer_options", {})
    functions = {name: patches.get(name) for name in CHANGING}
    settings = {k: v for k, v in patches.items() if _is_setting(v)}
    forward = {"model_function_wrapper": options.get("model_function_wrapper")}
    yield from described(*_flat([functions, settings, forward, *_replaced(model)]))


def _is_setting(value: Any) -> bool:
    """Whether an entry of transformer_options is in the fingerprint as a setting."""
    return isinstance(value, (bool, int, float, str, tuple))


def _replaced(patcher: Any) -> Iterator[Any]:
    """Object patches, weight wrappers, injections and hooks of a MODEL's or CLIP's patcher."""
    for name, part in patcher.object_patches.items():
        if name not in APART and not _compiled(part):
            yield {name: [part, part.state_dict() if isinstance(part, torch.nn.Module) else None]}
    yield {"weight wrappers": getattr(patcher, "weight_wrapper_patches", None)}
    for name, parts in getattr(patcher, "injections", {}).items():
        yield {name: [getattr(part, "inject", part) for part in parts]}
    for patches in getattr(patcher, "hook_patches", {}).values():
        yield {key: tuple(parts) for key, parts in patches.items()}


def _flat(value: Any) -> Iterator[Any]:
    """What is in lists and dicts, dicts in the order of their keys; empty ones are as good as none."""
    if isinstance(value, dict):
        for key in sorted(value, key=key_of):
            if found := list(_flat(value[key])):
                yield from (key_of(key), *found)
    elif isinstance(value, list):
        for part in value:
            yield from _flat(part)
    elif value is not None:
        yield value


def _sampling(model: Any) -> Iterator[str]:
    """Kind and noise levels of a model's sampling; rounded, since they are computed anew in each session."""
    sampling = model.get_model_object("model_sampling")
    yield from (name_of(c) for c in type(sampling).__mro__ if "<locals>" not in c.__qualname__)
    for name in ("sigma_min", "sigma_max", "sigma_data", "shift", "multiplier"):
        value = getattr(sampling, name, None)
        if value is not None:
            yield f"{name} {float(value):.4g}"
    sigmas = getattr(sampling, "sigmas", None)
    if isinstance(sigmas, torch.Tensor):
        yield " ".join(f"{float(s):.4g}" for s in sigmas[:: max(1, len(sigmas) // 16)])


def _text(clip: Any) -> Iterator[str | torch.Tensor]:
    """What changes a text's encoding beside the weights."""
    stage = clip.cond_stage_model
    yield name_of(type(stage))
    for name, encoder in sorted(stage.named_children()):
        if hasattr(encoder, "options_default"):
            yield f"{name} {name_of(type(encoder))} {_layer(encoder, clip.layer_idx)}"
    for name, chunks in sorted(clip.tokenize(PROBE).items()):
        yield f"{name} {[[(str(token), weight) for token, weight, *_ in chunk] for chunk in chunks]}"
    if hooks := getattr(clip.patcher, "forced_hooks", None):
        yield f"{bool(clip.use_clip_schedule)} {bool(clip.apply_hooks_to_conds)}"
        for hook in hooks.hooks:
            yield f"{name_of(type(hook))} {getattr(hook, '_strength_model', '')}"
            yield str([(k.strength, k.start_percent) for k in hook.hook_keyframe.keyframes])
    yield from described(*_flat(list(_replaced(clip.patcher))))


def _layer(encoder: Any, skip: int | None) -> str:
    """The layer of a text encoder that is read: by its number, or the last with its norm."""
    layer, number = encoder.options_default[:2]
    if skip is not None and abs(skip) <= encoder.num_layers:
        layer, number = "hidden", skip
    if layer != "hidden":
        return str(layer)
    number = encoder.num_layers + number if number < 0 else number
    normed = encoder.layer_norm_hidden_state
    return "last" if normed and number == encoder.num_layers - 1 else f"{number} {normed}"
