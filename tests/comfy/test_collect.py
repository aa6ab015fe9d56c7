"""Collect Tickets on the real sampling path with a tiny random UNet."""

from __future__ import annotations

import copy
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import folder_paths
import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from forwards import counted
from winning_tickets.probe.attention import tokens
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.collect import collect, keep
from winning_tickets.probe.model import memory
from winning_tickets.probe.model.clone import COMPILE_KEY, plain_clone
from winning_tickets.probe.model.family import ProbeError
from winning_tickets.tickets import noise, prompts
from winning_tickets.tickets.bank.bank import BankError, TicketBank
from winning_tickets.tickets.bank.combine import prune
from winning_tickets.tickets.bank.file import load_bank, save_bank
from winning_tickets.tickets.grid import Grid

SIZE = 128
CATEGORIES = ("cat", "fire hydrant", "tree")


def bank_of(
    model: Any,
    clip: Any,
    noises: int = 1,
    seed: int = 0,
    layer: str = "input 3",
    categories: tuple[str, ...] = CATEGORIES,
    **more: Any,
) -> TicketBank:
    rest = {k: more.pop(k) for k in ("before", "progress", "keep") if k in more}
    request = collect.CollectRequest(categories, noises, seed, SIZE, SIZE, layer, **more)
    return collect.collect(model, clip, request, **rest)


@pytest.fixture
def encoded(clip: Any) -> list[tokens.PromptTokens]:
    return [tokens.encode_prompt(clip, p) for p in prompts.make_prompts(CATEGORIES)]


def reference_maps(model: Any, prompt: tokens.PromptTokens, x: torch.Tensor, layer: Any) -> torch.Tensor:
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
    scorer = Scorer(model, None, "test", 192, 128, name)
    (layer,) = scorer.layers
    x = torch.cat([noise.plain_noise(s, (4, 16, 24)) for s in (5, 6)])
    found = scorer.maps(encoded, x)[layer]
    for prompt, maps in zip(encoded, found, strict=True):
        for image in range(2):
            expected = reference_maps(model, prompt, x[image : image + 1], layer)
            torch.testing.assert_close(maps[image], expected, rtol=1e-4, atol=1e-7)


def test_scores_are_the_same_with_and_without_the_early_end(model: Any, encoded: list) -> None:
    x = noise.plain_noise(5, (4, 19, 13))
    about = model, None, "test", 104, 152, "output 2, input 3"
    early, late = Scorer(*about).maps(encoded, x), Scorer(*about, stop=False).maps(encoded, x)
    for layer in early:
        assert all(torch.equal(e, f) for e, f in zip(early[layer], late[layer], strict=True))


def test_several_layers_are_averaged_on_the_coarsest_grid(model: Any, encoded: list) -> None:
    x = noise.plain_noise(5, (4, 19, 13))
    scorer = Scorer(model, None, "test", 104, 152, "input 5, input 1, input 3")
    assert [str(layer) for layer in scorer.layers] == ["input 1", "input 3", "input 5"]
    grid = scorer.grid()
    assert (grid.block, *grid.shape) == (4, 4, 3)
    apart, together = scorer.maps(encoded, x), scorer.blocks(encoded, x, grid)
    for i, found in enumerate(together):
        fine, middle, coarse = (apart[layer][i] for layer in scorer.layers)
        assert [m.shape[-2:] for m in (fine, middle, coarse)] == [(19, 13), (10, 7), (5, 4)]
        for y, x_ in ((0, 0), (3, 2)):
            mean = (
                fine[..., 4 * y : 4 * y + 4, 4 * x_ : 4 * x_ + 4].mean((-2, -1))
                + middle[..., 2 * y : 2 * y + 2, 2 * x_ : 2 * x_ + 2].mean((-2, -1))
                + coarse[..., y, x_]
            ) / 3
            torch.testing.assert_close(found[..., y, x_], mean)


def test_bank_does_not_depend_on_the_batch_size(
    model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    banks = []
    for rows in (1, 4, 64):
        monkeypatch.setattr(memory, "MOST", rows)
        banks.append(bank_of(model, clip, 3, 7))
    for bank in banks[1:]:
        assert torch.equal(bank.blocks, banks[0].blocks)
        torch.testing.assert_close(bank.attention, banks[0].attention, rtol=1e-4, atol=1e-7)


def test_batch_fits_the_free_memory(model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    request = collect.CollectRequest(CATEGORIES, 8, 0, SIZE, SIZE, "input 3")
    assert collect.Collector(model, clip, request).scorer.rows.count == memory.MOST
    needed = 1.5 * model.memory_required([4, 4, SIZE // 8, SIZE // 8])
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *args: needed * 1.01)
    assert collect.Collector(model, clip, request).scorer.rows.count == 4


def test_bank_holds_the_blocks_of_stock_noise(model: Any, clip: Any) -> None:
    request = collect.CollectRequest(("cat", "tree"), 2, 11, 192, 128, "input 3")
    bank = collect.collect(model, clip, request)
    assert bank.recipe.block == 2 and bank.recipe.grid == (8, 12)
    stock = torch.randn(1, 4, 16, 24, generator=torch.manual_seed(12))
    assert torch.equal(bank.blocks[8 * 12 + 13], stock[0, :, 2:4, 2:4])
    assert bank.seeds[bank.noise[8 * 12 + 13]] == 12 and bank.cell[8 * 12 + 13] == 13


def test_sizes_that_are_no_multiple_of_the_block_leave_the_edge_out(model: Any, clip: Any) -> None:
    request = collect.CollectRequest(("cat", "tree"), 1, 0, 152, 136, "input 5")
    bank = collect.collect(model, clip, request)
    assert bank.recipe.block == 4 and bank.recipe.grid == (17 // 4, 19 // 4)
    assert len(bank.blocks) == 4 * 4


def test_blocks_of_several_cells_pool_the_map(model: Any, clip: Any) -> None:
    fine = bank_of(model, clip, categories=("cat", "tree"))
    coarse = bank_of(model, clip, categories=("cat", "tree"), cells=2)
    assert coarse.recipe.block == 4
    for row in range(2):
        torch.testing.assert_close(coarse.maps(row), Grid(16, 16, 4).pool(fine.maps(row), 2))


@pytest.mark.parametrize("scheme, prompts_each", [("pairs", 3), ("singles", 3), ("joint", 1)])
def test_forwards_by_scheme(model: Any, clip: Any, scheme: str, prompts_each: int) -> None:
    counting, seen = counted(model)
    bank = bank_of(counting, clip, 4, scheme=scheme)
    assert seen.total == 4 * prompts_each == 4 * len(bank.prompts)
    assert bank.score("cat", "tree").shape == (4 * 64,)


def test_forward_ends_at_the_layer_that_is_read(model: Any, clip: Any) -> None:
    after: list[Any] = []
    clone = model.clone()
    clone.set_model_attn1_patch(lambda q, k, v, extra: after.append(extra["block"]) or (q, k, v))
    bank_of(clone, clip)
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
    plain = bank_of(model, clip)
    bank = bank_of(patched, clip)
    assert calls and snapshot(patched) == before
    assert not torch.allclose(bank.attention, plain.attention)


@pytest.mark.parametrize("stop", ["interrupt", "error"])
def test_nothing_stays_on_the_model_after_cancel_or_error(model: Any, clip: Any, stop: str) -> None:
    before = snapshot(model)
    done = []

    def progress(count: int, latest: TicketBank) -> None:
        done.append(count)
        if stop == "error":
            raise RuntimeError("disk full")
        comfy.model_management.interrupt_current_processing()

    expected = {
        "interrupt": comfy.model_management.InterruptProcessingException,
        "error": RuntimeError,
    }[stop]
    with pytest.raises(expected):
        bank_of(model, clip, 40, progress=progress)
    assert len(done) == 1 and snapshot(model) == before
    assert model.model.current_patcher is None
    again = bank_of(model, clip)
    assert len(again.seeds) == 1


@pytest.mark.parametrize("at", ["before the forward", "at the read layer", "between layers", "after a layer"])
def test_nothing_stays_when_the_cancel_comes_inside_a_forward(model: Any, clip: Any, at: str) -> None:
    """Rule: patches leave nothing behind on any path, wherever in the UNet the interrupt is noticed."""

    def stop(*args: Any, **kwargs: Any) -> Any:
        raise comfy.model_management.InterruptProcessingException

    theirs = model.clone()
    if at == "before the forward":
        key = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
        theirs.add_wrapper_with_key(key, "stop", stop)
    elif at == "at the read layer":
        theirs.set_model_attn2_patch(stop)
    elif at == "between layers":
        theirs.set_model_attn1_patch(stop)
    else:
        theirs.set_model_attn2_output_patch(stop)
    untouched, patched = snapshot(model), snapshot(theirs)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        bank_of(theirs, clip)
    assert snapshot(theirs) == patched and snapshot(model) == untouched
    assert model.model.current_patcher is None
    bank_of(model, clip)


def test_out_of_memory_halves_the_batch_and_goes_on(model: Any, clip: Any) -> None:
    def short(executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if x.shape[0] > 3:
            raise comfy.model_management.OOM_EXCEPTION("no memory")
        return executor(x, *args, **kwargs)

    small = model.clone()
    key = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    small.add_wrapper_with_key(key, "short", short)
    found = bank_of(small, clip, 3)
    expected = bank_of(model, clip, 3)
    assert found.seeds == expected.seeds
    torch.testing.assert_close(found.attention, expected.attention, rtol=1e-4, atol=1e-7)


def test_every_token_of_a_phrase_is_found(clip: Any) -> None:
    (prompt,) = prompts.make_prompts(("black cat", "cat"))
    assert prompt.text == "a black cat and a cat"
    assert tokens.encode_prompt(clip, prompt).positions == ((2, 3), (6,))
    (prompt,) = prompts.make_prompts(("apple", "fire hydrant"))
    assert prompt.text == "an apple and a fire hydrant"
    assert tokens.encode_prompt(clip, prompt).positions == ((2,), (5, 6, 7))


def test_long_categories_are_refused_by_name(model: Any, clip: Any) -> None:
    with pytest.raises(ProbeError, match='^"(cat ?)+" does not fit.*75 tokens'):
        bank_of(model, clip, categories=("cat " * 80, "tree"))


def test_a_joint_prompt_of_several_chunks_is_collected(model: Any, clip: Any) -> None:
    """Rule: a category is read in any chunk of its prompt."""
    many = tuple(f"{word} {other}" for word in ("red", "blue", "old") for other in "abcdefghij")
    bank = bank_of(model, clip, categories=many, scheme="joint")
    assert float(bank.attention.min()) > 0 and float(bank.attention.std(-1).min()) > 0


def test_the_category_that_is_cut_by_the_end_of_a_chunk_is_named(model: Any, clip: Any) -> None:
    many = tuple(f"{word} {other}" for word in ("red", "blue", "old") for other in "abcdefghijklmnop")
    with pytest.raises(ProbeError, match='"old f" does not fit: it is cut in two'):
        bank_of(model, clip, categories=many, scheme="joint")


def test_wrong_layer_lists_those_there_are(model: Any, clip: Any) -> None:
    with pytest.raises(ProbeError, match=r'"input 8".*input 1, input 3, input 5, input 5\.1'):
        bank_of(model, clip, layer="input 8")


@pytest.mark.parametrize("at", [0, 1, 3])
def test_interrupted_collection_is_kept_and_resumed_bit_for_bit(
    model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """at: after how many batches the user cancels; two noises each."""
    monkeypatch.setattr(memory, "MOST", 6)
    whole = bank_of(model, clip, 10)
    kept: list[TicketBank] = []

    def stop(done: int, latest: TicketBank) -> None:
        if done >= 2 * at:
            comfy.model_management.interrupt_current_processing()

    if at == 0:
        comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        bank_of(model, clip, 10, progress=stop, keep=kept.append)
    assert [len(bank.seeds) for bank in kept] == ([2 * at] if at else [])
    counting, seen = counted(model)
    resumed = bank_of(counting, clip, 10, before=kept[-1] if at else None)
    assert seen.total == (10 - 2 * at) * 3
    for name in ("blocks", "attention", "noise", "cell", "low", "high"):
        assert torch.equal(getattr(resumed, name), getattr(whole, name)), name
    assert resumed.seeds == whole.seeds and resumed.recipe == whole.recipe


def test_keeping_takes_a_share_of_the_time_however_much_there_is(
    model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule: cost grows as what there is, not as its square: a write takes longer the more it holds."""
    monkeypatch.setattr(memory, "MOST", 3)
    monkeypatch.setattr(collect, "KEEP_EVERY", 0.0)
    kept: list[int] = []
    now = 0.0
    monkeypatch.setattr(collect, "time", types.SimpleNamespace(monotonic=lambda: now))

    def batch(done: int, latest: TicketBank) -> None:
        nonlocal now
        now += 0.05

    def write(bank: TicketBank) -> None:
        nonlocal now
        kept.append(len(bank.seeds))
        now += 0.002 * len(bank.seeds)

    bank_of(model, clip, 60, keep=write, progress=batch)
    assert kept[-1] == 60 and len(kept) > 2
    # All but the last one, in which the collection ends.
    assert 0.002 * sum(kept[:-1]) < 0.15 * now


def test_a_save_that_fails_ends_nothing(
    model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rule: what was collected is given out, and where it could not be saved, the text says so."""
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    monkeypatch.setattr(memory, "MOST", 6)
    request = collect.CollectRequest(CATEGORIES, 6, 0, SIZE, SIZE, "input 3")
    way = tmp_path / "ticket_banks" / "mine.safetensors"

    def block(done: int, latest: TicketBank) -> None:
        way.mkdir(exist_ok=True)

    bank, told = keep.collect_and_keep(model, clip, request, "mine", block)
    assert bank.seeds == tuple(range(6))
    assert "Not saved: mine.safetensors cannot be written" in told and "Save Ticket Bank" in told

    def cancel(done: int, latest: TicketBank) -> None:
        way.mkdir()
        comfy.model_management.interrupt_current_processing()

    way.rmdir()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        keep.collect_and_keep(model, clip, request, "mine", cancel)
    assert "Not saved" in caplog.text and list(way.parent.iterdir()) == [way]
    counting, seen = counted(model)
    with pytest.raises(BankError, match="a folder has this name.*save_as"):
        keep.collect_and_keep(counting, clip, request, "mine")
    with pytest.raises(BankError, match='save_as is "nul"'):
        keep.collect_and_keep(counting, clip, request, "nul")
    assert not seen
    way.rmdir()
    _, told = keep.collect_and_keep(model, clip, request, "mine")
    assert "Not saved" not in told and load_bank(way).seeds == tuple(range(6))
    save_bank(prune(load_bank(way), 0.1), way)
    _, told = keep.collect_and_keep(model, clip, replace(request, noises=8), "mine")
    assert "only the best tickets" in told and "from 8 noises" in told


def test_two_processes_that_collect_under_one_name_lose_nothing(
    model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rule: a save loses no collection, be it another process's."""
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    path = tmp_path / "ticket_banks" / "shared.safetensors"
    others = bank_of(model, clip, 2, seed=100)

    def meanwhile(bank: TicketBank) -> Any:
        return lambda done, latest: save_bank(bank, path)

    request = collect.CollectRequest(CATEGORIES, 2, 0, SIZE, SIZE, "input 3")
    bank, told = keep.collect_and_keep(model, clip, request, "shared", meanwhile(others))
    assert bank.seeds == (0, 1) and "Not saved" not in told
    assert set(load_bank(path).seeds) == {0, 1, 100, 101}
    path.unlink()
    another = bank_of(model, clip, 2, layer="input 5")
    bank, told = keep.collect_and_keep(model, clip, request, "shared", meanwhile(another))
    assert bank.seeds == (0, 1) and "Not saved: shared.safetensors was replaced meanwhile" in told
    assert load_bank(path).recipe == another.recipe


def test_a_bank_of_another_request_is_not_resumed(model: Any, clip: Any) -> None:
    before = bank_of(model, clip)
    with pytest.raises(BankError, match="differs in layer"):
        bank_of(model, clip, 2, layer="input 5", before=before)
    worded = replace(before, prompts=("two cats", *before.prompts[1:]))
    counting, seen = counted(model)
    with pytest.raises(BankError, match='differs in prompts .number 1 is "a cat and a fire hydrant"'):
        bank_of(counting, clip, 2, before=worded)
    assert not seen
    with pytest.raises(BankError, match="differs in categories"):
        bank_of(model, clip, 2, categories=("cat", "tree"), before=before)
    with pytest.raises(BankError, match="differs in scheme"):
        bank_of(model, clip, 2, scheme="singles", template="{}", before=before)


def test_fewer_noises_than_before_need_no_evaluation(model: Any, clip: Any) -> None:
    before = bank_of(model, clip, 4)
    counting, seen = counted(model)
    again = bank_of(counting, clip, 2, before=before)
    assert not seen and again.seeds == (0, 1)


def test_compiled_model_is_read_uncompiled(model: Any, clip: Any) -> None:
    """The compiling of torch itself is not run: what matters is that its wrapper is not called."""

    def compiled(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the compiled model was called")

    theirs = model.clone()
    wrapper = comfy.patcher_extension.WrappersMP.APPLY_MODEL
    theirs.add_wrapper_with_key(wrapper, COMPILE_KEY, compiled)
    bank = bank_of(theirs, clip)
    assert torch.equal(bank.attention, bank_of(model, clip).attention)
    assert theirs.wrappers[wrapper][COMPILE_KEY] == [compiled]


@pytest.mark.parametrize("part", ["diffusion_model", "diffusion_model.middle_block"])
def test_object_patches_that_compile_are_left_out(model: Any, clip: Any, part: str) -> None:
    """As third-party compile nodes do it. torch.compile is lazy: the backend would only run when called."""

    def backend(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the compiled model was called")

    theirs = model.clone()
    compiled = torch.compile(model.get_model_object(part), backend=backend)
    theirs.add_object_patch(part, compiled)
    bank = bank_of(theirs, clip, layer="output 1")
    assert torch.equal(bank.attention, bank_of(model, clip, layer="output 1").attention)
    assert theirs.object_patches == {part: compiled}


def test_a_patch_that_replaces_the_forward_is_named_not_an_empty_bank(model: Any, clip: Any) -> None:
    """Rule: a run in which nothing was captured is an error."""
    theirs = model.clone()
    key = comfy.patcher_extension.WrappersMP.APPLY_MODEL
    theirs.add_wrapper_with_key(key, "other", lambda executor, x, *args, **kwargs: torch.zeros_like(x))
    with pytest.raises(ProbeError, match="^Collect Tickets: another patch .*keeps the model from being run"):
        bank_of(theirs, clip)


def test_model_spread_over_gpus_is_read_on_one(model: Any, clip: Any) -> None:
    spread = model.clone()
    spread.set_additional_models("multigpu", [model.clone()])
    assert not plain_clone(spread).get_additional_models_with_key("multigpu")
    assert len(spread.get_additional_models_with_key("multigpu")) == 1


def test_patch_at_a_layer_that_is_read_still_does_its_work(model: Any, encoded: list) -> None:
    """2-tuple and 3-tuple keys, at a layer before the last one."""
    x = noise.plain_noise(5, (4, 16, 16))

    def theirs(q: Any, k: Any, v: Any, extra: Any) -> Any:
        return optimized_attention(q, k, v, extra["n_heads"], transformer_options=extra) * 0.5

    maps = []
    for key in (("input", 1), ("input", 1, 0), None):
        patched = model.clone()
        if key:
            patched.set_model_attn2_replace(theirs, *key)
        scorer = Scorer(patched, None, "test", 128, 128, "input 1, input 3")
        maps.append(scorer.maps(encoded, x)[scorer.layers[1]][0])
    assert torch.equal(maps[0], maps[1]) and not torch.equal(maps[0], maps[2])
