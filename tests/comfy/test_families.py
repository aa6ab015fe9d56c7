"""Transformers are read as UNets are: their own maps, no bit changed, nothing left behind."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import comfy.patcher_extension
import comfy.sample
import comfy.sd
import comfy.supported_models
import pytest
import torch
from tiny import FAMILIES, FLUX, QWEN, SD3, UNREADABLE, WAN, WAN_I2V, Family, make_model, needs
from torch.utils._python_dispatch import TorchDispatchMode
from winning_tickets.probe.attention.first_step import FirstStep, SideBySide
from winning_tickets.probe.attention.reader import Reader, token_attention
from winning_tickets.probe.attention.tokens import PromptTokens, find_phrases
from winning_tickets.probe.model.architecture import CLOSED, family_of
from winning_tickets.probe.model.family import ProbeError, find_layers
from winning_tickets.probe.model.transformer import KINDS, is_known, unnumbered
from winning_tickets.probe.sampling.watch import last_trace, watched
from winning_tickets.show.trace import shown, stretched

PROMPT = "an old lighthouse by the sea and a (red fire hydrant:1.3), oil painting"
NAMES = ["lighthouse", "red fire hydrant"]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture
def model(family: Family) -> Any:
    return family.model()


@pytest.fixture
def prompt(family: Family) -> PromptTokens:
    return find_phrases(family.clip(), PROMPT, NAMES)


@pytest.fixture
def noise(family: Family) -> torch.Tensor:
    return torch.randn((2, *family.latent), generator=torch.Generator().manual_seed(3))


def evaluate(model: Any, prompts: Sequence[PromptTokens], noise: torch.Tensor) -> torch.Tensor:
    """The prediction of a first step, the mean over the prompts."""
    guider = SideBySide(model)
    guider.inner_set_conds({"positive": [entry for p in prompts for entry in p.conditioning]})
    return _sample(guider, noise)


def _sample(guider: Any, noise: torch.Tensor, sigma: float | None = None) -> torch.Tensor:
    most = float(guider.model_patcher.get_model_object("model_sampling").sigma_max)
    sigmas = torch.tensor([0.9 * most if sigma is None else sigma, 0.0])
    with torch.inference_mode():
        nothing = torch.zeros_like(noise)
        return guider.sample(noise, nothing, FirstStep(), sigmas, disable_pbar=True, seed=0)


def read(
    model: Any,
    prompts: Sequence[PromptTokens],
    noise: torch.Tensor,
    layers: str = "",
    stop: bool = False,
    joint: bool = True,
    sigma: float | None = None,
) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor, list[str]]:
    """Of each prompt the maps by layer; the prediction; and what was refused."""
    family = family_of(model, joint)
    chosen = find_layers(family, layers) if layers else family.layers
    reader = Reader(family, chosen, len(noise), *noise.shape[-2:], stop=stop)
    guider = SideBySide(reader.attach(model))
    guider.inner_set_conds({"positive": [entry for p in prompts for entry in p.conditioning]})
    keys = [entry["uuid"] for entry in guider.original_conds["positive"]]
    reader.prompts = dict(zip(keys, prompts, strict=True))
    denoised = _sample(guider, noise, sigma)
    maps = [{str(layer): m for (key, layer), m in reader.maps.items() if key == own} for own in keys]
    return maps, denoised, reader.refused


def calls_of(model: Any, prompt: PromptTokens, noise: torch.Tensor) -> list[dict[str, Any]]:
    """What ComfyUI's attention function is given in a plain forward, call by call, all heads apart."""
    seen: list[dict[str, Any]] = []

    def look(function: Any, q: Any, k: Any, v: Any, heads: int, *more: Any, **named: Any) -> Any:
        apart = [t if t.dim() == 4 else t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k)]
        seen.append({"q": apart[0].double(), "k": apart[1].double()})
        return function(q, k, v, heads, *more, **named)

    clone = model.clone()
    clone.model_options["transformer_options"]["optimized_attention_override"] = look
    evaluate(clone, [prompt], noise)
    return seen


@pytest.mark.parametrize("joint", [True, False], ids=["all keys", "text only"])
def test_the_map_is_the_softmax_of_a_plain_forward(
    family: Family, model: Any, prompt: PromptTokens, noise: torch.Tensor, joint: bool
) -> None:
    """Of every layer, for two images of a latent of odd sides, against queries and keys seen otherwise."""
    rows, columns = -(-noise.shape[-2] // family.patch), -(-noise.shape[-1] // family.patch)
    image, text = rows * columns, family.tokens or prompt.length
    parts = family.sequence(text, image)
    starts = {name: sum(n for _, n in parts[:i]) for i, (name, _) in enumerate(parts)}
    queries = range(starts["image"], starts["image"] + image) if family.joint else range(image)
    first = starts["text"] if family.joint else 0
    lengths = (sum(n for _, n in parts),) * 2 if family.joint else (image, text)
    calls = [c for c in calls_of(model, prompt, noise) if (c["q"].shape[2], c["k"].shape[2]) == lengths]
    (found,), _, refused = read(model, [prompt], noise, joint=joint)
    assert not refused and tuple(found) == family.layers and len(calls) == len(family.layers)
    for call, layer in zip(calls, family.layers, strict=True):
        scores = call["q"][:, :, list(queries)] @ call["k"].transpose(-1, -2) / call["q"].shape[-1] ** 0.5
        if not joint:
            scores = scores[..., first : first + text]
        weights = scores.softmax(-1).mean(1)[..., 0 if not joint else first :][..., :text]
        expected = torch.stack(
            [
                torch.stack([weights[..., list(group)].mean(-1) for group in groups]).mean(0)
                for groups in prompt.groups
            ],
            1,
        )
        torch.testing.assert_close(
            found[layer].double(), expected.unflatten(-1, (rows, columns)), rtol=1e-4, atol=1e-8
        )
        assert float(found[layer].std()) > 0


def test_no_bit_changes_while_it_is_read(model: Any, prompt: PromptTokens, noise: torch.Tensor) -> None:
    plain = evaluate(model, [prompt], noise)
    _, watched, _ = read(model, [prompt], noise)
    assert torch.equal(watched, plain)


def test_an_early_stop_reads_the_same_and_leaves_nothing(
    family: Family, model: Any, prompt: PromptTokens, noise: torch.Tensor
) -> None:
    plain = evaluate(model, [prompt], noise)
    before = repr(model.model_options), repr(model.wrappers)
    layer = family.layers[len(family.layers) // 2]
    (whole,), _, _ = read(model, [prompt], noise, layer)
    (stopped,), denoised, refused = read(model, [prompt], noise, layer, stop=True)
    assert not refused and list(stopped) == [layer]
    assert torch.equal(denoised, model.model.process_latent_out(torch.zeros_like(noise))), "it was ended"
    assert torch.equal(stopped[layer], whole[layer])
    assert torch.equal(evaluate(model, [prompt], noise), plain)
    assert (repr(model.model_options), repr(model.wrappers)) == before


def test_prompts_of_unequal_length_agree_with_each_alone(
    family: Family, model: Any, prompt: PromptTokens, noise: torch.Tensor
) -> None:
    long = find_phrases(family.clip(), "very " * prompt.length + "big lighthouse", ["lighthouse"])
    assert long.length > prompt.length
    together, _, refused = read(model, [prompt, long], noise)
    assert not refused
    for one, found in zip((prompt, long), together, strict=True):
        (alone,), _, _ = read(model, [one], noise)
        (first,), _, _ = read(model, [one], noise[:1])
        for layer, maps in alone.items():
            torch.testing.assert_close(found[layer], maps, rtol=1e-4, atol=1e-8)
            torch.testing.assert_close(first[layer], maps[:1], rtol=1e-4, atol=1e-8)


def test_an_override_and_a_block_replaced_before_do_their_work(
    family: Family, model: Any, prompt: PromptTokens, noise: torch.Tensor
) -> None:
    seen: list[str] = []

    def halved(function: Any, q: Any, *more: Any, **named: Any) -> Any:
        seen.append("override")
        return function(q / 2, *more, **named)

    def block(arguments: Any, more: Any) -> Any:
        seen.append("block")
        out = more["original_block"](arguments)
        return {**out, "img": out["img"] * 1.5}

    patched = model.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = halved
    if family.replaced:
        patched.set_model_patch_replace(block, "dit", family.replaced, 1)
    expected, times = evaluate(patched, [prompt], noise), list(seen)
    seen.clear()
    (maps,), denoised, refused = read(patched, [prompt], noise)
    assert torch.equal(denoised, expected) and seen == times and "override" in seen
    assert not refused and tuple(maps) == family.layers
    assert ("block" in seen) == bool(family.replaced)
    assert not torch.equal(expected, evaluate(model, [prompt], noise))


@pytest.mark.parametrize("stop", [True, False])
def test_attention_that_is_not_the_images_own_is_refused(
    family: Family, model: Any, prompt: PromptTokens, noise: torch.Tensor, stop: bool
) -> None:
    """Rows, grid and text of the forward: another number of any of them is no map of this image."""

    def doubled(executor: Any, x: Any, *rest: Any, **named: Any) -> Any:
        def twice(value: Any) -> Any:
            rows = torch.is_tensor(value) and value.dim() > 0 and len(value) == len(x)
            return torch.cat([value, value]) if rows else value

        more = {name: twice(value) for name, value in named.items()}
        return executor(twice(x), *map(twice, rest), **more)[: len(x)]

    def cropped(executor: Any, x: Any, t: Any, *rest: Any, **named: Any) -> Any:
        part = executor(x[..., :-2], t, *rest, **named)
        return torch.cat([part, x[..., -2:]], -1)

    def spoken(executor: Any, x: Any, t: Any, concat: Any, context: Any, *rest: Any, **named: Any) -> Any:
        return executor(x, t, concat, context.flip(1), *rest, **named)

    height, width = noise.shape[-2:]
    for change, why in (
        (doubled, "rows"),
        (cropped, f"pieces of {height}x{width - 2} of the {height}x{width}"),
        (spoken, "changes the prompt"),
    ):
        changed = model.clone()
        kind = comfy.patcher_extension.WrappersMP.APPLY_MODEL
        changed.add_wrapper_with_key(kind, "other", change)
        maps, _, refused = read(changed, [prompt], noise, stop=stop)
        assert maps == [{}] and any(why in one for one in refused), refused


def given(prompt: PromptTokens, **more: Any) -> PromptTokens:
    """The prompt, and what else its conditioning holds."""
    return replace(
        prompt, conditioning=[[context, {**about, **more}] for context, about in prompt.conditioning]
    )


def test_a_cell_is_where_its_pixels_are(
    family: Family, model: Any, prompt: PromptTokens, noise: torch.Tensor
) -> None:
    """Another noise in one place changes most the cell above it; also in the row and column that are half."""
    first = family.layers[0]
    (before,), _, _ = read(model, [prompt], noise, first, stop=True, joint=False)
    for row, column in ((4, 5), (noise.shape[-2] - 1, noise.shape[-1] - 1)):
        other = noise.clone()
        other[..., row, column] += 10
        (after,), _, _ = read(model, [prompt], other, first, stop=True, joint=False)
        for image in (after[first] - before[first]).abs().sum(1):
            most = divmod(int(image.argmax()), image.shape[1])
            assert most == (row // family.patch, column // family.patch)


@pytest.mark.parametrize("name", ["Qwen-Image", "Flux.1", "Flux.2 Klein", "Krea2"])
def test_images_that_the_prompt_refers_to_stand_beside(name: str) -> None:
    """Their tokens take part in the softmax, and are in no map."""
    family = FAMILIES[name]
    model, plain = family.model(), find_phrases(family.clip(), PROMPT, NAMES)
    noise = torch.randn((2, *family.latent))
    reference = torch.randn((1, *family.latent[:-2], 11, 17))
    # Krea2 takes none without being told how.
    how = {"reference_latents_method": "index"} if name == "Krea2" else {}
    prompt = given(plain, reference_latents=[reference, reference], **how)
    (found,), denoised, refused = read(model, [prompt], noise)
    assert not refused and torch.equal(denoised, evaluate(model, [prompt], noise))
    calls = calls_of(model, prompt, noise)
    references = 2 * -(-11 // family.patch) * -(-17 // family.patch)
    total = max(call["k"].shape[2] for call in calls)
    image = total - references - 70
    # Flux.2 has fill before the text, and Krea2 attention of the text alone.
    assert image >= prompt.length and (image == prompt.length or name == "Flux.2 Klein")
    calls = [call for call in calls if call["k"].shape[2] == total]
    for call, layer in zip(calls, family.layers, strict=True):
        queries, k = call["q"][:, :, image : image + 70], call["k"]
        k = k.repeat_interleave(queries.shape[1] // k.shape[1], 1)
        weights = (queries @ k.transpose(-1, -2) / call["q"].shape[-1] ** 0.5).softmax(-1).mean(1)
        weights = weights[..., image - prompt.length :]
        expected = torch.stack([weights[..., list(p)].mean(-1) for p in prompt.positions], 1)
        torch.testing.assert_close(found[layer].flatten(-2).double(), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize(("name", "kind"), [("Z-Image", "ref_latents"), ("Wan", "reference_latent")])
def test_images_that_cannot_be_told_apart_are_refused(name: str, kind: str, stop: bool) -> None:
    family = FAMILIES[name]
    model, plain = family.model(), find_phrases(family.clip(), PROMPT, NAMES)
    if name == "Wan":
        model = make_model(comfy.supported_models.WAN21_T2V, {**WAN, "in_dim_ref_conv": 16})
    # Wan's own forward fails where reference or image have odd sides.
    noise = torch.randn((2, *family.latent[:-2], 12, 16))
    prompt = given(plain, reference_latents=[torch.randn_like(noise[:1])])
    maps, _, refused = read(model, [prompt], noise, stop=stop)
    assert maps == [{}] and refused == [
        f"gives the model other images ({kind}), so that this one's tokens cannot be told apart"
    ]


def test_zeros_before_the_text_are_no_part_of_it() -> None:
    """Flux.2 fills shorter texts from the left, so that every token stands later than in its prompt."""
    family = FAMILIES["Flux.2 Klein"]
    model, noise = family.model(), torch.randn((2, *family.latent))
    prompt = PromptTokens("", ("one",), [[torch.randn(1, 40, 48), {}]], 40, ((3, 4),))
    (found,), _, refused = read(model, [prompt], noise)
    assert not refused
    for call, layer in zip(calls_of(model, prompt, noise), family.layers, strict=True):
        queries = call["q"][:, :, 512:]
        weights = (queries @ call["k"].transpose(-1, -2) / call["q"].shape[-1] ** 0.5).softmax(-1).mean(1)
        expected = weights[..., 512 - 40 + 3 : 512 - 40 + 5].mean(-1)
        torch.testing.assert_close(found[layer].flatten(1).double(), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("name", ["Wan", "Cosmos-Predict2"])
def test_as_many_tokens_as_cells_are_not_taken_for_the_image(name: str) -> None:
    """The image's attention to itself has then the same size."""
    family = FAMILIES[name]
    model, noise = family.model(), torch.randn((2, *family.latent))
    context = torch.randn(1, 70, 64)
    prompt = PromptTokens("", ("one",), [[context, {}]], 70, ((3, 4),))
    (found,), _, refused = read(model, [prompt], noise)
    assert not refused
    calls = calls_of(model, prompt, noise)
    assert len(calls) == 6 and {call["k"].shape[2] for call in calls} == {70}
    for call, layer in zip(calls[1::2], family.layers, strict=True):
        weights = (call["q"] @ call["k"].transpose(-1, -2) / call["q"].shape[-1] ** 0.5).softmax(-1).mean(1)
        expected = weights[..., 3:5].mean(-1)
        torch.testing.assert_close(found[layer].flatten(1).double(), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("tokens", [60, 70], ids=["fewer", "as many tokens as cells"])
@pytest.mark.parametrize("seen", [0, 20, 60, 70])
def test_the_text_is_told_from_what_clip_saw(tokens: int, seen: int) -> None:
    """The rule: the maps of Wan's models that make videos of images were those of the keys for CLIP's vision,
    which get the text's tokens where CLIP saw nothing."""
    model = make_model(comfy.supported_models.WAN21_I2V, WAN_I2V)
    noise, context = torch.randn((2, *FAMILIES["Wan"].latent)), torch.randn(1, tokens, 64)
    vision = SimpleNamespace(penultimate_hidden_states=torch.randn(1, seen, 1280))
    more = {"clip_vision_output": vision} if seen else {}
    prompt = PromptTokens("", ("one",), [[context, more]], tokens, ((3, 4),))
    (found,), _, refused = read(model, [prompt], noise)
    (stopped,), _, why = read(model, [prompt], noise, "block 1", stop=True)
    assert not refused and not why and torch.equal(stopped["block 1"], found["block 1"])
    calls = calls_of(model, prompt, noise)
    assert len(calls) == 9
    for call, layer in zip(calls[2::3], FAMILIES["Wan"].layers, strict=True):
        assert call["k"].shape[2] == tokens
        weights = (call["q"] @ call["k"].transpose(-1, -2) / call["q"].shape[-1] ** 0.5).softmax(-1).mean(1)
        expected = weights[..., 3:5].mean(-1)
        torch.testing.assert_close(found[layer].flatten(1).double(), expected, rtol=1e-4, atol=1e-8)


def test_tokens_that_the_model_masks_are_masked_in_the_map() -> None:
    family = FAMILIES["Qwen-Image"]
    model, plain = family.model(), find_phrases(family.clip(), PROMPT, NAMES)
    noise = torch.randn((2, *family.latent))
    mask = torch.ones(1, plain.length)
    hidden = plain.positions[0][-1]
    mask[:, hidden] = 0
    prompt = replace(given(plain, attention_mask=mask.long()), positions=((hidden,), plain.positions[1]))
    for joint in (True, False):
        (found,), _, refused = read(model, [prompt], noise, joint=joint)
        (unmasked,), _, _ = read(model, [replace(plain, positions=prompt.positions)], noise, joint=joint)
        assert not refused
        for layer in family.layers:
            assert not found[layer][:, 0].any() and found[layer][:, 1].all()
            assert unmasked[layer][:, 0].all()


@pytest.mark.parametrize("stop", [True, False])
def test_another_text_behind_a_wrapper_is_refused(
    family: Family, model: Any, prompt: PromptTokens, noise: torch.Tensor, stop: bool
) -> None:
    """What stands between ComfyUI's call and the model may change the text; SD3 has no such place."""

    def spoken(executor: Any, x: Any, t: Any, context: Any, *rest: Any, **named: Any) -> Any:
        return executor(x, t, context.flip(1), *rest, **named)

    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    changed = model.clone()
    changed.add_wrapper_with_key(kind, "other", spoken)
    if torch.equal(evaluate(changed, [prompt], noise), evaluate(model, [prompt], noise)):
        assert model.model.diffusion_model.__class__.__name__ == "OpenAISignatureMMDITWrapper"
        return
    maps, _, refused = read(changed, [prompt], noise, stop=stop)
    assert maps == [{}] and refused == [f"shows the attention another prompt at layer {family.layers[0]}"]


def more_text(arguments: Any, more: Any) -> Any:
    out = more["original_block"]({**arguments, "txt": torch.cat([arguments["txt"]] * 2, 1)})
    return {**out, "txt": None if out["txt"] is None else out["txt"][:, : arguments["txt"].shape[1]]}


def twice(arguments: Any, more: Any) -> Any:
    more["original_block"](arguments)
    return more["original_block"](arguments)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (more_text, "has 378 tokens attend to 378 instead of 224 to 224 at layer block 1"),
        (twice, "runs the attention more than once at layer block 1"),
        (lambda arguments, more: arguments, "leaves no attention to the prompt at layer block 1"),
    ],
)
def test_blocks_that_are_run_otherwise_are_refused(change: Any, why: str) -> None:
    family = FAMILIES["SD3"]
    model, prompt = family.model().clone(), find_phrases(family.clip(), PROMPT, NAMES)
    model.set_model_patch_replace(change, "dit", "double_block", 1)
    maps, _, refused = read(model, [prompt], torch.randn((2, *family.latent)))
    assert maps == [{}] and refused == [why]


def drawn(family: Family, model: Any, noise: torch.Tensor, positive: Any, steps: int = 2) -> torch.Tensor:
    """The stock KSampler's own path, guided."""
    clip = family.clip()
    negative = clip.encode_from_tokens_scheduled(clip.tokenize("blurry, bad"))
    with torch.inference_mode():
        return comfy.sample.sample(
            model,
            noise,
            steps,
            4.0,
            "euler",
            "simple",
            positive,
            negative,
            torch.zeros_like(noise),
            disable_pbar=True,
            seed=3,
        )


class TestAttentionOverSteps:
    def test_every_step_is_read_and_no_bit_changes(
        self, family: Family, model: Any, noise: torch.Tensor
    ) -> None:
        watching, positive = watched(model, family.clip(), PROMPT, "\n".join(NAMES))
        plain = drawn(family, model, noise, positive)
        assert torch.equal(drawn(family, watching, noise, positive), plain)
        trace = last_trace(watching)
        assert not trace.notes and trace.evaluations == 2
        rows, columns = (-(-side // family.patch) for side in noise.shape[-2:])
        assert trace.maps().shape == (2, 2, 2, rows, columns) and trace.maps().isfinite().all()
        assert float(trace.maps().std()) > 0 and float(trace.guidance().min()) > 0
        height, width = (side * family.pixels for side in noise.shape[-2:])
        seen = shown(trace, "", 2, noise.shape[-2:])
        assert seen.masks.shape == (2, height, width) and seen.report
        # Of cells that the image has a part of, it is shown that part.
        whole = rows * family.patch * family.pixels, columns * family.patch * family.pixels
        enlarged = torch.nn.functional.interpolate(trace.maps()[-1, 1][None], whole, mode="bilinear")
        assert torch.equal(seen.masks, stretched(enlarged[0, :, :height, :width]))

    def test_one_layer_is_the_readers(
        self, family: Family, model: Any, prompt: PromptTokens, noise: torch.Tensor
    ) -> None:
        """What the first step of a run is read as is what a first step alone is."""
        layer = family.layers[1]
        watching, positive = watched(model, family.clip(), PROMPT, "\n".join(NAMES), layer)
        drawn(family, watching, noise, positive)
        trace = last_trace(watching)
        (maps,), _, _ = read(model, [prompt], noise, layer, sigma=float(trace.sigmas[0]))
        torch.testing.assert_close(trace.maps()[0], maps[layer], rtol=1e-4, atol=1e-8)

    @pytest.mark.parametrize("name", ["SD3", "Flux.2 Klein", "Anima"])
    def test_another_prompt_is_explained(self, name: str) -> None:
        family = FAMILIES[name]
        clip, model, noise = family.clip(), family.model(), torch.randn((1, *family.latent))
        watching, _ = watched(model, clip, PROMPT, NAMES[0])
        other = clip.encode_from_tokens_scheduled(clip.tokenize("a lighthouse"))
        assert torch.equal(drawn(family, watching, noise, other), drawn(family, model, noise, other))
        (note,) = last_trace(watching).notes
        assert "No step has maps: no prompt of this run is the one" in note


@pytest.mark.parametrize("name", UNREADABLE)
def test_models_that_cannot_be_read_are_refused_by_name(name: str) -> None:
    """With the reason where it is known."""
    family = UNREADABLE[name]
    with pytest.raises(ProbeError, match=f"This model is {name}.* no patch can read it.*another kind"):
        family_of(family.model())
    with pytest.raises(ProbeError, match=f"This model is {name}.* no patch can read it.*With layer all"):
        watched(family.model(), family.clip(), "a cat", "cat", "block 0")


@pytest.mark.parametrize("name", [*KINDS, *CLOSED])
def test_the_classes_that_are_told_apart_are_comfyuis(name: str) -> None:
    if "krea2" in name:
        needs("0.27.0", name)
    module, _, kind = name.rpartition(".")
    assert getattr(importlib.import_module(module), kind).__module__ == module


def test_a_model_that_this_comfyui_is_too_old_for_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule: another patch was blamed where ComfyUI does not number a model's blocks yet."""
    dit = (FAMILIES | UNREADABLE)["Anima"].model().model.diffusion_model
    for version, old in (("0.24.1", True), ("0.29.9", True), ("0.30.0", False), ("0.31.0-dev", False)):
        monkeypatch.setattr("comfyui_version.__version__", version)
        why = unnumbered(dit)
        assert bool(why) is old and is_known(dit) is not old
        assert not old or why.startswith("This model is Anima: before 0.30.0 ComfyUI ") and version in why
    sd3 = FAMILIES["SD3"].model().model.diffusion_model
    monkeypatch.setattr("comfyui_version.__version__", "0.24.1")
    assert not unnumbered(sd3) and is_known(sd3)


def test_a_video_is_explained() -> None:
    family = FAMILIES["Wan"]
    model, noise = family.model(), torch.randn(1, 16, 3, 8, 8)
    watching, positive = watched(model, family.clip(), PROMPT, NAMES[0])
    assert torch.equal(drawn(family, watching, noise, positive), drawn(family, model, noise, positive))
    trace = last_trace(watching)
    assert "the latent is a video of 3 frames" in trace.notes[0] and float(trace.guidance().min()) > 0
    maps, _, refused = read(model, [find_phrases(family.clip(), PROMPT, NAMES)], noise)
    assert maps == [{}] and refused == ["runs the model on 3 frames instead of one image"]
    other = family.clip().encode_from_tokens_scheduled(family.clip().tokenize("a lighthouse"))
    drawn(family, watching, noise, other)
    assert last_trace(watching).notes == trace.notes, "another prompt would not help"


def test_letters_between_text_and_image_are_counted() -> None:
    """HunyuanImage reads what is in quotation marks a second time."""
    family = FAMILIES["HunyuanImage"]
    model, clip, noise = family.model(), family.clip(), torch.randn((2, *family.latent))
    prompt = find_phrases(clip, 'a sign that says "stop" by the sea', ["sign", "stop", "sea"])
    assert "conditioning_byt5small" in prompt.conditioning[0][1]
    (found,), _, refused = read(model, [prompt], noise)
    assert not refused and tuple(found) == family.layers
    calls = [c for c in calls_of(model, prompt, noise) if c["k"].shape[2] > prompt.length + 70]
    for call, layer in zip(calls, family.layers, strict=True):
        queries = call["q"][:, :, -70:]
        weights = (queries @ call["k"].transpose(-1, -2) / call["q"].shape[-1] ** 0.5).softmax(-1).mean(1)
        expected = torch.stack([weights[..., list(p)].mean(-1) for p in prompt.positions], 1)
        torch.testing.assert_close(found[layer].flatten(-2).double(), expected, rtol=1e-4, atol=1e-8)


def test_a_compiled_transformer_is_watched_too() -> None:
    """As TorchCompileModel does it; the backend runs the graph as it is."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    family = FAMILIES["Flux.1"]
    model, noise = family.model(), torch.randn((1, *family.latent))
    compiled = model.clone()
    set_torch_compile_wrapper(model=compiled, backend="eager")
    watching, positive = watched(compiled, family.clip(), PROMPT, NAMES[0])
    plain = drawn(family, model, noise, positive, 2)
    torch.testing.assert_close(drawn(family, watching, noise, positive, 2), plain, rtol=0, atol=0)
    assert float(last_trace(watching).maps().std()) > 0


@pytest.mark.parametrize(
    ("name", "kind", "settings"), [("Qwen-Image", "QwenImage", QWEN), ("Wan", "WAN21_T2V", WAN)]
)
def test_models_in_half_precision_are_read(name: str, kind: str, settings: dict[str, Any]) -> None:
    """The text is compared as the model is given it, behind a wrapper that changes nothing."""
    family = FAMILIES[name]
    model = make_model(getattr(comfy.supported_models, kind), settings, torch.bfloat16)
    wrapper = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    model.add_wrapper_with_key(wrapper, "other", lambda executor, *rest, **named: executor(*rest, **named))
    prompt, noise = find_phrases(family.clip(), PROMPT, NAMES), torch.randn((2, *family.latent))
    (found,), denoised, refused = read(model, [prompt], noise)
    assert not refused and torch.equal(denoised, evaluate(model, [prompt], noise))
    keys = prompt.length + (70 if family.joint else 0)
    calls = [call for call in calls_of(model, prompt, noise) if call["k"].shape[2] == keys]
    for call, layer in zip(calls, family.layers, strict=True):
        scores = call["q"][:, :, -70:] @ call["k"].transpose(-1, -2) / call["q"].shape[-1] ** 0.5
        weights = scores.softmax(-1).mean(1)
        expected = torch.stack([weights[..., list(p)].mean(-1) for p in prompt.positions], 1)
        torch.testing.assert_close(found[layer].flatten(-2).double(), expected, rtol=1e-4, atol=1e-8)


def in_a_file(name: str) -> Any:
    """A model whose sizes ComfyUI can tell from its weights."""
    if name == "SD3":
        # As many blocks as heads.
        wide = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 192}}
        sizes = {"depth": 3, "mlp_ratio": 4.0, "context_embedder_config": wide}
        return make_model(comfy.supported_models.SD3, {**SD3, **sizes})
    heads = {"hidden_size": 128, "num_heads": 1, "axes_dim": [16, 56, 56], "mlp_ratio": 4.0}
    return make_model(comfy.supported_models.Flux, {**FLUX, **heads})


@pytest.mark.parametrize("name", ["SD3", "Flux.1"])
def test_a_model_loaded_from_weights_alone_is_read(name: str) -> None:
    """As Load Diffusion Model detects it."""
    family, model = FAMILIES[name], in_a_file(name)
    weights = {key: value.clone() for key, value in model.model.diffusion_model.state_dict().items()}
    loaded = comfy.sd.load_diffusion_model_state_dict(weights)
    prompt = find_phrases(family.clip(), PROMPT, NAMES)
    noise = torch.randn((2, *family.latent))
    (expected,), denoised, _ = read(model, [prompt], noise)
    (found,), again, refused = read(loaded, [prompt], noise)
    assert not refused and tuple(found) == family.layers and torch.equal(again, denoised)
    assert all(torch.equal(found[layer], expected[layer]) for layer in family.layers)


class Largest(TorchDispatchMode):
    """How many values the largest tensor has that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        given = {part.untyped_storage()._cdata for part in args if torch.is_tensor(part)}
        if torch.is_tensor(made) and made.untyped_storage()._cdata not in given:
            self.values = max(self.values, made.numel())
        return made


@pytest.mark.parametrize(
    ("heads", "width", "text"), [(24, 64, 154), (24, 128, 512), (24, 128, 60)], ids=["SD3", "Flux", "Qwen"]
)
def test_all_keys_of_all_cells_are_never_held_at_once(heads: int, width: int, text: int) -> None:
    """At the sizes of 1024x1024 pixels, where all at once would be 450 million."""
    cells = 64 * 64
    sizes = (2, heads, cells + text, width)
    q, k = (torch.empty(sizes, dtype=torch.bfloat16, device="meta") for _ in range(2))
    with Largest() as largest:
        maps = token_attention(q[:, :, text:], k, heads, [[3, 4], [7]], text, slice(0, text))
    assert maps.shape == (2, 2, cells)
    assert largest.values <= heads * 128 * (cells + text) < 2**24


def core_nodes() -> dict[str, tuple[str, Any, bool]]:
    """ComfyUI's own patches for transformers: of which family, what of a MODEL, whether they skip steps."""
    from comfy_extras.nodes_cfg import CFGZeroStar
    from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
    from comfy_extras.nodes_nag import NAGuidance
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT, SkipLayerGuidanceDiTSimple

    cache = (1e9, 0.0, 1.0, False)
    return {
        "SkipLayerGuidanceDiT": (
            "SD3",
            lambda m: SkipLayerGuidanceDiT.execute(m, 3.0, 0.0, 1.0, "1", "0"),
            False,
        ),
        "SkipLayerGuidanceDiTSimple": (
            "Flux.1",
            lambda m: SkipLayerGuidanceDiTSimple.execute(m, 0.0, 1.0, "1", "0"),
            False,
        ),
        "NAGuidance": ("Flux.1", lambda m: NAGuidance.execute(m, 5.0, 0.5, 1.5), False),
        "CFGZeroStar": ("Wan", lambda m: CFGZeroStar.execute(m), False),
        "EasyCache": ("Qwen-Image", lambda m: EasyCacheNode.execute(m, *cache), True),
        "LazyCache": ("Lumina2", lambda m: LazyCacheNode.execute(m, *cache), True),
    }


@pytest.mark.parametrize("name", core_nodes())
@pytest.mark.parametrize("first", [True, False], ids=["patched first", "watched first"])
def test_beside_comfyuis_own_patches(name: str, first: bool) -> None:
    """The picture keeps its bits, and steps that were run are read as the model alone would read them."""
    where, patch, skips = core_nodes()[name]
    family = FAMILIES[where]
    clip, model, noise = family.clip(), family.model(), torch.randn((2, *family.latent))
    phrases = "\n".join(NAMES)
    patched = patch(model)[0]
    if first:
        watching, positive = watched(patched, clip, PROMPT, phrases)
    else:
        watching, positive = watched(model, clip, PROMPT, phrases)
        watching = patch(watching)[0]
    expected = drawn(family, patched, noise, positive, 4)
    assert not torch.equal(expected, drawn(family, model, noise, positive, 4))
    assert torch.equal(drawn(family, watching, noise, positive, 4), expected)
    trace = last_trace(watching)
    plain = read(model, [find_phrases(clip, PROMPT, NAMES)], noise, sigma=float(trace.sigmas[0]))[0][0]
    mean = torch.stack(list(plain.values())).mean(0)
    assert name == "NAGuidance" or torch.allclose(trace.maps()[0], mean, rtol=1e-3, atol=1e-6)
    read_steps = trace.maps().isfinite().all(-1).all(-1).all(-1).all(-1)
    assert bool(read_steps[0]) and bool(read_steps.all()) != skips
    assert bool(trace.notes) == skips
