"""Looking before sampling, block swap and calibration, on small cases worked out by hand."""

from __future__ import annotations

import re
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from banks import make_bank
from scipy.optimize import linear_sum_assignment
from winning_tickets.show.noise import picture, table
from winning_tickets.tickets.gaussian import measure
from winning_tickets.tickets.grid import GridError
from winning_tickets.tickets.layout.build import Layout, image_generator
from winning_tickets.tickets.layout.calibrate import GAUSSIANIZE, STANDARDIZE, calibrate, normal_quantiles
from winning_tickets.tickets.layout.regions import Region, assign_cells
from winning_tickets.tickets.layout.select import Rank
from winning_tickets.tickets.noise import plain_noise, to_blocks
from winning_tickets.tickets.search.candidates import (
    SwapProposer,
    TicketProposer,
    derived_seed,
    plain_candidate,
    search,
)
from winning_tickets.tickets.search.fit import (
    GOOD,
    ON_TRANSFORMERS,
    ON_UNETS,
    POOR,
    Scale,
    cell_worth,
    fit,
    verdict,
)
from winning_tickets.tickets.search.swap import arrangement, swap
from winning_tickets.tickets.search.transport import nearest, regroup

ROOT = Path(__file__).parent.parent.parent
BOXES = (Region("a", 0, 0, 0.5, 0.5), Region("b", 0.5, 0.5, 1, 1), Region("c", 0, 0.6, 0.4, 1))
GROUPS = torch.tensor([[0, 0, -1, -1], [0, 0, -1, -1], [-1, -1, 1, 1], [-1, -1, 1, 1]])


def brightness(noise: torch.Tensor) -> torch.Tensor:
    """A stand-in for attention that depends on nothing but the block: two of its channel means."""
    means = to_blocks(noise, 4).mean((-2, -1))
    return means[..., :2].movedim(-1, 1)


def squared(start: np.ndarray, end: np.ndarray, columns: int) -> np.ndarray:
    """Squared distances of cells in raster order."""
    return (start // columns - end // columns) ** 2 + (start % columns - end % columns) ** 2


def least(coming: np.ndarray, free: np.ndarray, columns: int) -> int:
    """The least sum of squared distances from the cells that come to the free ones."""
    ways = squared(np.flatnonzero(coming)[:, None], np.flatnonzero(free), columns)
    return int(ways[linear_sum_assignment(ways)].sum())


class TestFit:
    def test_a_cell_is_worth_its_own_score_minus_the_best_other(self) -> None:
        scores = torch.rand(2, 3, 4, 4)
        worth = cell_worth(scores, GROUPS)
        for image in range(2):
            s = scores[image]
            assert worth[image, 0, 1] == s[0, 0, 1] - max(s[1, 0, 1], s[2, 0, 1])
            assert worth[image, 3, 2] == s[1, 3, 2] - max(s[0, 3, 2], s[2, 3, 2])
            assert worth[image, 0, 3] == -s[:, 0, 3].max()

    def test_fit_by_hand(self) -> None:
        scores = torch.rand(1, 2, 4, 4)
        a, b, out = scores[0, :, GROUPS == 0], scores[0, :, GROUPS == 1], scores[0, :, GROUPS < 0]
        expected = (a[0].mean() - a[1].mean() + b[1].mean() - b[0].mean()) / 2 - out.amax(0).mean()
        assert float(fit(scores, GROUPS)) == pytest.approx(float(expected), abs=1e-6)

    def test_a_lone_category_has_no_others(self) -> None:
        scores = torch.rand(1, 1, 2, 2)
        everywhere = torch.zeros(2, 2, dtype=torch.int64)
        assert float(fit(scores, everywhere)) == pytest.approx(float(scores.mean()))
        assert torch.equal(cell_worth(scores, everywhere), scores[:, 0])


class TestVerdict:
    @pytest.mark.parametrize("scale", [ON_UNETS, ON_TRANSFORMERS])
    @pytest.mark.parametrize("value, word", [(-0.19, "low"), (0.0, "fair"), (0.12, "fair"), (0.3, "good")])
    def test_a_fit_comes_with_what_it_means_and_a_low_one_warns(
        self, value: float, word: str, scale: Scale
    ) -> None:
        """Rule: a number that is shown says what is good, and a bad one warns."""
        told = verdict(value, GROUPS, scale)
        assert f"fit of {value:.2f} is {word}" in told and f"in {scale.kept[word]} of {scale.images}" in told
        assert told.startswith("Warning") is (word == "low")

    @pytest.mark.parametrize(
        ("scale", "file", "heading", "rows"),
        [
            (ON_UNETS, "demo/RESULTS.md", "What a fit means", 6),
            (ON_TRANSFORMERS, "benchmarks/README.md", "What moves on a flow transformer", 6),
        ],
        ids=["UNets", "transformers"],
    )
    def test_what_it_means_is_what_was_measured(
        self, scale: Scale, file: str, heading: str, rows: int
    ) -> None:
        """Rule: a figure in a text is that of the table it is from; UNets' figures stood on transformers."""
        text = (ROOT / file).read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
        found = re.findall(r"(?m)^\| (below|above|[\d.]+ to) [\d. ]+ \| (\d+) \| ([\d.]+) ", text)
        assert len(found) == rows
        kept: dict[str, list[tuple[int, float]]] = {"low": [], "fair": [], "good": []}
        for start, count, share in found:
            low = {"below": -1.0, "above": 1.0}.get(start)
            low = float(start.removesuffix(" to")) if low is None else low
            word = "low" if low < POOR else "fair" if low < GOOD else "good"
            kept[word].append((int(count), float(share)))
        for word, known in kept.items():
            share = sum(n * s for n, s in known) / sum(n for n, _ in known)
            assert scale.kept[word] == f"{100 * share:.0f}%"

    @pytest.mark.parametrize("groups", [GROUPS.clamp_min(0), torch.tensor([[0, -1]])])
    def test_what_was_not_measured_is_not_judged(self, groups: torch.Tensor) -> None:
        scores = torch.rand(400, 2, 4, 4, generator=torch.Generator().manual_seed(0))
        scores = scores if groups.shape == (4, 4) else scores[:, :1, :1, :2]
        assert float(fit(scores, groups).mean()) == pytest.approx(0, abs=0.05)
        assert "plain noise's, about 0" in verdict(-0.5, groups)


class TestSwap:
    def test_the_noise_is_a_permutation_of_what_it_was(self) -> None:
        """The rule: block swap leaves exactly the values that were drawn."""
        x = plain_noise(3, (4, 18, 22))[0]
        scores = torch.rand(2, 4, 5)
        groups = torch.tensor([[0] * 2 + [-1] * 3] * 2 + [[-1] * 3 + [1] * 2] * 2)
        swapped = swap(x, scores, groups, 4)
        assert torch.equal(swapped.flatten().sort().values, x.flatten().sort().values)
        assert torch.equal(swapped[:, 16:], x[:, 16:]) and torch.equal(swapped[:, :, 20:], x[:, :, 20:])
        before, after = (to_blocks(y[None], 4).flatten(1, 2)[0].flatten(1) for y in (x, swapped))
        assert sorted(map(tuple, before.tolist())) == sorted(map(tuple, after.tolist()))

    def test_best_blocks_come_into_their_regions(self) -> None:
        scores = torch.zeros(2, 4, 4)
        scores[0, 3, :] = 1
        scores[1, 0, :] = 1
        order = arrangement(scores, GROUPS)
        flat = GROUPS.flatten()
        assert sorted(order[flat == 0].tolist()) == [12, 13, 14, 15]
        assert sorted(order[flat == 1].tolist()) == [0, 1, 2, 3]

    def test_what_is_satisfied_is_not_touched(self) -> None:
        scores = torch.stack([(GROUPS == 0).float(), (GROUPS == 1).float()])
        assert arrangement(scores, GROUPS).tolist() == list(range(16))
        assert arrangement(torch.full((2, 4, 4), 0.5), GROUPS).tolist() == list(range(16))

    def test_no_more_blocks_move_than_must(self) -> None:
        """One block of the region lies outside: two blocks change places, all others stay."""
        scores = torch.stack([(GROUPS == 0).float(), (GROUPS == 1).float()])
        scores[0, 0, 0], scores[0, 0, 3] = 0.0, 1.0
        order = arrangement(scores, GROUPS)
        moved = (order != torch.arange(16)).nonzero().flatten().tolist()
        assert moved == [0, 3] and order[0] == 3 and order[3] == 0

    def test_moving_blocks_keep_their_order_in_the_plane(self) -> None:
        scores = torch.zeros(1, 2, 8)
        scores[0, :, 5:7] = 1
        groups = torch.full((2, 8), -1)
        groups[:, 0:2] = 0
        order = arrangement(scores, groups).view(2, 8)
        assert order[:, 0:2].tolist() == [[5, 6], [13, 14]]

    @pytest.mark.parametrize("groups", [1, 2, 3, 6, 11])
    @pytest.mark.parametrize("seed", range(8))
    def test_no_other_grouping_is_worth_more(self, groups: int, seed: int) -> None:
        """Against scipy's assignment of the same blocks to single cells."""
        generator = np.random.default_rng(seed)
        group = generator.integers(0, groups, 40)
        value = generator.random((40, groups)) ** 3
        found = regroup(value, group)
        assert np.bincount(found, minlength=groups).tolist() == np.bincount(group, minlength=groups).tolist()
        rows, columns = linear_sum_assignment(value[:, group], maximize=True)
        best = value[rows, group[columns]].sum()
        assert value[np.arange(40), found].sum() == pytest.approx(best, abs=1e-4)

    def test_a_large_noise_is_grouped_too(self) -> None:
        generator = np.random.default_rng(0)
        group = generator.integers(0, 6, 4096)
        value = generator.random((4096, 6))
        found = regroup(value, group)
        assert value[np.arange(4096), found].mean() > value[np.arange(4096), group].mean() + 0.3

    @pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (2, 2), (5, 11), (19, 13), (8, 40), (24, 24)])
    @pytest.mark.parametrize("seed", range(4))
    def test_no_other_way_to_the_free_cells_is_shorter(self, shape: tuple[int, int], seed: int) -> None:
        """Against scipy's assignment by the distances themselves."""
        generator = np.random.default_rng(seed)
        place = generator.permutation(shape[0] * shape[1])
        count = int(generator.integers(1, len(place) // 2 + 1)) if len(place) > 1 else 0
        coming, free = (np.isin(np.arange(len(place)), p) for p in (place[:count], place[count : 2 * count]))
        found = nearest(coming.reshape(shape), free.reshape(shape))
        assert sorted(found) == np.flatnonzero(free).tolist(), "each free cell is taken once"
        assert squared(np.flatnonzero(coming), found, shape[1]).sum() == least(coming, free, shape[1])

    @pytest.mark.parametrize("seed", range(3))
    def test_an_arrangement_moves_its_blocks_as_little_as_can_be(self, seed: int) -> None:
        side, groups = 24, assign_cells(BOXES, 24, 24)
        order = arrangement(torch.rand(3, side, side, generator=torch.Generator().manual_seed(seed)), groups)
        group, start, end = groups.flatten().numpy(), order.numpy(), np.arange(side * side)
        for g in (-1, 0, 1, 2):
            come = (group == g) & (group[start] != g)
            coming, free = np.isin(end, start[come]), np.isin(end, end[come])
            assert squared(start[come], end[come], side).sum() == least(coming, free, side)
            assert (start == end)[(group == g) & ~come].all(), "what is in its group stays where it is"

    def test_a_noise_of_4096_blocks_is_arranged_at_once(self) -> None:
        """The rule: arranging costs less than looking. Everything in one half belongs into the other, which
        took scipy's assignment alone 3.5 s of CPU time where this takes 0.06 s."""
        groups = torch.full((64, 64), -1)
        groups[:, :32] = 0
        scores = (groups < 0).float()[None]
        began = time.process_time()
        order = arrangement(scores, groups)
        assert time.process_time() - began < 0.7
        assert (order % 64 - torch.arange(4096) % 64).abs().unique().tolist() == [32], "all straight across"
        assert torch.equal(arrangement(scores, groups), order)


class TestSearch:
    def test_rounds_of_swaps_never_make_the_fit_worse_and_keep_the_values(self) -> None:
        draw = partial(plain_candidate, 11, 0, (4, 16, 16))
        proposer = SwapProposer(draw, GROUPS, 4)
        generators = partial(image_generator, 11, 0)
        values = [search(proposer, brightness, GROUPS, 4, r, generators).after for r in range(4)]
        assert values == sorted(values) and values[1] > values[0] + 0.2
        found = search(proposer, brightness, GROUPS, 4, 2, generators)
        plain = plain_noise(derived_seed(11, found.candidate), (4, 16, 16))
        assert torch.equal(found.noise.flatten().sort().values, plain.flatten().sort().values)
        assert found.looks == 12

    def test_without_rounds_the_best_candidate_is_taken(self) -> None:
        draw = partial(plain_candidate, 5, 2, (4, 16, 16))
        proposer = SwapProposer(draw, GROUPS, 4)
        found = search(proposer, brightness, GROUPS, 16, 0, partial(image_generator, 5, 2))
        each = [
            search(
                SwapProposer(lambda _, j=j: draw(j), GROUPS, 4),
                brightness,
                GROUPS,
                1,
                0,
                partial(image_generator, 5, 2),
            )
            for j in range(16)
        ]
        assert found.after == max(e.after for e in each) and found.before == each[0].after
        assert torch.equal(found.noise, draw(found.candidate))
        assert torch.equal(draw(0), plain_noise(5, (4, 16, 16), (2,))[0])

    def test_one_candidate_and_no_rounds_is_the_noise_that_is_built_blindly(self) -> None:
        regions = (Region("cat", 0, 0, 0.5, 0.5), Region("tree", 0.5, 0.5, 1, 1))
        layout = Layout(make_bank(noises=40), regions, 16, 16, Rank(0.2, 0.2))
        proposer = TicketProposer(layout, layout.plain(9, (3,))[0], 9, 3)
        found = search(proposer, brightness, layout.groups(), 1, 0, partial(image_generator, 9, 3))
        assert torch.equal(found.noise, layout.build(9, (3,))[0]) and found.candidate == 0
        better = search(proposer, brightness, layout.groups(), 4, 3, partial(image_generator, 9, 3))
        assert better.before == found.after and better.after > found.after and better.looks == 16

    def test_a_search_ends_between_two_attempts(self) -> None:
        """The rule: arranging can be cancelled, not only looking."""
        made: list[int] = []

        class Counted(SwapProposer):
            def better(self, *args: Any) -> torch.Tensor:
                made.append(1)
                return super().better(*args)

        def check() -> None:
            if len(made) == 3:
                raise KeyboardInterrupt

        proposer = Counted(partial(plain_candidate, 1, 0, (4, 16, 16)), GROUPS, 4)
        with pytest.raises(KeyboardInterrupt):
            search(proposer, brightness, GROUPS, 8, 2, partial(image_generator, 1, 0), check)
        assert len(made) == 3

    def test_derived_seeds_differ(self) -> None:
        seeds = [derived_seed(2**64 - 1, j) for j in range(64)]
        assert len(set(seeds)) == 64 and seeds[0] == 2**64 - 1
        assert all(0 <= s < 2**64 for s in seeds)


class TestCalibrate:
    x = torch.rand(4, 16, 22, generator=torch.Generator().manual_seed(0)) ** 2

    def test_standardize(self) -> None:
        y = calibrate(self.x, STANDARDIZE).double()
        torch.testing.assert_close(y.mean((-2, -1)), torch.zeros(4).double(), atol=1e-6, rtol=0)
        torch.testing.assert_close(y.var((-2, -1), correction=0), torch.ones(4).double(), atol=1e-5, rtol=0)

    def test_gaussianize_gives_the_exact_quantiles_and_keeps_the_order(self) -> None:
        y = calibrate(self.x, GAUSSIANIZE)
        expected = normal_quantiles(16 * 22).float()
        for before, after in zip(self.x.flatten(1), y.flatten(1), strict=True):
            assert torch.equal(after.sort().values, expected)
            assert torch.equal(after.argsort(), before.argsort())

    def test_equal_values_rank_by_their_places(self) -> None:
        """The rule: ranks are whole numbers, which those of scipy 1.18 are not."""
        y = calibrate(torch.zeros(2, 3, 5), GAUSSIANIZE)
        assert torch.equal(y.flatten(1), normal_quantiles(15).float().expand(2, 15))

    def test_unknown_is_refused(self) -> None:
        with pytest.raises(ValueError, match="calibration is 'x'; choose one of none"):
            calibrate(self.x, "x")


def frequencies_in_rings(height: int, width: int) -> torch.Tensor:
    """How many frequencies lie in each of the spectrum's rings."""
    fy, fx = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.fftfreq(width, dtype=torch.float64)
    ring = ((fy[:, None] ** 2 + fx**2).sqrt() / 0.5**0.5 * 12).long().clamp_max(11)
    return torch.bincount(ring.flatten(), minlength=12)


class TestNoiseReport:
    def test_plain_noise_has_the_figures_of_plain_noise(self) -> None:
        figures = measure(plain_noise(0, (4, 64, 64), range(4)), 4)
        assert figures.mean.abs().max() < 0.03 and (figures.variance - 1).abs().max() < 0.05
        assert (figures.kurtosis - 3).abs().max() < 0.2 and figures.distance.max() < 0.015
        assert abs(figures.within) < 0.01 and abs(figures.across) < 0.02
        assert (figures.spectrum - 1).abs().max() < 0.15

    def test_faults_are_seen(self) -> None:
        plain = plain_noise(0, (4, 64, 64))
        shifted = measure(plain * 1.2 + 0.3, 4)
        assert (shifted.mean - 0.3).abs().max() < 0.1 and float(shifted.distance.min()) > 0.08
        smooth = torch.nn.functional.avg_pool2d(plain, 2).repeat_interleave(2, 2).repeat_interleave(2, 3) * 2
        figures = measure(smooth, 2)
        assert figures.within > 0.95 and abs(figures.across) < 0.05
        assert float(figures.spectrum[:3].mean()) > 2 > 1 > float(figures.spectrum[-3:].mean())
        heavy = measure(plain**3, 4)
        assert float(heavy.kurtosis.min()) > 10

    def test_figures_are_those_of_their_definitions(self) -> None:
        x = plain_noise(3, (4, 19, 13), range(2)) * 1.3 + 0.1
        figures = measure(x, 2)
        flat = x.double().movedim(1, 0).flatten(1)
        centred = flat - flat.mean(1, keepdim=True)
        kurtosis = centred.pow(4).mean(1) / centred.square().mean(1) ** 2
        torch.testing.assert_close(figures.kurtosis, kurtosis)
        below = torch.special.ndtr(flat.sort(1).values)
        steps = torch.arange(flat.shape[1] + 1, dtype=torch.float64) / flat.shape[1]
        distance = torch.maximum((steps[1:] - below).amax(1), (below - steps[:-1]).amax(1))
        torch.testing.assert_close(figures.distance, distance)
        # Parseval: the mean over all frequencies is the mean square.
        counts = frequencies_in_rings(19, 13)
        assert float((figures.spectrum * counts).sum() / counts.sum()) == pytest.approx(
            float(flat.square().mean())
        )

    def test_what_cannot_be_told_is_no_figure(self) -> None:
        """Rule: a figure without a meaning is not shown."""
        flat = measure(torch.zeros(1, 4, 2, 2), 2)
        assert flat.kurtosis.isnan().all() and flat.spectrum.isnan().any()
        lines = table(flat, flat).splitlines()
        assert not any("nan" in line for line in lines) and "-" in lines[6].split()
        image = picture(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), flat, flat)
        assert bool(image.isfinite().all())

    def test_a_block_without_a_side_is_refused(self) -> None:
        with pytest.raises(GridError, match="block is 0; at least 1 latent pixel is needed"):
            measure(torch.zeros(1, 4, 4, 4), 0)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
    def test_broken_noise_is_reported_too(self, value: float) -> None:
        """Rule: a report shows what is wrong; it does not fail on it."""
        plain = plain_noise(0, (4, 19, 13))
        broken = plain.clone()
        broken[0, 1, 2, 3] = value
        figures = measure(broken, 2), measure(plain, 2)
        assert "KS distance" in table(*figures)
        assert bool(picture(broken, plain, *figures).isfinite().all())

    def test_text_and_picture(self) -> None:
        plain = plain_noise(0, (4, 32, 32))
        figures = measure(plain, 4)
        assert "KS distance" in table(figures, figures) and "across block borders" in table(figures, figures)
        image = picture(plain * 1.3, plain, measure(plain * 1.3, 4), figures)
        assert image.shape[-1] == 3 and float(image.min()) >= 0 and float(image.max()) <= 1
