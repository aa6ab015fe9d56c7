"""What is measured of a run, on values whose answer is known."""

from __future__ import annotations

import pytest
import torch
from winning_tickets.guidance.eos import replace_eos
from winning_tickets.guidance.suggest import explain, suggest
from winning_tickets.guidance.trace import (
    Course,
    Evaluation,
    StepsError,
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


def course_at(sigmas: list[float], evaluated: list[float]) -> Course:
    """Evaluations whose maps hold their own number."""
    course = Course(("cat",), torch.tensor([*sigmas, 0.0]))
    for number, sigma in enumerate(evaluated):
        maps = torch.full((1, 1, 2, 2), float(number))
        course.evaluations.append(Evaluation(sigma, torch.tensor([0.5]), maps, torch.tensor([1.0])))
    return course


class TestCourse:
    def test_each_step_has_the_last_evaluation_at_its_noise_level(self) -> None:
        course = course_at([8, 4, 2], [8, 4, 4, 2, 2])
        assert [int(s.maps.max()) for s in course.steps if s.maps is not None] == [0, 2, 4]

    def test_levels_of_a_samplers_own_are_taken_where_they_are_nearest(self) -> None:
        course = course_at([8, 4, 2], [7.5, 5, 3.9, 2.5, 1.9, 0.1])
        assert [int(s.maps.max()) for s in course.steps if s.maps is not None] == [0, 2, 4]

    def test_steps_without_a_map_take_the_one_before(self) -> None:
        course = course_at([8, 4, 2], [8, 4, 2])
        e = course.evaluations
        e[1] = Evaluation(e[1].sigma, e[1].low)
        assert course.maps().flatten(1).amax(1).tolist() == [0, 0, 2]
        e[0] = Evaluation(e[0].sigma, e[0].low)
        assert course.maps().flatten(1).amax(1).tolist() == [2, 2, 2]
        assert course.guidance().flatten().tolist() == [0, 0, 1]

    def test_nothing_watched_is_explained(self) -> None:
        with pytest.raises(StepsError, match="sample with the watched model first"):
            _ = Course(("cat",), torch.tensor([1.0, 0.0])).steps
        bare = Course(("cat",), torch.tensor([1.0, 0.0]), [Evaluation(1.0, torch.tensor([0.5]))], ["Why."])
        with pytest.raises(StepsError, match="No attention was read: Why."):
            bare.maps()


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
    def watched(self, guidance: list[float], agree_from: int = 0) -> Course:
        """Noise levels 4, 3, 2, 1; the map has its final form from a step on."""
        course = Course(("cat",), torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0]))
        final, other = torch.eye(4), 1 - torch.eye(4)
        for step, norm in enumerate(guidance):
            maps = (final if step >= agree_from else other)[None, None]
            told = torch.tensor([norm]) if norm else None
            course.evaluations.append(Evaluation(4.0 - step, torch.tensor([0.5]), maps, told))
        return course

    def test_it_is_where_little_push_is_left(self) -> None:
        assert suggest(self.watched([1.0, 1.0, 0.1, 0.1])) == 0.5
        assert suggest(self.watched([1.0, 0.1, 0.1, 0.04])) == 0.25
        assert suggest(self.watched([1.0, 1.0, 1.0, 1.0])) == 1.0

    def test_and_where_the_maps_have_settled(self) -> None:
        assert suggest(self.watched([1.0, 0.1, 0.1, 0.04], agree_from=2)) == 0.75
        told = explain(self.watched([1.0, 0.1, 0.1, 0.04], agree_from=2), 0.75)
        assert "Guide 0.75 of the steps, 3 of 4: 12% of the forwards saved" in told
        assert "a push of 0.040 to come, of 1.240 in all; the limit is 0.25" in told and "by 1.00" in told

    def test_without_maps_the_push_alone_decides(self) -> None:
        course = self.watched([1.0, 1.0, 0.1, 0.1])
        course.evaluations = [Evaluation(e.sigma, e.low, None, e.guidance) for e in course.evaluations]
        assert suggest(course) == 0.5 and "agree" not in explain(course, 0.5)

    def test_a_run_that_was_cut_is_refused(self) -> None:
        with pytest.raises(StepsError, match="not guided to its end: watch one without a cutoff"):
            suggest(self.watched([1.0, 1.0, 0.1, 0.0]))
        with pytest.raises(StepsError, match="had no guidance: at cfg 1"):
            suggest(self.watched([0.0, 0.0, 0.0, 0.0]))
