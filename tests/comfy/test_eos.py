"""Swap End Tokens with every CLIP: what is replaced by what, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.sample
import pytest
import torch
from safetensors.torch import save_file
from tiny import FAMILIES, UNREADABLE
from winning_tickets.probe.attention.tokens import find_phrases
from winning_tickets.probe.sampling.eos import EosError, read_ends, swap_eos

WIDTH = 32
LONG = "very " * 80 + "big castle"


def encoded(clip: Any, text: str) -> tuple[torch.Tensor, Any]:
    ((context, more),) = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return context, more["pooled_output"]


@pytest.fixture(params=["L", "H", "L and G"])
def each(request: pytest.FixtureRequest, make_clip: Callable[[str], Any]) -> Any:
    return make_clip(request.param)


def test_words_stay_and_eos_and_padding_come_from_the_other_prompt(each: Any) -> None:
    (words, _), (ends, pooled) = encoded(each, "a big castle"), encoded(each, "a tree")
    (changed,), _ = swap_eos(each, "a big castle", "a tree")
    assert torch.equal(changed[0][:, :4], words[:, :4])
    # The other's EOS comes first, its last padding fills up.
    assert torch.equal(changed[0][:, 4:77], ends[:, 3:76])
    assert pooled is None or torch.equal(changed[1]["pooled_output"], pooled)


def test_a_shorter_end_is_filled_with_its_last_token(each: Any) -> None:
    ends, _ = encoded(each, "a big old castle")
    (changed,), _ = swap_eos(each, "tree", "a big old castle")
    assert torch.equal(changed[0][:, 2:74], ends[:, 5:])
    assert torch.equal(changed[0][:, 74:], ends[:, -1:].expand(-1, 3, -1))


def test_a_prompt_with_its_own_eos_is_itself(each: Any) -> None:
    (changed,), _ = swap_eos(each, "a (castle:1.3)", "a (castle:1.3)")
    assert torch.equal(changed[0], encoded(each, "a (castle:1.3)")[0])


def test_weights_stay_with_the_words(each: Any) -> None:
    heavy, _ = encoded(each, "a (castle:1.5)")
    (changed,), _ = swap_eos(each, "a (castle:1.5)", "a tree")
    assert torch.equal(changed[0][:, 2], heavy[:, 2])
    assert not torch.equal(changed[0][:, 2], encoded(each, "a castle")[0][:, 2])


def test_blend_and_zero(each: Any) -> None:
    words, pooled = encoded(each, "a castle")
    ends, _ = encoded(each, "a tree")
    (half,), told = swap_eos(each, "a castle", "a tree", "blend", 0.25)
    assert torch.allclose(half[0][:, 3:], 0.75 * words[:, 3:] + 0.25 * ends[:, 3:], atol=1e-6)
    assert "blended by 0.25" in told
    (none,), told = swap_eos(each, "a castle", "", "zero")
    assert torch.equal(none[0][:, :3], words[:, :3]) and not none[0][:, 3:].any()
    assert pooled is None or not none[1]["pooled_output"].any()
    assert "replaced by zeros" in told
    (nothing,), _ = swap_eos(each, "a castle", "a tree", "blend", 0.0)
    assert torch.equal(nothing[0], words)


def test_every_chunk_of_a_long_prompt_has_its_end_replaced(each: Any) -> None:
    words, _ = encoded(each, LONG)
    ends, _ = encoded(each, "a tree")
    (changed,), told = swap_eos(each, LONG, "a tree")
    assert changed[0].shape[1] == words.shape[1] == 154
    assert torch.equal(changed[0][:, :76], words[:, :76]) and torch.equal(changed[0][:, 76], ends[:, 3])
    assert torch.equal(changed[0][:, 77:85], words[:, 77:85])
    assert torch.equal(changed[0][:, 85:], ends[:, 3:72])
    assert "have 2 and 1 chunks" in told


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("L", ""),
        ("H", "CLIP-H pads"),
        ("G", "CLIP-G pads with another token than EOS: the context"),
        ("L and G", "CLIP-G pads with another token"),
    ],
)
def test_it_says_which_encoder_does_not_pad_with_eos(
    make_clip: Callable[[str], Any], name: str, told: str
) -> None:
    _, report = swap_eos(make_clip(name), "a castle", "a tree")
    assert told in report and ("pads" in report) == bool(told)
    assert ("half of the context" in report) == (name == "L and G")


def test_a_range_of_steps(clip: Any, model: Any, encode: Any, latent: Any) -> None:
    """Outside of it the run is the plain prompt's, inside the swapped one's."""
    parts, _ = swap_eos(clip, "a castle", "a tree", start=0.3, end=0.6)
    assert [round(p[1].get("start_percent", 0), 2) for p in parts] == [0, 0.3, 0.6]
    seen: list[tuple[float, float]] = []
    plain, swapped = parts[0][0], parts[1][0]

    def look(args: dict[str, Any]) -> torch.Tensor:
        conds = [c for c in args["cond"]]
        sigma = args["sigma"]
        sampling = args["model"].model_sampling
        alive = [
            c
            for c in conds
            if float(sigma[0]) <= c["timestep_start"] and float(sigma[0]) >= c["timestep_end"]
        ]
        assert len(alive) == 1
        own = alive[0]["cross_attn"]
        seen.append((float(sampling.timestep(sigma)[0]), float(torch.equal(own, swapped))))
        assert torch.equal(own, swapped) or torch.equal(own, plain)
        return args["denoised"]

    patched = model.clone()
    patched.set_model_sampler_post_cfg_function(look)
    noise = comfy.sample.prepare_noise(latent["samples"], 3)
    comfy.sample.sample(
        patched, noise, 10, 5.0, "euler", "normal", parts, encode(""), latent["samples"], disable_pbar=True
    )
    assert [bool(which) for _, which in seen] == [300 < 999 - t < 600 for t, _ in seen]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mode": "mix"}, "mode is 'mix'; choose one of swap, blend, zero"),
        ({"amount": 1.5}, "amount is 1.5; it must be between 0 and 1"),
        ({"start": 0.5, "end": 0.5}, "start is 0.5 and end 0.5; start must be below end"),
    ],
)
def test_settings_that_cannot_be_followed_are_explained(
    clip: Any, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(EosError, match=told):
        swap_eos(clip, "a castle", "a tree", **settings)


def test_a_chunk_may_have_any_length(make_clip: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule: 77 is not taken for granted; LongCLIP reads 248 tokens at once."""
    clip = make_clip("L", l=248)
    words, _ = encoded(clip, "a big castle")
    ends, _ = encoded(clip, "a tree")
    (changed,), told = swap_eos(clip, "a big castle", "a tree")
    assert torch.equal(changed[0][:, :4], words[:, :4]) and torch.equal(changed[0][:, 4:], ends[:, 3:247])
    assert "244 end tokens of 248" in told
    plain = clip.encode_from_tokens_scheduled
    monkeypatch.setattr(
        clip, "encode_from_tokens_scheduled", lambda *a, **k: [[c[:, :99], m] for c, m in plain(*a, **k)]
    )
    with pytest.raises(EosError, match="was encoded to 99 tokens, not 248: a node has changed") as error:
        swap_eos(clip, "a big castle", "a tree")
    assert "T5" not in str(error.value)


def test_an_embedding_that_one_encoder_leaves_out_leaves_no_common_eos(
    make_clip: Callable[..., Any], tmp_path: Path
) -> None:
    clip = make_clip("L and G")
    parts = {"clip_l": torch.randn(1, WIDTH // 2), "clip_g": torch.randn(1, 48)}
    save_file(parts, tmp_path / "old.safetensors")
    for tokenizer in (clip.tokenizer.clip_l, clip.tokenizer.clip_g):
        tokenizer.embedding_directory = [str(tmp_path)]
    with pytest.raises(EosError, match="its EOS has no common place: leave out the embedding"):
        swap_eos(clip, "a embedding:old castle", "a tree")


def test_other_encoders_are_refused_with_the_reason(t5: Any) -> None:
    with pytest.raises(EosError, match=r"\(t5xxl\) is not CLIP alone.*reads in both directions"):
        swap_eos(t5, "a castle", "a tree")


@pytest.mark.parametrize("name", FAMILIES | UNREADABLE)
def test_the_text_encoders_of_transformers_are_refused_with_the_reason(name: str) -> None:
    clip = (FAMILIES | UNREADABLE)[name].clip()
    with pytest.raises(
        EosError, match="^Swap End Tokens: .* is not CLIP alone.* no token stands for the end"
    ):
        swap_eos(clip, "a castle", "a tree")


def test_embeddings_count_as_words(clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A textual inversion of three vectors takes three places, in both prompts."""
    vectors = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    save_file({"emb_params": vectors}, tmp_path / "thing.safetensors")
    tokenizer = clip.tokenizer.clip_l
    monkeypatch.setattr(tokenizer, "embedding_directory", [str(tmp_path)])
    monkeypatch.setattr(tokenizer, "embedding_size", WIDTH)
    text = "embedding:thing castle"
    assert read_ends(clip, text).spans == ((5, 77),)
    assert find_phrases(clip, text, ["castle"]).positions == ((4,),)
    words, _ = encoded(clip, text)
    ends, _ = encoded(clip, "a tree")
    (changed,), _ = swap_eos(clip, text, "a tree")
    assert torch.equal(changed[0][:, :5], words[:, :5]) and torch.equal(changed[0][:, 5:], ends[:, 3:75])
    (back,), _ = swap_eos(clip, "a tree", text)
    assert torch.equal(back[0][:, 3:75], words[:, 5:])
