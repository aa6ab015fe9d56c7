"""Where phrases stand among the tokens, with every CLIP: L, G, H, and SDXL's L and G together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_patcher
import comfy.supported_models
import pytest
import torch
from safetensors.torch import save_file
from winning_tickets.probe.attention.tokens import encode_prompt, find_phrases, read_text
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.collect.keep import collect_and_keep
from winning_tickets.probe.model.family import ProbeError
from winning_tickets.probe.model.unet import UNet
from winning_tickets.probe.sampling.watch import watched
from winning_tickets.tickets.prompts import JOINT, Prompt, make_prompts

WIDTH = 32
HALF = WIDTH // 2
FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": WIDTH,
    "context_in_dim": WIDTH,
    "hidden_size": WIDTH,
    "mlp_ratio": 4.0,
    "num_heads": 2,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [4, 6, 6],
    "txt_ids_dims": [],
    "theta": 10_000,
    "qkv_bias": True,
    "guidance_embed": False,
}
SD3 = {
    "input_size": None,
    "in_channels": 16,
    "depth": 2,
    "patch_size": 2,
    "adm_in_channels": WIDTH,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": WIDTH, "out_features": 128},
    },
    "num_patches": 64,
    "pos_embed_max_size": 8,
    "pos_embed_scaling_factor": None,
}


@pytest.fixture(params=["L", "H", "L and G"])
def each(request: pytest.FixtureRequest, make_clip: Callable[..., Any]) -> Any:
    return make_clip(request.param)


def teach(
    clip: Any, folder: Path, name: str, vectors: int | dict[str, torch.Tensor], width: int = HALF
) -> None:
    """An embedding in a folder of its own, found by all of a CLIP's tokenizers."""
    if isinstance(vectors, int):
        vectors = {
            "emb_params": torch.randn(vectors, width, generator=torch.Generator().manual_seed(vectors))
        }
    (folder / name).parent.mkdir(exist_ok=True)
    save_file(vectors, folder / f"{name}.safetensors")
    for part in ("clip_l", "clip_g", "clip_h"):
        if tokenizer := getattr(clip.tokenizer, part, None):
            tokenizer.embedding_directory = [str(folder)]


def prompt_of(*names: str, template: str = "{}") -> Prompt:
    (prompt,) = make_prompts(names, JOINT, template)
    return prompt


@pytest.mark.parametrize("name", ["L", "H", "L and G"])
def test_every_token_of_a_phrase_is_found(make_clip: Callable[..., Any], name: str) -> None:
    clip = make_clip(name)
    (prompt,) = make_prompts(("fire hydrant", "a red car, parked"), template="a photo of {} at night")
    assert prompt.text == "a photo of a fire hydrant and a red car, parked at night"
    encoded = encode_prompt(clip, prompt)
    assert encoded.positions == ((5, 6, 7), (9, 10, 11, 12, 13)) and encoded.length == 77


def test_tickets_are_collected_on_sdxl(sdxl: Any, make_clip: Callable[..., Any]) -> None:
    request = CollectRequest(("cat", "fire hydrant", "tree"), 2, 5, 128, 192, "input 3")
    bank = collect(sdxl, make_clip("L and G"), request)
    r = bank.recipe
    assert (r.model, r.block, r.grid) == ("SDXL", 2, (12, 8))
    assert r.latent_scale == comfy.latent_formats.SDXL().scale_factor
    assert float(bank.attention.min()) > 0 and float(bank.attention.max()) < 1
    assert float(bank.score("cat", "tree").std()) > 0


@pytest.mark.parametrize(
    ("family", "settings"), [(comfy.supported_models.Flux, FLUX), (comfy.supported_models.SD3, SD3)]
)
def test_models_without_unet_are_refused_by_their_name(family: Any, settings: Any) -> None:
    config = family(settings)
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    model = config.get_model({}, "", device=cpu)
    patcher = comfy.model_patcher.CoreModelPatcher(model, load_device=cpu, offload_device=cpu)
    with pytest.raises(ProbeError, match=f"is {family.__name__}, .* has no UNet .* SD1.x, SD2.x and SDXL"):
        UNet(patcher)


def test_an_encoder_that_is_no_clip_is_refused_by_its_name(t5: Any) -> None:
    with pytest.raises(ProbeError, match=r"encoder \(t5xxl\) is not CLIP alone"):
        read_text(t5, "a cat")


def test_an_embedding_is_a_phrase_of_as_many_tokens_as_it_has_vectors(each: Any, tmp_path: Path) -> None:
    """Rule: positions hold for every prompt that ComfyUI encodes, embeddings included.

    A category that was one ended in a RuntimeError."""
    teach(each, tmp_path, "Statue", 3)
    encoded = encode_prompt(each, prompt_of("embedding:Statue", "fire hydrant", template="a photo of {}"))
    assert encoded.text == "a photo of a embedding:Statue and a fire hydrant"
    assert encoded.names == ("embedding:Statue", "fire hydrant")
    assert encoded.positions == ((5, 6, 7), (10, 11, 12))
    assert find_phrases(each, encoded.text, encoded.names).positions == encoded.positions
    # The vectors are what the text model is given at these positions, weights and commas or not.
    found = find_phrases(each, "castle, (embedding:Statue:1.2), tree", ["tree", "embedding:Statue", "castle"])
    assert found.positions == ((7,), (3, 4, 5), (1,))


def test_the_read_positions_are_the_ones_that_the_phrase_changes(each: Any, tmp_path: Path) -> None:
    """In the context itself: nothing before a phrase's first token depends on it, that token does."""
    teach(each, tmp_path, "Statue", 2)
    teach(each, tmp_path, "Other", 2, HALF)
    for text, other in (
        ("a castle and a embedding:Statue, red", "a castle and a stone and, red"),
        ("a (red castle:1.3) of \\(old\\) stone", "a (red tree:1.3) of \\(old\\) stone"),
    ):
        phrase = "embedding:Statue" if "embedding" in text else "castle"
        (places,) = find_phrases(each, text, [phrase]).positions
        a, b = (each.encode_from_tokens_scheduled(each.tokenize(t))[0][0] for t in (text, other))
        assert torch.allclose(a[:, : places[0]], b[:, : places[0]], atol=1e-5)
        assert not torch.allclose(a[:, places[0]], b[:, places[0]], atol=1e-3)


def test_embeddings_of_both_encoders_may_differ_in_their_values_only(
    make_clip: Callable[..., Any], tmp_path: Path
) -> None:
    clip = make_clip("L and G")
    both = {"clip_l": torch.randn(2, HALF), "clip_g": torch.randn(2, HALF)}
    teach(clip, tmp_path, "style/Both", both)
    assert encode_prompt(clip, prompt_of("embedding:style/Both", "tree")).positions == ((2, 3), (6,))
    uneven = {"clip_l": torch.randn(2, HALF), "clip_g": torch.randn(3, HALF)}
    teach(clip, tmp_path, "Uneven", uneven)
    with pytest.raises(ProbeError, match='place "tree" differently in .*: they split it differently'):
        find_phrases(clip, "embedding:Uneven and a tree", ["tree"])
    assert find_phrases(clip, "a tree, embedding:Uneven", ["tree"]).positions == ((2,),)


def test_an_embedding_that_one_encoder_leaves_out_is_named_with_the_reason(
    make_clip: Callable[..., Any], tmp_path: Path
) -> None:
    """Rule: SDXL's two encoders are not taken to agree. ComfyUI drops vectors of another width from one of
    them, and all that follows is one place further to the left there."""
    clip = make_clip("L and G")
    teach(clip, tmp_path, "Old", {"clip_l": torch.randn(1, HALF), "clip_g": torch.randn(1, 48)})
    with pytest.raises(
        ProbeError, match='^"embedding:Old" .*have 48 values, those of CLIP-G 16, .*leaves them'
    ):
        encode_prompt(clip, prompt_of("tree", "embedding:Old"))
    with pytest.raises(
        ProbeError, match='place "tree" differently .*CLIP-G leaves out .* 48 values instead of 16'
    ):
        find_phrases(clip, "embedding:Old and a tree", ["tree"])
    # What stands before it does so in both.
    assert find_phrases(clip, "a tree, embedding:Old", ["tree"]).positions == ((2,),)


def test_what_a_tokenizer_splits_for_an_encoder_that_is_not_there_does_not_count(
    make_clip: Callable[..., Any], tmp_path: Path
) -> None:
    """SDXL's refiner tokenizes for CLIP-L, too, and has CLIP-G alone."""
    clip = make_clip("G")
    teach(clip, tmp_path, "Refined", {"clip_g": torch.randn(2, HALF), "clip_l": torch.randn(1, 48)})
    encoded = encode_prompt(clip, prompt_of("embedding:Refined", "tree", template="embedding:Refined, {}"))
    assert encoded.positions == ((5, 6), (9,)) and encoded.conditioning[0][0].shape[-1] == HALF


def test_an_embedding_that_no_encoder_can_use_moves_nothing(each: Any, tmp_path: Path) -> None:
    """ComfyUI leaves it out and pads at the end: what follows stands where it would without."""
    teach(each, tmp_path, "Wide", 4, 48)
    assert find_phrases(each, "embedding:Wide and a tree", ["tree"]).positions == ((3,),)
    with pytest.raises(ProbeError, match='^"embedding:Wide" is an embedding for another model'):
        encode_prompt(each, prompt_of("embedding:Wide", "tree"))


@pytest.mark.parametrize("name", ["embedding:Nobody", "(embedding:Nobody:1.2)", "red embedding:Nobody"])
def test_an_embedding_that_is_not_there_is_named(each: Any, tmp_path: Path, name: str) -> None:
    teach(each, tmp_path, "Statue", 1)
    for read in (
        lambda: encode_prompt(each, prompt_of(name, "tree")),
        lambda: find_phrases(each, f"{name} and a tree", [name]),
    ):
        with pytest.raises(ProbeError, match='^"embedding:Nobody" cannot be loaded: check .*lower case'):
            read()


@pytest.mark.parametrize(
    ("text", "phrase", "positions"),
    [
        ("a (red:1.3) (cat:0.8), [old]", "red cat", (2, 3)),
        ("a (red cat:1.3), old", "(red:0.5) cat", (2, 3)),
        ("a cat \\(animal\\), tree", "cat \\(animal\\)", (2, 3, 4)),
        ("a cat \\(animal\\) and tree", "cat (animal)", (2, 3, 4, 5)),
        ("A CASTLE, Tree", "castle.", (2,)),
        ("a castle's tower!", "tower", (4,)),
        ("a caf\u00e9, a tree", "Caf\u00c9", (2,)),
        ("a \u732b and a \u72ac", "\u72ac", None),
        ("cat BREAK dog", "dog", (3,)),
        ("a cat and a dog and a cat", "cat", (2, 8)),
    ],
)
def test_a_phrase_is_found_however_it_is_written(
    each: Any, text: str, phrase: str, positions: tuple[int, ...] | None
) -> None:
    """Rule: weights, parentheses, case and punctuation around a phrase are no part of it."""
    (found,) = find_phrases(each, text, [phrase]).positions
    assert found if positions is None else found == positions


@pytest.mark.parametrize(
    "template", ["a (photo of {}:1.2), night", "(({}))", "a cat drawing of {}s!", "#{}."]
)
def test_a_category_is_found_in_any_template(each: Any, template: str) -> None:
    """Rule: what surrounds a category in the template does not decide whether it is found.

    An open parenthesis before it was counted as a word."""
    encoded = encode_prompt(each, prompt_of("red cat", "cat", template=template))
    words = each.tokenizer.untokenize(next(iter(each.tokenize(encoded.text).values()))[0])
    shown = ["".join(words[p][1] for p in places).replace("</w>", " ") for places in encoded.positions]
    assert [s.strip(" s!.#)") for s in shown] == ["red cat", "cat"]


def test_a_category_is_read_in_any_chunk_and_refused_where_it_is_cut(each: Any) -> None:
    """Rule: 77 tokens are not taken for granted: a prompt of several chunks is read like any other."""
    for words, places in ((10, (12, 13, 14)), (80, (84, 85, 86)), (160, (166, 167, 168))):
        encoded = encode_prompt(each, prompt_of("fire hydrant", template="very " * words + "{}, at night"))
        assert encoded.positions == (places,) and encoded.length == 77 * (1 + words // 75)
    with pytest.raises(ProbeError, match='^"fire hydrant" does not fit: it is cut in two.* 75 tokens'):
        encode_prompt(each, prompt_of("fire hydrant", template="very " * 72 + "{}"))


def test_chunks_have_the_length_that_the_tokenizer_gives_them(make_clip: Callable[..., Any]) -> None:
    """Rule: as above, for text encoders that read more at once, such as LongCLIP's 248 tokens, or fewer."""
    prompt = "very " * 80 + "big fire hydrant"
    for size, length, places in ((248, 248, (82, 83, 84)), (20, 100, (90, 91, 92))):
        encoded = find_phrases(make_clip("L", l=size), prompt, ["fire hydrant"])
        assert encoded.positions == (places,)
        assert encoded.length == encoded.conditioning[0][0].shape[1] == length


def test_two_encoders_with_chunks_of_different_length_are_compared(make_clip: Callable[..., Any]) -> None:
    """LongCLIP beside CLIP-G: ComfyUI cuts the longer context, and a long prompt is split by one of them."""
    clip = make_clip("L and G", l=248)
    short = find_phrases(clip, "a fire hydrant", ["fire hydrant"])
    assert short.positions == ((2, 3, 4),) and short.length == short.conditioning[0][0].shape[1] == 77
    with pytest.raises(ProbeError, match='place "fire hydrant" differently in .*: they split it differently'):
        find_phrases(clip, "very " * 80 + "big fire hydrant", ["fire hydrant"])
    early = find_phrases(clip, "fire hydrant " + "very " * 80, ["fire hydrant"])
    assert early.positions == ((1, 2, 3),) and early.length == early.conditioning[0][0].shape[1] == 154


def test_a_clip_whose_encoding_was_changed_is_refused(clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = clip.encode_from_tokens_scheduled

    def doubled(*args: Any, **kwargs: Any) -> Any:
        return [[torch.cat([context, context], 1), more] for context, more in plain(*args, **kwargs)]

    monkeypatch.setattr(clip, "encode_from_tokens_scheduled", doubled)
    with pytest.raises(ProbeError, match='"a cat" was encoded to 154 tokens, not 77: a node has changed'):
        find_phrases(clip, "a cat", ["cat"])


def test_tickets_of_an_embedding_are_collected(
    model: Any, make_clip: Callable[..., Any], tmp_path: Path
) -> None:
    clip = make_clip("L and G")
    teach(clip, tmp_path, "Statue", 2)
    bank = collect(model, clip, CollectRequest(("embedding:Statue", "tree"), 2, 5, 152, 104, "input 3"))
    assert bank.categories == ("embedding:Statue", "tree")
    assert float(bank.score("embedding:Statue", "tree").std()) > 0


@pytest.mark.parametrize("layer", ["input 3", "auto"])
def test_a_missing_clip_or_one_of_another_model_is_named(
    model: Any, make_clip: Callable[..., Any], layer: str
) -> None:
    """Rule: no error of a matrix product; SD2's CLIP on SD1.x gave one."""
    for clip, why in ((make_clip("H"), "tokens have 16 values, and this model takes 32"), (None, "is empty")):
        with pytest.raises(ProbeError, match=why):
            collect_and_keep(model, clip, CollectRequest(("cat", "tree"), 2, 5, 152, 104, layer))
        with pytest.raises(ProbeError, match=why):
            watched(model, clip, "a cat", "cat")


def test_a_clip_whose_hooks_change_over_time_is_read_as_the_first_step_sees_it(model: Any, clip: Any) -> None:
    """Rule: a prompt may have a form for each part of the steps; two of them ended in a zip() error."""
    import comfy.hooks
    from comfy_extras.nodes_hooks import SetClipHooks

    key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1"
    weight = dict(clip.cond_stage_model.named_parameters())[f"{key}.weight"]
    torch.manual_seed(0)
    lora = {
        f"text_encoders.{key}.lora_up.weight": torch.randn(weight.shape[0], 2),
        f"text_encoders.{key}.lora_down.weight": torch.randn(2, weight.shape[1]),
    }

    def hooked(*later: float) -> Any:
        frames = comfy.hooks.HookKeyframeGroup()
        for start, strength in enumerate((1.0, *later)):
            frames.add(comfy.hooks.HookKeyframe(strength=strength, start_percent=start / 2))
        hooks = comfy.hooks.create_hook_lora(lora, 0.0, 1.0)
        hooks.set_keyframes_on_hooks(frames)
        return SetClipHooks().apply_hooks(clip, True, True, hooks)[0]

    request = CollectRequest(("cat", "tree"), 2, 5, 152, 104, "input 3")
    changing, steady, plain = (collect(model, c, request).attention for c in (hooked(0.2), hooked(), clip))
    assert torch.equal(changing, steady) and not torch.equal(steady, plain)
