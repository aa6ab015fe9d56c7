"""The fingerprint changes with all that changes the attention that is read, and with nothing else."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import comfy.hooks
import comfy.model_base
import comfy.model_management
import comfy.sample
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from winning_tickets.guidance.cutoff import Cutoff, Share
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.layers.choose import choose_layer
from winning_tickets.probe.model.fingerprint import fingerprint
from winning_tickets.probe.sampling.cutoff import CutoffPatch
from winning_tickets.probe.sampling.watch import watched
from winning_tickets.tickets.bank.bank import BankError, model_changes

WEIGHTS, TEXT, RUN = (
    "model or LoRAs",
    "text encoder settings such as clip skip",
    "sampling or attention patches",
)
QUERY = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_q.weight"


def core(module: str, node: str, *settings: Any) -> Any:
    """The MODEL or CLIP that one of ComfyUI's own nodes makes."""
    found = getattr(importlib.import_module(module), node)
    if hasattr(found, "execute"):
        return found.execute(*settings)[0]
    return getattr(found(), found.FUNCTION)(*settings)[0]


def lora(patcher: Any, key: str, strength: float) -> None:
    patcher.add_patches({key: (torch.ones_like(patcher.model_state_dict()[key]),)}, strength)


def test_weights_and_loras_change_it(make_model: Any, clip: Any) -> None:
    one, same, other = make_model(0), make_model(0), make_model(1)
    assert fingerprint(one, clip) == fingerprint(same, clip)
    assert model_changes(fingerprint(one, clip), fingerprint(other, clip)) == [WEIGHTS]
    patched, weaker = one.clone(), one.clone()
    lora(patched, QUERY, 0.5)
    lora(weaker, QUERY, 0.25)
    assert len({fingerprint(m, clip) for m in (one, patched, weaker)}) == 3
    bank = collect(patched, clip, CollectRequest(("cat", "tree"), 1, 0, 64, 64, "input 3"))
    assert bank.recipe.fingerprint == fingerprint(patched, clip), "it changes once the model is loaded"


@pytest.mark.parametrize("name", ["L", "H", "L and G"])
def test_clip_skip_changes_it_unless_it_is_the_default(
    model: Any, make_clip: Callable[..., Any], name: str
) -> None:
    """Rule: everything that changes the text's encoding is in the fingerprint."""
    plain = make_clip(name)
    text = "a red castle"
    context = {}
    for skip in (None, -1, -2, -3, -12):
        clip = plain if skip is None else core("nodes", "CLIPSetLastLayer", plain, skip)
        context[fingerprint(model, clip)] = clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0]
        again = plain if skip is None else core("nodes", "CLIPSetLastLayer", plain, skip)
        assert fingerprint(model, again) in context
    values = list(context.values())
    assert len(values) == 3
    assert not any(torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])
    first, *others = context
    assert all(model_changes(first, other) == [TEXT] for other in others)


def test_the_tokenizer_changes_it(model: Any, make_clip: Callable[..., Any]) -> None:
    plain = fingerprint(model, make_clip("L"))
    assert fingerprint(model, make_clip("L")) == plain
    padded, shorter = make_clip("L"), make_clip("L")
    padded.tokenizer.clip_l.pad_token = 0
    shorter.tokenizer.clip_l.max_length = 60
    names = {plain, fingerprint(model, padded), fingerprint(model, shorter)}
    unweighted = make_clip("L")
    unweighted.tokenizer.clip_l.disable_weights = True
    names.add(fingerprint(model, unweighted))
    assert len(names) == 4
    # An option of an encoder that this CLIP has not changes nothing.
    other = core("comfy_extras.nodes_cond", "T5TokenizerOptions", make_clip("L"), 3, 0)
    assert fingerprint(model, other) == plain


def test_hooks_of_the_text_encoder_change_it(model: Any, clip: Any) -> None:
    key = next(k for k in clip.patcher.model_state_dict() if k.endswith("q_proj.weight"))
    change = torch.ones_like(clip.patcher.model_state_dict()[key])

    def hooked(strength: float, scheduled: bool = False, amount: float = 1.0) -> Any:
        hook = comfy.hooks.WeightHook(strength_model=0.0, strength_clip=strength)
        hook.weights = hook.weights_clip = {key: (amount * change,)}
        hook.need_weight_init = False
        group = comfy.hooks.HookGroup()
        group.add(hook)
        return core("comfy_extras.nodes_hooks", "SetClipHooks", clip, scheduled, True, group)

    made = [hooked(0.5), hooked(0.25), hooked(0.5, True), hooked(0.5, amount=2.0)]
    names = [fingerprint(model, each) for each in (clip, *made)]
    assert len(set(names)) == 5 and fingerprint(model, hooked(0.5)) == names[1]
    assert model_changes(names[0], names[1]) == [TEXT]
    made[0].encode_from_tokens_scheduled(made[0].tokenize("a cat"))
    assert fingerprint(model, made[0]) == names[1]


def test_model_sampling_changes_it(make_model: Any, clip: Any) -> None:
    eps = make_model(0)
    assert fingerprint(
        core("comfy_extras.nodes_model_advanced", "ModelSamplingDiscrete", eps, "eps", False), clip
    ) == (fingerprint(eps, clip))
    settings = [("eps", True), ("v_prediction", False), ("v_prediction", True), ("lcm", False)]
    made = [
        core("comfy_extras.nodes_model_advanced", "ModelSamplingDiscrete", eps, *each) for each in settings
    ]
    names = {fingerprint(m, clip) for m in (eps, *made)}
    assert len(names) == 5
    assert all(model_changes(fingerprint(eps, clip), n) in ([], [RUN]) for n in names)


FREEU = ("comfy_extras.nodes_freelunch", "FreeU")
TOME = ("comfy_extras.nodes_tomesd", "TomePatchModel")
TILE = ("comfy_extras.nodes_hypertile", "HyperTile")
DOWNSCALE = ("comfy_extras.nodes_model_downscale", "PatchModelAddDownscale")
REST = (0.0, 0.35, True, "bicubic", "bicubic")


@pytest.mark.parametrize(
    ("node", "settings", "others"),
    [
        (FREEU, (1.1, 1.2, 0.9, 0.2), (1.1, 1.3, 0.9, 0.2)),
        (TOME, (0.3,), (0.4,)),
        (TILE, (32, 2, 0, False), (64, 2, 0, False)),
        (
            DOWNSCALE,
            (3, 2.0, 0.0, 0.35, True, "bicubic", "bicubic"),
            (3, 1.5, 0.0, 0.35, True, "bicubic", "bicubic"),
        ),
    ],
)
def test_patches_of_other_nodes_change_it_by_what_they_are_set_to(
    model: Any,
    clip: Any,
    encode: Any,
    latent: Any,
    node: tuple[str, str],
    settings: tuple[Any, ...],
    others: tuple[Any, ...],
) -> None:
    """Rule: by their names and settings; not by what they keep from run to run, and not by where they lie."""
    one, same, other = (core(*node, model, *each) for each in (settings, settings, others))
    names = [fingerprint(m, clip) for m in (model, one, other)]
    assert len(set(names)) == 3 and model_changes(names[0], names[1]) == [RUN]
    assert fingerprint(same, clip) == names[1]
    noise = comfy.sample.prepare_noise(latent["samples"], 3)
    about = (encode("a cat"), encode(""), latent["samples"])
    comfy.sample.sample(one, noise, 2, 5.0, "euler", "normal", *about, disable_pbar=True)
    assert fingerprint(one, clip) == names[1]


def test_replaced_parts_change_it(model: Any, clip: Any) -> None:
    class Theirs:
        def __init__(self, strength: float) -> None:
            self.strength, self.calls, self.kept = strength, 0, [torch.zeros(2)]
            self.given = [{"image": torch.ones(3)}]

        def __call__(self, q: Any, k: Any, v: Any, extra: Any) -> Any:
            self.calls += 1
            return q, k, v

    def override(function: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    made = {"plain": model.clone()}
    for strength in (0.5, 0.7):
        made[f"patch {strength}"] = model.clone()
        made[f"patch {strength}"].set_model_attn2_patch(Theirs(strength))
    for number in (1, 3):
        made[f"replace {number}"] = model.clone()
        made[f"replace {number}"].set_model_attn2_replace(Theirs(0.5), "input", number)
    made["override"] = model.clone()
    made["override"].model_options["transformer_options"]["optimized_attention_override"] = override
    made["forward"] = model.clone()
    made["forward"].add_object_patch("diffusion_model.forward", override)
    made["part"] = model.clone()
    part = torch.nn.Linear(128, 32)
    made["part"].add_object_patch("diffusion_model.time_embed.2", part)
    names = {key: fingerprint(m, clip) for key, m in made.items()}
    assert len(set(names.values())) == len(made)
    # A counter and a cache are no settings.
    patch = made["patch 0.5"].model_options["transformer_options"]["patches"]["attn2_patch"][0]
    patch.calls, patch.kept = 7, [torch.ones(3)]
    assert fingerprint(made["patch 0.5"], clip) == names["patch 0.5"]
    patch.given = [{"image": torch.zeros(3)}]
    assert fingerprint(made["patch 0.5"], clip) != names["patch 0.5"]
    with torch.no_grad():
        part.weight += 1
    assert fingerprint(made["part"], clip) != names["part"]


def test_watching_cutting_off_and_compiling_do_not_change_it(
    model: Any, clip: Any, encode: Any, latent: Any
) -> None:
    plain = fingerprint(model, clip)
    seen = watched(model, clip, "a cat", "cat")[0]
    cut = CutoffPatch(Cutoff(Share(0.5))).attach(model)
    spied = model.clone()
    spied.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "spy", lambda executor, *args: executor(*args))
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    compiled = model.clone()
    set_torch_compile_wrapper(model=compiled, backend="eager")
    object_compiled = model.clone()
    part = model.get_model_object("diffusion_model.middle_block")
    object_compiled.add_object_patch("diffusion_model.middle_block", torch.compile(part, backend="eager"))
    rescaled = core("comfy_extras.nodes_model_advanced", "RescaleCFG", model, 0.7)
    noise = comfy.sample.prepare_noise(latent["samples"], 3)
    for other in (seen, cut, spied, rescaled):
        assert fingerprint(other, clip) == plain
        about = (encode("a cat"), encode(""), latent["samples"])
        comfy.sample.sample(other, noise, 1, 5.0, "euler", "normal", *about, disable_pbar=True)
        assert fingerprint(other, clip) == plain, "once it was run"
    for other in (compiled, object_compiled):
        assert fingerprint(other, clip) == plain
        comfy.model_management.load_models_gpu([other])
        assert fingerprint(other, clip) == plain, "once it is loaded"


def test_loras_that_are_applied_beside_the_weights_change_it(model: Any, clip: Any) -> None:
    """As ComfyUI's bypass LoRA loader does it: by injections."""
    from comfy.weight_adapter.bypass import BypassInjectionManager
    from comfy.weight_adapter.lora import LoRAAdapter

    def bypassed(strength: float, fill: float) -> Any:
        weight = model.model_state_dict()[QUERY]
        parts = (torch.full((len(weight), 2), fill), torch.ones(2, weight.shape[1]), 1.0, None, None, None)
        manager = BypassInjectionManager()
        manager.add_adapter(QUERY, LoRAAdapter(set(), parts), strength=strength)
        other = model.clone()
        other.set_injections("bypass_lora", manager.create_injections(other.model))
        return other

    names = [fingerprint(bypassed(*how), clip) for how in ((0.5, 1.0), (0.5, 1.0), (0.7, 1.0), (0.5, 2.0))]
    assert names[0] == names[1] and len({fingerprint(model, clip), *names}) == 4


class Odd(torch.Tensor):
    """As a loader of quantised files makes them: its values cannot be read as others' are."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("reshape", "__getitem__", "numpy"):
            raise NotImplementedError("quantised")
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("kind", ["meta", "odd", "fp8", "empty", "no state dict"])
def test_weights_that_cannot_be_read_do_not_end_it(
    make_model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Rule: the fingerprint never ends a run, whatever tensors a loader brings."""

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("this loader keeps its weights elsewhere")

    names = []
    for seed in (0, 0, 1):
        model = make_model(seed)
        weight = model.get_model_object(QUERY)
        if kind == "no state dict":
            monkeypatch.setattr(model.model, "state_dict", broken)
        else:
            other = {
                "meta": weight.to("meta"),
                "odd": weight.detach().clone().as_subclass(Odd),
                "fp8": weight.detach().to(torch.float8_e4m3fn),
                "empty": torch.empty(0),
            }[kind]
            module = model.get_model_object(QUERY.removesuffix(".weight"))
            module.weight = torch.nn.Parameter(other, requires_grad=False)
        names.append(fingerprint(model, clip))
    assert names[0] == names[1]
    assert (names[0] != names[2]) == (kind != "no state dict")


def test_a_bank_is_not_resumed_with_another_clip_skip_or_patch(
    model: Any, make_clip: Callable[..., Any]
) -> None:
    """Rule: what the fingerprint holds is compared wherever banks are resumed."""
    clip = make_clip("L and G")
    request = CollectRequest(("cat", "tree"), 1, 0, 64, 64, "input 3")
    before = collect(model, clip, request)
    skipped = clip.clone()
    skipped.clip_layer(-3)
    with pytest.raises(BankError, match="what differs: text encoder settings such as clip skip"):
        collect(model, skipped, request, before)
    with pytest.raises(BankError, match="what differs: sampling or attention patches"):
        collect(core(*FREEU, model, 1.1, 1.2, 0.9, 0.2), clip, request, before)
    # A bank of an earlier version tells its weights only.
    old = before.recipe.fingerprint.split("-")[0]
    assert model_changes(old, fingerprint(model, skipped)) == []
    assert model_changes("0" * 16, fingerprint(model, clip)) == [WEIGHTS]


def test_auto_does_not_take_one_clip_skips_answer_for_anothers(
    model: Any, make_clip: Callable[..., Any]
) -> None:
    clip = make_clip("L and G")
    looked: list[int] = []
    request = CollectRequest(("cat", "fire hydrant"), 1, 0, 64, 64, "auto")
    skipped = clip.clone()
    skipped.clip_layer(-3)
    for each in (clip, skipped, clip):
        choose_layer(model, each, request, "a node", lambda done, total: looked.append(done))
    assert looked.count(1) == 2


def test_it_is_fast(model: Any, clip: Any) -> None:
    fingerprint(model, clip)
    started = time.perf_counter()
    fingerprint(model, clip)
    assert time.perf_counter() - started < 1
