"""Small patches of our own make, one for each thing that another pack may do to a MODEL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP


def couple(model: Any) -> Any:
    """One more row of q for each row, with the keys of another prompt: an attention couple."""

    def before(n: Any, context: Any, value: Any, extra: Any) -> Any:
        other = torch.roll(context, 1, 1) * 0.5
        return torch.cat([n, n]), torch.cat([context, other]), torch.cat([value, other])

    def after(n: Any, extra: Any) -> Any:
        return n.chunk(2)[0]

    clone = model.clone()
    clone.set_model_attn2_patch(before)
    clone.set_model_attn2_output_patch(after)
    return clone


def other_prompt(model: Any) -> Any:
    """The rows stay as many, but the keys are another prompt's."""

    def patch(n: Any, context: Any, value: Any, extra: Any) -> Any:
        other = torch.roll(context, 3, 1)
        return n, other, other

    clone = model.clone()
    clone.set_model_attn2_patch(patch)
    return clone


def more_tokens(model: Any) -> Any:
    """Tokens appended to the keys, as by image prompts."""

    def patch(n: Any, context: Any, value: Any, extra: Any) -> Any:
        longer = torch.cat([context, context[:, :4]], 1)
        return n, longer, longer

    clone = model.clone()
    clone.set_model_attn2_patch(patch)
    return clone


def doubled_tokens(model: Any) -> Any:
    """Keys twice as long."""

    def patch(n: Any, context: Any, value: Any, extra: Any) -> Any:
        longer = context.repeat(1, 2, 1)
        return n, longer, longer

    clone = model.clone()
    clone.set_model_attn2_patch(patch)
    return clone


def smaller_map(model: Any) -> Any:
    """The activations scaled down on the way in and up on the way out, as PatchModelAddDownscale does."""

    def down(h: Any, options: Any) -> Any:
        if options["block"][1] != 2:
            return h
        size = [max(1, round(s / 1.5)) for s in h.shape[-2:]]
        return torch.nn.functional.interpolate(h, size, mode="bilinear")

    def up(h: Any, skip: Any, options: Any) -> Any:
        if h.shape[-2:] != skip.shape[-2:]:
            h = torch.nn.functional.interpolate(h, skip.shape[-2:], mode="bilinear")
        return h, skip

    clone = model.clone()
    clone.set_model_input_block_patch_after_skip(down)
    clone.set_model_output_block_patch(up)
    return clone


def no_shape(model: Any) -> Any:
    """Blocks that do not say what shape their activations have, as in a forward of another pack's own."""

    def patch(q: Any, k: Any, v: Any, extra: Any) -> Any:
        extra.pop("activations_shape", None)
        return q, k, v

    clone = model.clone()
    clone.set_model_attn1_patch(patch)
    return clone


def no_forward(model: Any) -> Any:
    """The forward replaced by something that was computed before, as caches do."""
    clone = model.clone()
    clone.add_wrapper_with_key(
        WrappersMP.DIFFUSION_MODEL, "cache", lambda executor, x, *args, **more: torch.zeros_like(x)
    )
    return clone


def own_forward(model: Any) -> Any:
    """The UNet's forward replaced as an object; no DIFFUSION_MODEL wrapper is called."""
    clone = model.clone()
    unet = clone.get_model_object("diffusion_model")
    clone.add_object_patch("diffusion_model.forward", unet._forward)
    return clone


def tiles(model: Any) -> Any:
    """The UNet run on two halves of the latent."""

    def wrapper(apply: Callable[..., Any], args: dict[str, Any]) -> Any:
        x, out = args["input"], torch.zeros_like(args["input"])
        middle = x.shape[-2] // 2
        for part in (slice(0, middle), slice(middle, None)):
            out[..., part, :] = apply(x[..., part, :], args["timestep"], **args["c"])
        return out

    clone = model.clone()
    clone.set_model_unet_function_wrapper(wrapper)
    return clone


def by_kind(model: Any) -> Any:
    """Acts on positive rows only, told by cond_or_uncond, with a table of two entries."""
    strength = (0.5, 1.0)

    def patch(q: Any, k: Any, v: Any, extra: Any) -> Any:
        out = optimized_attention(q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"])
        kinds = extra["cond_or_uncond"]
        parts = [p * strength[kind] for p, kind in zip(out.chunk(len(kinds)), kinds, strict=True)]
        return torch.cat(parts)

    clone = model.clone()
    clone.set_model_attn2_replace(patch, "input", 1)
    return clone


def override(model: Any) -> Any:
    """Another attention function, in the one slot for it."""

    def attention(func: Any, *args: Any, **more: Any) -> Any:
        return func(*args, **more) * 0.9

    clone = model.clone()
    clone.model_options["transformer_options"]["optimized_attention_override"] = attention
    return clone


def random_numbers(model: Any) -> Any:
    """Draws from torch's global generator in every forward, as token merging does."""

    def patch(q: Any, k: Any, v: Any, extra: Any) -> Any:
        return q + torch.rand(1) * 0.2, k, v

    clone = model.clone()
    clone.set_model_attn1_patch(patch)
    return clone


def twice(model: Any) -> Any:
    """Evaluates the prompt once more with its self-attention perturbed, as PAG does."""
    import comfy.samplers

    def perturbed(q: Any, k: Any, v: Any, extra: Any) -> Any:
        return v

    def post_cfg(args: dict[str, Any]) -> Any:
        options = dict(args["model_options"])
        transformer = dict(options["transformer_options"])
        replace = dict(transformer.get("patches_replace", {}))
        replace["attn1"] = {**replace.get("attn1", {}), ("middle", 0): perturbed}
        transformer["patches_replace"] = replace
        options["transformer_options"] = transformer
        again = comfy.samplers.calc_cond_batch(
            args["model"], [args["cond"]], args["input"], args["sigma"], options
        )
        return args["denoised"] + args["cond_denoised"] - again[0]

    clone = model.clone()
    clone.set_model_sampler_post_cfg_function(post_cfg)
    return clone


# The attention that is read is the model's own; the results are those of the patched model.
HARMLESS = {f.__name__: f for f in (own_forward, by_kind, override, random_numbers, twice)}
# What is read would not be the image's own: "another patch ... <words>".
REFUSED = {
    couple: "gives the attention",
    other_prompt: "shows the attention another prompt",
    more_tokens: r"shows the attention \d+ tokens instead of \d+",
    doubled_tokens: r"shows the attention \d+ tokens instead of \d+",
    smaller_map: "leaves a map of",
    no_shape: "leaves a map of",
    no_forward: "replaces the model's forward",
    tiles: "runs the model on pieces of",
}
EVERY = {**HARMLESS, **{f.__name__: f for f in REFUSED}}
