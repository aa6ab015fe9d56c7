"""What is measured of a run, on values whose answer is known."""

from __future__ import annotations

import pytest
import torch
from winning_tickets.guidance.eos import replace_eos
from winning_tickets.guidance.record import MOST_BYTES, MOST_RUNS, Record, Records
from winning_tickets.guidance.steps import Steps
from winning_tickets.guidance.suggest import explain, scales, suggest
from winning_tickets.guidance.trace import (
    Evaluation,
    StepsError,
    Trace,
    agreement,
    guidance_norm,
    low_share,
    parse_phrases,
    parse_steps,
    pooled,
    remaining,
    shape,
    spread,
)


def reported_after_each(sigmas: list[float]) -> Steps:
    """Each step of these noise levels is evaluated once and then reported, as by euler."""
    steps = Steps(sigmas)
    for number, sigma in enumerate(sigmas[:-1]):
        steps.evaluate(sigma)
        steps.report(number)
    return steps


def evaluation(number: int, read: bool = True, unread: str = "") -> Evaluation:
    """Its map holds its own number."""
    maps = torch.full((1, 1, 2, 2), float(number)) if read else None
    return Evaluation(torch.tensor([0.5]), maps, torch.tensor([1.0]), unread)


SEQUENCES = {
    "falling": [8.0, 4.0, 2.0, 1.0, 0.0],
    "rising": [0.0, 1.0, 2.0, 4.0, 8.0],
    "repeated": [8.0, 8.0, 4.0, 4.0, 4.0, 0.0],
    "restarted": [8.0, 4.0, 2.0, 8.0, 4.0, 2.0, 0.0],
    "to and fro": [8.0, 2.0, 4.0, 2.0, 4.0, 0.0],
}


class TestSteps:
    """Rule: the run's own steps are counted, from the first on, for any sequence of noise levels."""

    @pytest.mark.parametrize("sigmas", SEQUENCES.values(), ids=SEQUENCES)
    def test_one_evaluation_for_each_step(self, sigmas: list[float]) -> None:
        steps = Steps(sigmas)
        for number, sigma in enumerate(sigmas[:-1]):
            assert steps.evaluate(sigma) == number
            steps.report(number)
        assert steps.numbers() == list(range(len(sigmas) - 1)) and steps.fits

    @pytest.mark.parametrize("sigmas", SEQUENCES.values(), ids=SEQUENCES)
    def test_without_any_report(self, sigmas: list[float]) -> None:
        steps = Steps(sigmas)
        assert [steps.evaluate(sigma) for sigma in sigmas[:-1]] == list(range(len(sigmas) - 1))
        assert steps.numbers() == list(range(len(sigmas) - 1))

    @pytest.mark.parametrize("early", [True, False], ids=["reported early", "reported late"])
    @pytest.mark.parametrize("sigmas", SEQUENCES.values(), ids=SEQUENCES)
    def test_evaluations_in_between_belong_to_the_step(self, sigmas: list[float], early: bool) -> None:
        """As dpm_2 does it; or with the report after all of them."""
        steps, places = Steps(sigmas), []
        for number, (here, there) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
            places.append(steps.evaluate(here))
            if early:
                steps.report(number)
            if here != there:
                places.append(steps.evaluate(here * 0.3 + there * 0.7))
            if not early:
                steps.report(number)
        wanted = [n for n, pair in enumerate(zip(sigmas, sigmas[1:], strict=False)) for _ in set(pair)]
        assert places == wanted and steps.numbers() == wanted

    @pytest.mark.parametrize("sigmas", [SEQUENCES["falling"], SEQUENCES["rising"]], ids=["falling", "rising"])
    def test_a_look_ahead_is_there_already_and_still_of_its_step(self, sigmas: list[float]) -> None:
        """heun evaluates the next step's noise level twice: at a step's end, and where the next begins."""
        steps, places = Steps(sigmas), []
        for number in range(3):
            places.append(steps.evaluate(sigmas[number]))
            steps.report(number)
            places.append(steps.evaluate(sigmas[number + 1]))
        assert places == [0, 1, 1, 2, 2, 3] and steps.numbers() == [0, 0, 1, 1, 2, 2]

    def test_a_sampler_that_goes_its_own_way_has_its_own_steps(self) -> None:
        steps = Steps([8.0, 4.0, 2.0, 0.0])
        places = []
        for number, sigma in enumerate([8.0, 7.0, 5.0, 3.0, 0.5]):
            places.append(steps.evaluate(sigma))
            steps.report(number)
        assert places == [0, 0, 0, 1, 2] and not steps.fits
        assert steps.total == 5 and steps.sigmas() == [8.0, 7.0, 5.0, 3.0, 0.5, 0.0]


class TestTrace:
    def test_a_step_is_its_first_evaluation_as_counted(self) -> None:
        steps = Steps([8.0, 4.0, 2.0, 0.0])
        for number in range(3):
            steps.evaluate(steps.levels[number])
            steps.report(number)
            steps.evaluate(steps.levels[number + 1] + 0.1)
        trace = Trace.counted(("cat",), steps, [evaluation(n) for n in range(6)])
        assert trace.maps().flatten(1).amax(1).tolist() == [0, 2, 4] and trace.evaluations == 6

    def test_a_rising_run_has_its_steps_in_their_order(self) -> None:
        """They were found by the nearest noise level, whatever their order was."""
        steps = reported_after_each(SEQUENCES["rising"])
        trace = Trace.counted(("cat",), steps, [evaluation(n) for n in range(4)])
        assert trace.maps().flatten(1).amax(1).tolist() == [0, 1, 2, 3]
        assert not trace.falls and trace.remaining() is None
        with pytest.raises(StepsError, match="The noise level rises in this run"):
            suggest(trace)

    def test_a_step_that_was_not_read_has_no_map_and_a_note(self) -> None:
        """Rule: the last map is never repeated, as if it agreed with itself."""
        seen = [evaluation(0), evaluation(1), evaluation(2, False, "why"), evaluation(3, False, "why")]
        trace = Trace.counted(("cat",), reported_after_each(SEQUENCES["falling"]), seen)
        assert trace.maps().isnan().flatten(1).all(1).tolist() == [False, False, True, True]
        found = agreement(trace.maps()).flatten()
        assert found[1] == 0 and found.isnan().tolist() == [False, False, True, True]
        assert trace.notes == ["Steps 3 to 4 have no maps: why."]

    def test_maps_of_several_sizes_are_brought_to_the_finest(self) -> None:
        """PatchModelAddDownscale makes them smaller in some steps."""
        sizes = [(3, 5), (3, 5), (6, 10), (6, 10)]
        seen = [Evaluation(torch.tensor([0.5]), torch.rand(1, 1, *size)) for size in sizes]
        trace = Trace.counted(("cat",), reported_after_each(SEQUENCES["falling"]), seen)
        assert trace.maps().shape == (4, 1, 1, 6, 10) and agreement(trace.maps()).isfinite().all()

    def test_nothing_watched_is_explained(self) -> None:
        with pytest.raises(StepsError, match="Nothing was watched: the run has no step"):
            Trace(("cat",), torch.tensor([1.0]), []).low()
        bare = Trace(("cat",), torch.tensor([1.0, 0.0]), [Evaluation(torch.tensor([0.5]))], 1, ["Why."])
        with pytest.raises(StepsError, match="No attention was read. Why."):
            bare.maps()

    def test_some_images_of_it(self) -> None:
        both = Evaluation(torch.tensor([0.1, 0.2]), torch.rand(2, 1, 2, 2), torch.tensor([1.0, 2.0]))
        trace = Trace(("cat",), torch.tensor([1.0, 0.0]), [both]).of([1])
        assert trace.guidance().tolist() == [[2.0]] and trace.images == 1


class TestRecords:
    """Rule: a report shows the run that made what it is given."""

    def test_each_image_finds_the_last_run_that_returned_it(self) -> None:
        records: Records[str] = Records()
        records.add("one", ["a", "b"])
        records.add("other", ["c"], ["c as stored"])
        assert records.find(["b", "c as stored", "?", "a"]) == [("one", 1), ("other", 0), None, ("one", 0)]
        records.add("again", ["b"])
        assert records.find(["b", "a"]) == [("again", 0), ("one", 0)] and records.last == "again"

    def test_they_are_bounded(self) -> None:
        records: Records[int] = Records(lambda size: size)
        for number in range(MOST_RUNS + 3):
            records.add(0, [str(number)])
        assert [f is None for f in records.find(["0", "2", "3"])] == [True, True, False]
        records.add(MOST_BYTES, ["big"])
        records.add(MOST_BYTES + 1, ["bigger"])
        assert records.find(["3", "big"]) == [None, None] and records.find(["bigger"]) != [None]


class TestRecord:
    def record(self, *kinds: tuple[bool, int, int]) -> Record:
        """guided, expected and taken rows of each step's one evaluation."""
        record = Record(Steps([float(n) for n in range(len(kinds), -1, -1)]), 1, "conditional")
        for number, (guided, expected, rows) in enumerate(kinds):
            record.steps.evaluate(record.steps.levels[number])
            record.evaluation(guided, expected)
            record.forward(rows)
            record.steps.report(number)
        return record

    def test_a_stock_run_is_counted_entry_by_entry(self) -> None:
        """Rule: prompts in time ranges hold in some steps only; the mean of the others is not theirs."""
        record = self.record((True, 3, 3), (True, 2, 2), (False, 2, 1), (False, 2, 1))
        assert record.stock == (9, False) and record.nfe == 7

    def test_beside_a_patch_that_skips_the_negative_nothing_is_saved(self) -> None:
        """Rule: what another patch saves is not the cutoff's; that it goes on so is a guess."""
        record = self.record((True, 2, 2), (True, 2, 1), (False, 2, 1), (False, 2, 1))
        assert record.stock == (5, True) and record.saved == 0
        assert "a stock run takes about 5 at most: 0% saved" in str(record)

    def test_a_step_is_guided_if_any_of_its_evaluations_was(self) -> None:
        """Rule: a step whose last evaluation was unguided was told as unguided."""
        record = Record(Steps([2.0, 1.0, 0.0]), 1, "conditional")
        for sigma, guided in ((2.0, True), (1.5, False), (1.0, True), (0.5, False)):
            record.steps.evaluate(sigma)
            record.evaluation(guided, 2)
            record.forward(2 if guided else 1)
            if not guided:
                record.steps.report(int(2 - sigma))
        assert str(record).startswith("6 NFE for 2 steps, 2 of them guided (2 in part); a stock run takes 8")


class TestFigures:
    def test_white_noise_has_its_share_of_low_frequencies(self) -> None:
        noise = torch.randn(8, 4, 64, 64, generator=torch.Generator().manual_seed(0))
        assert low_share(noise).mean() == pytest.approx(0.2, abs=0.01)
        assert low_share(noise + 100).mean() == pytest.approx(0.2, abs=0.01)

    def test_a_slope_is_low_and_a_chessboard_high(self) -> None:
        slope = torch.linspace(0, 6.28, 33)[:-1].sin().expand(1, 4, 32, 32)
        board = (torch.arange(32)[:, None] + torch.arange(32)).remainder(2).float().expand(1, 4, 32, 32)
        assert float(low_share(slope)) > 0.999 and float(low_share(board)) < 0.001

    def test_guidance_norm_is_that_of_the_noise_predictions(self) -> None:
        x, sigma, w = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 3.0]), 5.0
        e_c, e_u = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
        expected = (w * (e_c - e_u)).flatten(1).square().mean(1).sqrt()
        found = guidance_norm(x - 3 * e_c, x - 3 * e_u, sigma, w)
        assert torch.allclose(found, expected, atol=1e-5)

    def test_what_remains_falls_from_all_to_nothing(self) -> None:
        left = remaining(torch.tensor([[1.0], [2.0], [1.0]]), torch.tensor([4.0, 2.0, 1.0, 0.0]))
        assert left.flatten().tolist() == pytest.approx([1, 0.6, 0.2, 0])

    def test_a_run_without_guidance_has_none_left(self) -> None:
        assert remaining(torch.zeros(3, 1), torch.tensor([4.0, 2.0, 1.0, 0.0])).flatten().tolist() == [
            0,
            0,
            0,
            0,
        ]

    def test_agreement_is_the_f1_of_shapes(self) -> None:
        final = torch.zeros(4, 4)
        final[:2] = 1
        half = torch.zeros(4, 4)
        half[:1] = 1
        other = 1 - final
        found = agreement(torch.stack([other, half, final * 9 + 1]))
        assert found.tolist() == pytest.approx([0, 2 / 3, 1])
        assert shape(torch.ones(3, 3)).sum() == 0

    def test_layers_are_averaged_on_the_finest_grid_up_to_64(self) -> None:
        coarse, fine = torch.ones(1, 2, 4, 4), torch.zeros(1, 2, 8, 8)
        assert torch.equal(pooled([coarse, fine]), torch.full((1, 2, 8, 8), 0.5))
        assert pooled([torch.rand(1, 1, 128, 192)]).shape == (1, 1, 43, 64)


class TestInputs:
    def test_phrases(self) -> None:
        assert parse_phrases(" red  car \n\n cat\ncat") == ("red car", "cat")
        with pytest.raises(StepsError, match="51 phrases are too many: at most 50"):
            parse_phrases("\n".join(map(str, range(51))))

    def test_steps(self) -> None:
        assert parse_steps("1, 5 10", 10) == [0, 4, 9]
        assert parse_steps("", 20) == [0, 4, 8, 11, 15, 19] and parse_steps("", 3) == [0, 1, 2]
        assert spread(20, 1) == [19]
        with pytest.raises(StepsError, match='steps is "half": write numbers of steps'):
            parse_steps("half", 20)
        with pytest.raises(StepsError, match="steps has 0, but this run has the steps 1 to 20"):
            parse_steps("0", 20)


class TestEos:
    words = torch.arange(77.0).view(1, 77, 1)

    def test_they_come_in_order_and_the_last_fills_up(self) -> None:
        other = 1000 + self.words
        found = replace_eos(self.words, [(3, 77)], other, [(70, 77)])[0, :, 0]
        assert found[:3].tolist() == [0, 1, 2]
        assert found[3:10].tolist() == list(range(1070, 1077)) and set(found[10:].tolist()) == {1076}

    def test_the_context_given_is_left_alone(self) -> None:
        before = self.words.clone()
        replace_eos(self.words, [(3, 77)], None)
        assert torch.equal(self.words, before)


class TestSuggestion:
    def watched(self, guidance: list[float], agree_from: int = 0) -> Trace:
        """Noise levels 4, 3, 2, 1; the map has its final form from a step on."""
        final, other = torch.eye(4), 1 - torch.eye(4)
        steps: list[Evaluation | None] = []
        for step, norm in enumerate(guidance):
            maps = (final if step >= agree_from else other)[None, None]
            steps.append(Evaluation(torch.tensor([0.5]), maps, torch.tensor([norm])))
        return Trace(("cat",), torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0]), steps)

    def test_it_is_where_little_push_is_left(self) -> None:
        assert suggest(self.watched([1.0, 1.0, 0.1, 0.1])) == 0.5
        assert suggest(self.watched([1.0, 0.1, 0.1, 0.04])) == 0.25
        assert suggest(self.watched([1.0, 1.0, 1.0, 1.0])) == 1.0

    def test_the_maps_only_warn(self) -> None:
        settled, late = (self.watched([1.0, 0.1, 0.1, 0.04], agree_from=step) for step in (0, 2))
        assert suggest(settled) == suggest(late) == 0.25
        told = explain(late, 0.25)
        assert "Guide 0.25 of the steps, 1 of 4: 38% of the NFE saved" in told
        assert "a push of 0.240 to come, of 1.240 in all; the limit is 0.25. Up to 0.25 is little" in told
        assert "Warning: the maps of the phrases agree with their final form by 0.00: images whose" in told
        assert "by 1.00, which is good" in explain(settled, 0.25) and "Warning" not in explain(settled, 0.25)

    def test_a_report_says_what_its_figures_mean(self) -> None:
        push, maps = scales(self.watched([1.0, 1.0, 0.1, 0.1]), 0)
        assert push.startswith("After step 2 a push of 0.20 is still to come, of 2.20 in all. Up to 0.25 is")
        assert maps.startswith("Agreement of 0.5 and more is good")
        # What guidance would have had to do after a cut is not known, nor in a run that rises.
        assert scales(self.watched([1.0, 1.0, 0.1, 0.0]), 0) == [maps]
        rising = self.watched([1.0, 1.0, 0.1, 0.1])
        rising.sigmas = rising.sigmas.flip(0)
        assert scales(rising, 0) == [maps]

    def test_a_report_without_guidance_says_that_there_is_nothing_to_cut(self) -> None:
        """Rule: at cfg 1, as distilled models run, it spoke of images whose guidance had ended."""
        assert scales(self.watched([0.0, 0.0, 0.0, 0.0]), 0) == [
            "This run had no guidance: at cfg 1 there is nothing to cut."
        ]

    def test_without_maps_the_push_alone_decides(self) -> None:
        trace = self.watched([1.0, 1.0, 0.1, 0.1])
        trace.steps = [Evaluation(e.low, None, e.guidance) for e in trace.steps if e is not None]
        assert suggest(trace) == 0.5 and "agree" not in explain(trace, 0.5)

    def test_guidance_that_was_not_reported_is_not_taken_for_none(self) -> None:
        trace = self.watched([1.0, 1.0, 0.1, 0.1])
        trace.steps[2] = Evaluation(torch.tensor([0.5]))
        with pytest.raises(StepsError, match="Guidance was not reported in step 3 of this run"):
            suggest(trace)

    def test_a_run_that_was_cut_is_refused(self) -> None:
        with pytest.raises(StepsError, match="not guided to its end: watch one without a cutoff"):
            suggest(self.watched([1.0, 1.0, 0.1, 0.0]))
        with pytest.raises(StepsError, match="had no guidance: at cfg 1"):
            suggest(self.watched([0.0, 0.0, 0.0, 0.0]))
