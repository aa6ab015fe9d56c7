"""Diffusion transformers: the image is a sequence of tokens that attends to those of the prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import comfy.model_sampling
import comfyui_version
import torch
from comfy.patcher_extension import WrappersMP

from ...tickets.grid import map_size
from .clone import COMPILE_KEY, plain_clone, uncompiled
from .family import AttentionCall, Layer, ProbeError, Read, pixels_of

MARK = "winning_tickets_layer"
IMAGE, TEXT = "image", "text"
Parts = list[tuple[str, int]]
# Of the noise and the signal together, how much is noise where noises are read.
READ_AT = 0.9
# Pixels at the side of a block of noise, as the paper's blocks of SD1.x have: benchmarks/README.md, "What
# moves on a flow transformer".
BLOCK = 32
# Where a token stands has a share in its attention that no noise takes along: measured there, too.
BASELINE = 16
# Of a block, what comes before the attention to the text.
JOINT, CROSS = 0.25, 0.5


@dataclass(frozen=True)
class Blocks:
    """Blocks of one kind, whose calls of attention the transformer options tell apart.

    name: in a layer's name. attribute: where the model keeps them. kind: block_type in the options of a
    call, where the model writes it. replaced: their name among patches_replace["dit"], where options say
    nothing and every block has to be marked.
    """

    name: str
    attribute: str
    kind: str | None = None
    replaced: str = ""


@dataclass(frozen=True)
class Kind:
    """What the transformers of one class have in common.

    name: for people. blocks: in forward order. patch: where the model keeps how many latent pixels a token
    has at a side. text: the part of the model that takes the text's tokens. sequence: what the attention of a
    block runs over, in order, as name and number of tokens; of the model, the numbers of the image's and the
    text's tokens, and what else the forward and the call are given. joint: image and text attend to both;
    else image attends to text alone. beside: what else a forward may be given that leaves the image's own
    tokens unknown. ahead: how many other attentions of the image a block has before that to the text, with
    as many keys; of the model, the number of the text's tokens, and what else the forward is given. unlike:
    why one model of the class is of another kind, empty if it is not. told: what the
    model is given for a text's tokens, where ComfyUI makes something else of them before; of the model, the
    tokens, and what else their conditioning holds. since: the first ComfyUI that numbers its
    blocks; empty: all do.
    """

    name: str
    blocks: tuple[Blocks, ...]
    patch: str
    text: str
    sequence: Callable[[Any, int, int, Mapping[str, Any]], Parts]
    joint: bool = True
    beside: tuple[str, ...] = ()
    ahead: Callable[[Any, int, Mapping[str, Any]], int] = lambda dit, text, given: 0
    unlike: Callable[[Any], str] = lambda dit: ""
    told: Callable[[Any, torch.Tensor, Mapping[str, Any]], torch.Tensor] | None = None
    since: str = ""


def _text_first(dit: Any, image: int, text: int, given: Mapping[str, Any]) -> Parts:
    """Images that the prompt refers to come last."""
    references = given.get("reference_image_num_tokens") or ()
    return [(TEXT, text), (IMAGE, image), ("references", sum(references))]


def _after_registers(dit: Any, image: int, text: int, given: Mapping[str, Any]) -> Parts:
    registers = dit.register_tokens.shape[1] if hasattr(dit, "register_tokens") else dit.register_length
    return [("registers", int(registers)), (TEXT, text), (IMAGE, image)]


def _padded(dit: Any, image: int, text: int, given: Mapping[str, Any]) -> Parts:
    """Z-Image fills both up to whole multiples of 32."""
    multiple = dit.pad_tokens_multiple or 1
    return [(TEXT, text), ("padding", -text % multiple), (IMAGE, image), ("padding", -image % multiple)]


def _letters_between(dit: Any, image: int, text: int, given: Mapping[str, Any]) -> Parts:
    """HunyuanImage reads what is in quotation marks once more, letter by letter."""
    letters = given.get("txt_byt5") if dit.byt5_in is not None else None
    return [(TEXT, text), ("letters", 0 if letters is None else letters.shape[1]), (IMAGE, image)]


def _seen_first(dit: Any, text: int, given: Mapping[str, Any]) -> int:
    """Models that make videos of images attend to what CLIP saw, or once more to the text."""
    if dit.img_emb is None:
        return 0
    seen = given.get("clip_fea")
    return int(seen is None or seen.shape[-2] == text)


def _makes_videos(dit: Any) -> str:
    return "a HunyuanVideo" if len(dit.patch_size) > 2 else ""


def _adapted(dit: Any, own: torch.Tensor, more: Mapping[str, Any]) -> torch.Tensor:
    """Anima attends to what its adapter makes of the text, with a token for each of T5's."""
    ids, weights = more.get("t5xxl_ids"), more.get("t5xxl_weights")
    if ids is None:
        return own
    if weights is not None:
        weights = weights[None, :, None].to(own)
    adapted: torch.Tensor = dit.preprocess_text_embeds(own, ids[None].to(own.device), t5xxl_weights=weights)
    return adapted


SINGLES = (Blocks("double", "double_blocks", "double"), Blocks("single", "single_blocks", "single"))
KINDS = {
    "comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper": Kind(
        "SD3",
        (Blocks("block", "joint_blocks", replaced="double_block"),),
        "x_embedder.patch_size",
        "context_embedder",
        _after_registers,
    ),
    "comfy.ldm.qwen_image.model.QwenImageTransformer2DModel": Kind(
        "Qwen-Image", (Blocks("block", "transformer_blocks", "double"),), "patch_size", "txt_in", _text_first
    ),
    "comfy.ldm.flux.model.Flux": Kind("Flux", SINGLES, "patch_size", "txt_in", _text_first),
    "comfy.ldm.chroma.model.Chroma": Kind("Chroma", SINGLES, "patch_size", "txt_in", _text_first),
    "comfy.ldm.lumina.model.NextDiT": Kind(
        "Lumina2 and Z-Image",
        (Blocks("block", "layers", "double"),),
        "patch_size",
        "cap_embedder.1",
        _padded,
        beside=("ref_latents", "siglip_feats"),
    ),
    "comfy.ldm.cosmos.predict2.MiniTrainDIT": Kind(
        "Cosmos-Predict2",
        (Blocks("block", "blocks"),),
        "patch_spatial",
        "blocks.0.cross_attn.k_proj",
        _text_first,
        joint=False,
        since="0.30.0",
    ),
    "comfy.ldm.anima.model.Anima": Kind(
        "Anima",
        (Blocks("block", "blocks"),),
        "patch_spatial",
        "blocks.0.cross_attn.k_proj",
        _text_first,
        joint=False,
        told=_adapted,
        since="0.30.0",
    ),
    "comfy.ldm.krea2.model.SingleStreamDiT": Kind(
        "Krea2", (Blocks("block", "blocks", "single"),), "patch", "txtmlp.1", _text_first
    ),
    "comfy.ldm.hunyuan_video.model.HunyuanVideo": Kind(
        "HunyuanImage",
        SINGLES,
        "patch_size",
        "txt_in.input_embedder",
        _letters_between,
        beside=("ref_latent", "clip_fea", "guiding_frame_index"),
        unlike=_makes_videos,
    ),
    "comfy.ldm.aura.mmdit.MMDiT": Kind(
        "AuraFlow",
        (
            Blocks("double", "double_layers", replaced="double_block"),
            Blocks("single", "single_layers", replaced="single_block"),
        ),
        "patch_size",
        "cond_seq_linear",
        _after_registers,
    ),
    "comfy.ldm.wan.model.WanModel": Kind(
        "Wan",
        (Blocks("block", "blocks", "double"),),
        "patch_size",
        "text_embedding.0",
        _text_first,
        joint=False,
        beside=("reference_latent", "context_latents", "time_dim_concat"),
        ahead=_seen_first,
    ),
}


NAMES = ", ".join(kind.name for kind in KINDS.values())


class Transformer:
    """The family of a MODEL whose class is one of KINDS; ProbeError for others.

    joint: where image and text attend to both, whether all keys share the softmax, as in the model itself, or
    only those of the text: what share each word has among the words.
    """

    def __init__(self, model: Any, joint: bool = True) -> None:
        self.model = model
        self.dit = plain_clone(model).get_model_object("diffusion_model")
        if not is_known(self.dit):
            raise ProbeError(f"{unknown(model, self.dit)} This works with SD1.x, SD2.x, SDXL, {NAMES}.")
        self.kind, self.joint = KINDS[class_of(self.dit)], joint

    @property
    def layers(self) -> list[Layer]:
        return [
            Layer(blocks.name, number, 0)
            for blocks in self.kind.blocks
            for number in range(len(_part(self.dit, blocks.attribute)))
        ]

    def stride(self, layer: Layer) -> int:
        patch = _part(self.dit, self.kind.patch)
        return int(patch[-1] if isinstance(patch, Sequence) else patch)

    @property
    def cells(self) -> int:
        """As many as make blocks of BLOCK pixels: a token's own noise says little, what is around it much."""
        return max(1, BLOCK // (self.stride(self.layers[0]) * pixels_of(self.model)))

    @property
    def baseline(self) -> int:
        return BASELINE

    def obscured(self, given: Mapping[str, Any]) -> str:
        for name in self.kind.beside:
            # Some are lists of tensors.
            if given.get(name) is not None and len(given[name]):
                return (
                    f"gives the model other images ({name}), so that this one's tokens cannot be told apart"
                )
        return ""

    def covered(self, height: int, width: int) -> tuple[float, float]:
        patch = self.stride(self.layers[0])
        rows, columns = map_size(height, width, patch)
        return height / (rows * patch), width / (columns * patch)

    def text_width(self) -> int:
        part = _part(self.dit, self.kind.text)
        width = int(getattr(part, "in_features", 0) or part.weight.shape[-1])
        # Krea2 takes several layers of its text encoder.
        return width * int(getattr(self.dit, "txtlayers", 1))

    def told(self, entry: Sequence[Any], like: torch.Tensor) -> torch.Tensor:
        own: torch.Tensor = entry[0].to(like)
        return own if self.kind.told is None else self.kind.told(self.dit, own, entry[1])

    def noise_level(self) -> float:
        """Nine parts of noise to one of signal, t = 0.9 of a flow.

        At t = 1 the ideal prediction is the same for every noise, and attention to it shows next to nothing.
        """
        sampling = self.model.get_model_object("model_sampling")
        return READ_AT if isinstance(sampling, comfy.model_sampling.CONST) else READ_AT / (1 - READ_AT)

    def share(self, layer: Layer, height: int, width: int) -> float:
        """By the number of blocks, which are about equal; what comes before and after them left out."""
        return (self.layers.index(layer) + (JOINT if self.kind.joint else CROSS)) / len(self.layers)

    def hooked(
        self,
        options: Mapping[str, Any],
        layers: Sequence[Layer],
        read: Read,
        size: tuple[int, int],
        tokens: int,
        given: Mapping[str, Any],
    ) -> dict[str, Any]:
        """By an attention override that calls the one before it, and replaced blocks where blocks have no
        number; a wrapper of the forward behind all others sees the text.
        """
        patch = self.stride(layers[0])
        forward = _Forward(self, map_size(*size, patch), tokens, given, read)
        wanted: dict[Any, Layer] = {}
        hooked = dict(options)
        for blocks in self.kind.blocks:
            mine = [layer for layer in layers if layer.block == blocks.name]
            if blocks.replaced:
                hooked = _marked(hooked, blocks, mine)
                wanted |= {layer: layer for layer in mine}
            else:
                wanted |= {(blocks.kind, layer.number): layer for layer in mine}
        theirs = options.get("optimized_attention_override")
        override = partial(_override, wanted, theirs, forward)
        return _seen({**hooked, "optimized_attention_override": uncompiled(override)}, forward)


def class_of(dit: Any) -> str:
    """Module and name of a model's class, by which it is known without importing it."""
    return f"{type(dit).__module__}.{type(dit).__qualname__}"


def is_known(dit: Any) -> bool:
    """Whether a diffusion model is of one of KINDS."""
    kind = KINDS.get(class_of(dit))
    return kind is not None and not kind.unlike(dit) and not unnumbered(dit)


def unnumbered(dit: Any) -> str:
    """Why this ComfyUI is too old for a diffusion model of one of KINDS, as a sentence; else empty."""
    kind = KINDS.get(class_of(dit))
    here = comfyui_version.__version__
    if kind is None or _numbers(here) >= _numbers(kind.since):
        return ""
    return (
        f"This model is {kind.name}: before {kind.since} ComfyUI does not number its blocks (this is {here}),"
        " so that no patch can read it."
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def unknown(model: Any, dit: Any) -> str:
    """For people, of a MODEL and its diffusion model of another kind."""
    return (
        f"This model is {type(model.model).__name__}, a {type(dit).__name__}: its attention cannot be read."
    )


def _part(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = module[int(name)] if name.isdigit() else getattr(module, name)
    return module


@dataclass
class _Forward:
    """One forward in which the layers' calls are read.

    size: rows and columns of the image's tokens. tokens: of the text. more: what else it is given.
    """

    family: Transformer
    size: tuple[int, int]
    tokens: int
    more: Mapping[str, Any]
    read: Read
    context: torch.Tensor | None = None
    calls: dict[Layer, int] = field(default_factory=dict)

    def call(self, layer: Layer, arguments: Sequence[Any], named: Mapping[str, Any]) -> AttentionCall | None:
        """What an attention function was given, as the layer's call; None: not of image to text."""
        given = {**dict(zip(("q", "k", "v", "heads", "mask"), arguments, strict=False)), **named}
        q, k, mask = given["q"], given["k"], given.get("mask")
        if mask is not None:
            # As ComfyUI's attention functions take it.
            mask = mask[None] if mask.dim() == 2 else mask
            mask = mask[:, None] if mask.dim() == 3 else mask
        image = self.size[0] * self.size[1]
        options = given.get("transformer_options") or {}
        kind = self.family.kind
        if kind.joint:
            more = {**self.more, **options}
            places, total = _places(kind.sequence(self.family.dit, image, self.tokens, more))
            queries, keys, text = places[IMAGE], slice(None), places[TEXT]
            length, first = total, 1
        else:
            queries, keys, text = slice(None), slice(None), slice(None)
            # The image's attention to itself comes first in a block, and may have as many keys.
            first = 1 + (image == self.tokens) + kind.ahead(self.family.dit, self.tokens, self.more)
            total, length = image, self.tokens
        if q.shape[-2] == image and k.shape[-2] != length:
            # The image to itself, or to what another patch or the model shows it besides.
            return None
        wrong = ""
        if q.shape[-2] != total or k.shape[-2] != length:
            wrong = f"has {q.shape[-2]} tokens attend to {k.shape[-2]} instead of {total} to {length}"
        self.calls[layer] = self.calls.get(layer, 0) + 1
        if self.calls[layer] < first:
            return None
        if self.calls[layer] > first:
            wrong = wrong or "runs the attention more than once"
        if kind.joint and not self.family.joint:
            keys, text = text, slice(None)
        if mask is not None:
            mask = mask[..., queries, keys] if mask.shape[-2] > 1 else mask[..., keys]
        return AttentionCall(
            layer,
            q[..., queries, :],
            k[..., keys, :],
            self.context,
            given["heads"],
            self.size,
            text,
            mask,
            given.get("scale"),
            wrong,
        )


def _places(parts: Parts) -> tuple[dict[str, slice], int]:
    """Where the parts of a sequence lie, and its length."""
    places, first = {}, 0
    for name, count in parts:
        places[name] = slice(first, first + count)
        first += count
    return places, first


def _override(
    wanted: Mapping[Any, Layer],
    theirs: Callable[..., Any] | None,
    forward: _Forward,
    function: Callable[..., Any],
    *arguments: Any,
    **named: Any,
) -> Any:
    """Stands in for ComfyUI's attention function; an override already there does its work."""
    options = named.get("transformer_options") or {}
    key = options.get(MARK) or (options.get("block_type"), options.get("block_index"))
    layer = wanted.get(key)
    if layer is not None:
        forward.read(partial(forward.call, layer, arguments, named))
    if theirs is not None:
        return theirs(function, *arguments, **named)
    return function(*arguments, **named)


def _marked(options: dict[str, Any], blocks: Blocks, layers: Sequence[Layer]) -> dict[str, Any]:
    """Options in which the attention of these blocks is told which layer it is of."""
    replace = dict(options.get("patches_replace", {}))
    theirs = replace.get("dit", {})
    ours = {}
    for layer in layers:
        key = blocks.replaced, layer.number
        ours[key] = partial(_mark, layer, theirs.get(key))
    return {**options, "patches_replace": {**replace, "dit": {**theirs, **ours}}}


def _mark(
    layer: Layer, theirs: Callable[..., Any] | None, arguments: Mapping[str, Any], more: Mapping[str, Any]
) -> Any:
    """Stands in for a block; a replacement already there does its work."""
    marked = {**arguments, "transformer_options": {**arguments["transformer_options"], MARK: layer}}
    return more["original_block"](marked) if theirs is None else theirs(marked, more)


def _seen(options: dict[str, Any], forward: _Forward) -> dict[str, Any]:
    """Options in which the text is seen as the model is given it, where others may change it before."""
    wrappers = options.get("wrappers", {})
    kind = WrappersMP.DIFFUSION_MODEL
    others = wrappers.get(kind, {})
    # A compiled forward takes its wrappers with it; these are not to be compiled.
    if not any(others.values()) or COMPILE_KEY in wrappers.get(WrappersMP.APPLY_MODEL, {}):
        return options

    def see(executor: Any, x: Any, t: Any, context: Any = None, *rest: Any, **named: Any) -> Any:
        forward.context = context if torch.is_tensor(context) else None
        return executor(x, t, context, *rest, **named)

    return {**options, "wrappers": {**wrappers, kind: {**others, MARK: [see]}}}
