"""Phrases are found among the tokens of T5 and of language models, with the tokenizers that ComfyUI ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny import (
    anima_clip,
    aura_clip,
    chroma_clip,
    cosmos_clip,
    flux_clip,
    hunyuan_clip,
    klein_clip,
    krea_clip,
    lumina_clip,
    qwen_clip,
    sd3_clip,
    wan_clip,
    z_clip,
)
from winning_tickets.probe.attention.tokens import encode_prompt, find_phrases
from winning_tickets.probe.model.family import ProbeError
from winning_tickets.probe.sampling.eos import EosError, swap_eos
from winning_tickets.tickets.prompts import Prompt

CLIPS = {
    "SD3": (sd3_clip, "t5xxl"),
    "SD3 without T5": (lambda: sd3_clip(t5=False), ""),
    "SD3 without CLIP": (lambda: sd3_clip(clip_l=False, clip_g=False), "t5xxl"),
    "Flux": (flux_clip, "t5xxl"),
    "Chroma": (chroma_clip, "t5xxl"),
    "Qwen-Image": (qwen_clip, "qwen25_7b"),
    "Z-Image": (z_clip, "qwen3_4b"),
    "Cosmos-Predict2": (cosmos_clip, "t5xxl"),
    "Anima": (anima_clip, "t5xxl"),
    "Flux.2 Klein": (klein_clip, "qwen3_4b"),
    "Krea2": (krea_clip, "qwen3vl_4b"),
    "HunyuanImage": (hunyuan_clip, "qwen25_7b"),
    "AuraFlow": (aura_clip, "pile_t5xl"),
    "Lumina2": (lumina_clip, "gemma2_2b"),
    "Wan": (wan_clip, "umt5xxl"),
}
PROMPTS = (
    ("a castle and a tree", ["castle", "tree"]),
    ("Castle", ["castle"]),
    ("an old red fire hydrant, a cat!", ["red fire hydrant", "cat"]),
    ("a cathedral, a cat and a second  cat's bowl", ["cat", "cathedral"]),
    ('a sign that says "STOP" beside a traffic-light', ["STOP", "traffic-light"]),
    ("a photo (35mm) of a caf\u00e9 in Z\u00fcrich\nat night", ["caf\u00e9", "Z\u00fcrich", "night"]),
    ("very " * 90 + "big lighthouse by the sea", ["big lighthouse", "sea"]),
    ("a (red:1.2) car, (a (blue) truck:0.8) and a \\(old\\) bus", ["car", "truck", "bus"]),
)


@pytest.fixture(params=CLIPS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def decoded(clip: Any, tokenizer: str, found: Any, text: str) -> list[list[str]]:
    """Of each phrase the words at its positions, apart for each group: what a person would read there."""
    result = []
    for groups in found.groups:
        read = []
        for group in groups:
            clips = group[0] < (found.parts[0] if found.parts else found.length)
            name = "l" if clips else tokenizer
            ids = [token for chunk in clip.tokenize(text)[name] for token, *_ in chunk]
            first = 0 if clips else found.parts[0]
            # What is left out of the context is left out at its beginning.
            dropped = 0 if clips else len(ids) + found.parts[0] - found.length
            inner = getattr(clip.tokenizer, "clip_l" if name == "l" else name, None)
            inner = inner or getattr(clip.tokenizer, clip.tokenizer.clip)
            words = inner.tokenizer.decode([ids[p - first + dropped] for p in group])
            read.append("".join(words.lower().split()))
        result.append(read)
    return result


@pytest.mark.parametrize(("text", "phrases"), PROMPTS, ids=[str(i) for i in range(len(PROMPTS))])
def test_positions_decode_to_the_phrase(name: str, text: str, phrases: list[str]) -> None:
    make, tokenizer = CLIPS[name]
    clip = make()
    found = find_phrases(clip, text, phrases)
    assert name == "Anima" or found.length == found.conditioning[0][0].shape[1]
    for phrase, groups in zip(phrases, decoded(clip, tokenizer, found, text), strict=True):
        wanted = "".join(phrase.lower().split())
        times = 2 if (phrase, text) == ("cat", PROMPTS[3][0]) else 1
        assert len(groups) == (2 if name == "SD3" else 1)
        for read in groups:
            assert read.strip("\u0120") == wanted * times, (phrase, read)


def test_the_context_changes_where_a_phrase_does(name: str) -> None:
    """A weight changes its own tokens alone; language models read from left to right."""
    clip = CLIPS[name][0]()
    weighted = not CLIPS[name][1].startswith("qwen")
    words = ("(stone:1.2)", "(stone:1.5)") if weighted else ("stone", "apple")
    phrases = ("stone", "stone") if weighted else words
    one, other = (
        find_phrases(clip, f"an old {word} by the sea", [phrase])
        for word, phrase in zip(words, phrases, strict=True)
    )
    assert one.positions == other.positions
    # Anima's model, not its text encoder, weighs what its adapter makes of T5's tokens.
    contexts = [p.conditioning[0][1].get("t5xxl_weights", p.conditioning[0][0][0]) for p in (one, other)]
    change = (contexts[0] - contexts[1]).reshape(one.length, -1).norm(dim=-1)
    changed = [int(place) for (place,) in (change > 1e-5).nonzero()]
    if weighted:
        assert tuple(changed) == one.positions[0]
    else:
        assert changed[0] == one.positions[0][0]


def test_a_prompts_own_phrases_are_where_they_are_found(name: str) -> None:
    text = "a photo of a fire hydrant and a red car, at night"
    places = [(text.index(p), text.index(p) + len(p)) for p in ("fire hydrant", "red car")]
    clip = CLIPS[name][0]()
    encoded = encode_prompt(clip, Prompt(text, tuple((i, *place) for i, place in enumerate(places))))
    found = find_phrases(clip, text, ["fire hydrant", "red car"])
    assert encoded.positions == found.positions and encoded.names == found.names
    assert encoded.groups == found.groups and encoded.length == found.length
    assert torch.equal(encoded.conditioning[0][0], found.conditioning[0][0])


@pytest.mark.parametrize("name", ["Qwen-Image", "Z-Image"])
def test_words_of_scripts_without_spaces_are_found(name: str) -> None:
    clip = CLIPS[name][0]()
    text = "\u4e00\u53ea\u732b\u548c\u4e00\u68f5\u5927\u6811\uff0c\u5728\u6d77\u8fb9"
    found = find_phrases(clip, text, ["\u732b", "\u5927\u6811"])
    assert decoded(clip, CLIPS[name][1], found, text) == [["\u732b"], ["\u5927\u6811"]]


def test_a_phrase_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ProbeError, match='"dog" is not in the prompt "a dogma": use its own words'):
        find_phrases(CLIPS[name][0](), "a dogma", ["dog"])


@pytest.mark.parametrize(("width", "vectors"), [(64, 3), (16, 3)])
def test_embeddings_move_the_words_behind_them(tmp_path: Path, width: int, vectors: int) -> None:
    """One that fits has a token for each vector; another is left out, as ComfyUI does."""
    clip = flux_clip()
    save_file({"emb_params": torch.randn(vectors, width)}, tmp_path / "statue.safetensors")
    text = "a embedding:statue and a stone house"
    clip.tokenizer.t5xxl.embedding_directory = [str(tmp_path)]
    try:
        found, tokens = find_phrases(clip, text, ["stone"]), clip.tokenize(text)["t5xxl"]
        if width == 64:
            assert find_phrases(clip, text, ["embedding:statue"]).positions == ((2, 3, 4),)
        else:
            with pytest.raises(ProbeError, match="t5xxl leaves the embedding out"):
                find_phrases(clip, text, ["embedding:statue"])
    finally:
        clip.tokenizer.t5xxl.embedding_directory = None
    t5 = clip.cond_stage_model.t5xxl
    vectors_in = t5.process_tokens([[token for token, _ in tokens[0]]], "cpu")[0][0]
    stone = clip.tokenizer.t5xxl.tokenizer("stone")["input_ids"][0]
    ((place,),) = found.positions
    assert torch.equal(vectors_in[place], t5.transformer.get_input_embeddings().weight[stone])


def test_none_of_them_has_end_tokens_to_swap(name: str) -> None:
    with pytest.raises(EosError, match="is not CLIP alone.* there no token stands for the end"):
        swap_eos(CLIPS[name][0](), "a castle", "a tree")


def test_a_clip_whose_encoding_was_changed_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = CLIPS[name][0]()
    plain = clip.encode_from_tokens_scheduled

    def doubled(*args: Any, **kwargs: Any) -> Any:
        return [[torch.cat([context, context], 1), more] for context, more in plain(*args, **kwargs)]

    monkeypatch.setattr(clip, "encode_from_tokens_scheduled", doubled)
    with pytest.raises(ProbeError, match='"a cat" was encoded to .* tokens, not .*: a node has changed'):
        find_phrases(clip, "a cat", ["cat"])
