"""Collect Tickets on the real sampling path with a tiny random UNet."""

from __future__ import annotations

import copy
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from winning_tickets.probe import attention, collect, text
from winning_tickets.tickets import noise, prompts

SIZE = 128
CATEGORIES = ("cat", "fire hydrant", "tree")


@pytest.fixture
def encoded(clip: Any) -> list[text.EncodedPrompt]:
    return [text.encode_prompt(clip, p) for p in prompts.pair_prompts(CATEGORIES)]


def reference_maps(model: Any, prompt: text.EncodedPrompt, x: torch.Tensor, layer: Any) -> torch.Tensor:
    """One prompt, one noise, no early end, softmax by hand from the q and k a plain patch sees."""
    seen = {}

    def spy(q: Any, k: Any, v: Any, extra: Any) -> Any:
        seen["qk"] = (q, k, extra["n_heads"], extra["activations_shape"][-2:])
        return optimized_attention(q, k, v, extra["n_heads"], transformer_options=extra)

    clone = model.clone()
    clone.set_model_attn2_replace(spy, layer.block, layer.number, layer.depth)
    guider = comfy.samplers.CFGGuider(clone)
    guider.inner_set_conds({"positive": prompt.conditioning})
    sigma = float(clone.get_model_object("model_sampling").sigma_max)
    sampler = comfy.samplers.sampler_object("euler")
    guider.sample(x, torch.zeros_like(x), sampler, torch.tensor([sigma, 0.0]), disable_pbar=True)
    q, k, heads, (h, w) = seen["qk"]
    dim = q.shape[-1] // heads
    maps = []
    for positions in prompt.positions:
        total = torch.zeros(q.shape[1])
        for head in range(heads):
            part = slice(head * dim, (head + 1) * dim)
            weights = (q[0, :, part] @ k[0, :, part].T / dim**0.5).softmax(-1)
            total += weights[:, list(positions)].mean(-1) / heads
        maps.append(total.view(h, w))
    return torch.stack(maps)


@pytest.mark.parametrize("name", ["input 1", "input 3", "input 5.1", "middle 0", "output 2"])
def test_attention_equals_an_unbatched_full_forward(model: Any, encoded: list, name: str) -> None:
    layer = attention.find_layer(model, name)
    sigma = float(model.get_model_object("model_sampling").sigma_max)
    x = torch.cat([noise.plain_noise(s, (4, 16, 24)) for s in (5, 6)])
    found = collect.read_attention(model, encoded, x, layer, sigma)
    for prompt, maps in zip(encoded, found, strict=True):
        for image in range(2):
            expected = reference_maps(model, prompt, x[image : image + 1], layer)
            torch.testing.assert_close(maps[image], expected, rtol=1e-4, atol=1e-7)


def test_bank_does_not_depend_on_the_batch_size(
    model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    banks = []
    for rows in (1, 4, 64):
        monkeypatch.setattr(collect, "ROWS", rows)
        banks.append(collect.collect(model, clip, CATEGORIES, 3, 7, SIZE, SIZE, "input 3"))
    for bank in banks[1:]:
        assert torch.equal(bank.blocks, banks[0].blocks)
        torch.testing.assert_close(bank.attention, banks[0].attention, rtol=1e-4, atol=1e-7)


def test_bank_holds_the_blocks_of_stock_noise(model: Any, clip: Any) -> None:
    bank = collect.collect(model, clip, ("cat", "tree"), 2, 11, 192, 128, "input 3")
    assert bank.recipe.block == 2 and bank.attention.shape == (2, 2, 8, 12)
    stock = torch.randn(1, 4, 16, 24, generator=torch.manual_seed(12))
    assert torch.equal(bank.blocks[8 * 12 + 13], stock[0, :, 2:4, 2:4])


def test_sizes_that_are_no_multiple_of_the_block_leave_the_edge_out(model: Any, clip: Any) -> None:
    bank = collect.collect(model, clip, ("cat", "tree"), 1, 0, 152, 136, "input 5")
    assert bank.recipe.block == 4
    assert bank.attention.shape[-2:] == (17 // 4, 19 // 4)


def test_blocks_of_several_cells_pool_the_map(model: Any, clip: Any) -> None:
    fine = collect.collect(model, clip, ("cat", "tree"), 1, 0, SIZE, SIZE, "input 3")
    coarse = collect.collect(model, clip, ("cat", "tree"), 1, 0, SIZE, SIZE, "input 3", cells=2)
    assert coarse.recipe.block == 4
    expected = fine.attention.unflatten(-1, (4, 2)).unflatten(-3, (4, 2)).mean((-1, -3))
    torch.testing.assert_close(coarse.attention, expected)


def count_forwards(model: Any, calls: list) -> Any:
    def wrapper(executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(x.shape[0])
        return executor(x, *args, **kwargs)

    clone = model.clone()
    key = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    clone.add_wrapper_with_key(key, "count", wrapper)
    return clone


def test_one_conditional_evaluation_per_noise_and_prompt(model: Any, clip: Any) -> None:
    calls: list[int] = []
    collect.collect(count_forwards(model, calls), clip, CATEGORIES, 4, 0, SIZE, SIZE, "input 3")
    assert sum(calls) == 4 * 3


def test_forward_ends_at_the_layer_that_is_read(model: Any, clip: Any) -> None:
    after: list[Any] = []
    clone = model.clone()
    clone.set_model_attn1_patch(lambda q, k, v, extra: after.append(extra["block"]) or (q, k, v))
    collect.collect(clone, clip, CATEGORIES, 1, 0, SIZE, SIZE, "input 3")
    assert ("input", 3) in after
    assert ("input", 5) not in after and ("output", 0) not in after


def snapshot(model: Any) -> Any:
    options = copy.deepcopy({k: v for k, v in model.model_options.items() if k != "transformer_options"})
    transformer = model.model_options["transformer_options"]
    return (
        options,
        {k: repr(v) for k, v in transformer.items()},
        dict(model.patches),
        dict(model.wrappers),
    )


def test_patch_already_on_the_model_is_called_and_stays(model: Any, clip: Any) -> None:
    calls = []

    def theirs(q: Any, k: Any, v: Any, extra: Any) -> Any:
        calls.append(extra["block"])
        return optimized_attention(q, k, v, extra["n_heads"], transformer_options=extra) * 0.5

    patched = model.clone()
    patched.set_model_attn2_replace(theirs, "input", 1)
    before = snapshot(patched)
    plain = collect.collect(model, clip, CATEGORIES, 1, 0, SIZE, SIZE, "input 3")
    bank = collect.collect(patched, clip, CATEGORIES, 1, 0, SIZE, SIZE, "input 3")
    assert calls and snapshot(patched) == before
    assert not torch.allclose(bank.attention, plain.attention)


@pytest.mark.parametrize("stop", ["interrupt", "error"])
def test_nothing_stays_on_the_model_after_cancel_or_error(model: Any, clip: Any, stop: str) -> None:
    before = snapshot(model)
    done = []

    def progress(count: int) -> None:
        done.append(count)
        if stop == "error":
            raise RuntimeError("disk full")
        comfy.model_management.interrupt_current_processing()

    expected = {
        "interrupt": comfy.model_management.InterruptProcessingException,
        "error": RuntimeError,
    }[stop]
    with pytest.raises(expected):
        collect.collect(model, clip, CATEGORIES, 40, 0, SIZE, SIZE, "input 3", progress=progress)
    assert len(done) == 1 and snapshot(model) == before
    assert model.model.current_patcher is None
    again = collect.collect(model, clip, CATEGORIES, 1, 0, SIZE, SIZE, "input 3")
    assert len(again.seeds) == 1


def test_out_of_memory_halves_the_batch_and_goes_on(model: Any, clip: Any) -> None:
    def short(executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if x.shape[0] > 3:
            raise comfy.model_management.OOM_EXCEPTION("no memory")
        return executor(x, *args, **kwargs)

    small = model.clone()
    key = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    small.add_wrapper_with_key(key, "short", short)
    found = collect.collect(small, clip, CATEGORIES, 3, 0, SIZE, SIZE, "input 3")
    expected = collect.collect(model, clip, CATEGORIES, 3, 0, SIZE, SIZE, "input 3")
    assert found.seeds == expected.seeds
    torch.testing.assert_close(found.attention, expected.attention, rtol=1e-4, atol=1e-7)


def test_every_token_of_a_phrase_is_found(clip: Any) -> None:
    (prompt,) = prompts.pair_prompts(("black cat", "cat"))
    assert prompt.text == "a black cat and a cat"
    assert text.encode_prompt(clip, prompt).positions == ((2, 3), (6,))
    (prompt,) = prompts.pair_prompts(("apple", "fire hydrant"))
    assert prompt.text == "an apple and a fire hydrant"
    assert text.encode_prompt(clip, prompt).positions == ((2,), (5, 6, 7))


def test_long_categories_are_refused_by_name(model: Any, clip: Any) -> None:
    with pytest.raises(attention.ProbeError, match="longer than the 75 tokens"):
        collect.collect(model, clip, ("cat " * 80, "tree"), 1, 0, SIZE, SIZE, "input 3")


def test_wrong_layer_lists_those_there_are(model: Any, clip: Any) -> None:
    with pytest.raises(attention.ProbeError, match=r'"input 8".*input 1, input 3, input 5, input 5\.1'):
        collect.collect(model, clip, CATEGORIES, 1, 0, SIZE, SIZE, "input 8")
