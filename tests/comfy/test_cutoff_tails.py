"""What follows the cut, and cuts that wait until both predictions agree."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.samplers
import torch
from cutoff_runs import NEGATIVE, PROMPT, STEPS, cutoff, ours, stock
from winning_tickets.guidance.cutoff import CONDITIONAL, LOWER, UNCONDITIONAL, Cutoff, Similar


class TestTails:
    def test_unconditional_is_the_prediction_for_the_empty_prompt(
        self, model: Any, encode: Any, latent: Any
    ) -> None:
        """Eq. 9 of the paper: after the cut CFG with scale 0, on the empty prompt, not the negative."""
        expected = two_passes(model, encode, latent, "empty", 0.0)
        found, _ = ours(
            model, encode, latent, "euler", "simple", cutoff(2 / STEPS, UNCONDITIONAL, encode(""))
        )
        torch.testing.assert_close(found["samples"], expected, rtol=1e-4, atol=1e-4)
        with_negative, _ = ours(model, encode, latent, "euler", "simple", cutoff(2 / STEPS, UNCONDITIONAL))
        torch.testing.assert_close(
            with_negative["samples"],
            two_passes(model, encode, latent, "negative", 0.0),
            rtol=1e-4,
            atol=1e-4,
        )
        assert not torch.allclose(with_negative["samples"], expected, rtol=1e-2, atol=1e-2)

    def test_conditional_is_the_prediction_for_the_prompt(self, model: Any, encode: Any, latent: Any) -> None:
        expected = two_passes(model, encode, latent, "negative", 1.0)
        found, _ = ours(model, encode, latent, "euler", "simple", cutoff(2 / STEPS))
        torch.testing.assert_close(found["samples"], expected, rtol=1e-4, atol=1e-4)

    def test_lower_cfg_is_cfg_at_that_scale(self, model: Any, encode: Any, latent: Any) -> None:
        expected = two_passes(model, encode, latent, "negative", 2.5)
        found, report = ours(model, encode, latent, "euler", "simple", cutoff(2 / STEPS, LOWER, cfg=2.5))
        assert torch.equal(found["samples"], expected)
        assert report.startswith(f"{2 * STEPS} NFE for {STEPS} steps, 2 of them guided")

    def test_cfgpp_becomes_its_plain_form(self, model: Any, encode: Any, latent: Any) -> None:
        """With one prediction in both places, euler_cfg_pp's step is euler's."""
        expected = stock(model, encode, latent, "euler", "simple", cfg=1.0)
        found, _ = ours(model, encode, latent, "euler_cfg_pp", "simple", cutoff(0.0))
        torch.testing.assert_close(found["samples"], expected, rtol=1e-3, atol=1e-3)


def two_passes(model: Any, encode: Any, latent: Any, name: str, scale: float, kept: int = 2) -> torch.Tensor:
    """Euler with stock CFG at 5, after `kept` steps at `scale` against the prompt called `name`."""
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)

    class TwoPasses(comfy.samplers.CFGGuider):
        def predict_noise(self, x: Any, timestep: Any, model_options: Any = None, seed: Any = None) -> Any:
            late = float(timestep.max()) <= float(sigmas[kept]) * 1.00001
            which, cfg = (name, scale) if late else ("negative", 5.0)
            conds = self.conds[which], self.conds["positive"]
            return comfy.samplers.sampling_function(self.inner_model, x, timestep, *conds, cfg, model_options)

    guider = TwoPasses(model)
    guider.inner_set_conds({"positive": encode(PROMPT), "negative": encode(NEGATIVE), "empty": encode("")})
    noise = comfy.sample.prepare_noise(latent["samples"], 3)
    euler = comfy.samplers.sampler_object("euler")
    return guider.sample(noise, latent["samples"], euler, sigmas, callback=None, disable_pbar=True, seed=3)


class TestAdaptive:
    def similarities(self, model: Any, encode: Any, latent: Any) -> torch.Tensor:
        """Cosine of the two predictions [steps, images] of a guided run."""
        found = []

        def record(args: dict[str, Any]) -> Any:
            pair = (out.flatten(1).double() for out in args["conds_out"])
            found.append(torch.nn.functional.cosine_similarity(*pair))
            return args["conds_out"]

        clone = model.clone()
        clone.set_model_sampler_pre_cfg_function(record)
        stock(clone, encode, latent, "euler", "simple")
        return torch.stack(found)

    def test_an_image_is_the_same_alone_and_in_a_batch(self, spied: Any, encode: Any) -> None:
        model, seen = spied
        latent = {"samples": torch.zeros(3, 4, 19, 13), "batch_index": [0, 1, 2]}
        firsts = self.similarities(model, encode, latent)[0].sort().values
        trigger = Similar(float(firsts[1:].mean()), latest=0.8)
        for tail, empty in (
            (CONDITIONAL, None),
            (UNCONDITIONAL, encode("")),
            (UNCONDITIONAL, None),
            (LOWER, None),
        ):
            asked = Cutoff(trigger, tail, empty, 2.0)
            seen.clear()
            together, _ = ours(model, encode, latent, "euler", "simple", asked)
            assert seen[0][1] == 6
            ended = []
            for i in range(3):
                seen.clear()
                alone = {"samples": torch.zeros(1, 4, 19, 13), "batch_index": [i]}
                single, _ = ours(model, encode, alone, "euler", "simple", asked)
                torch.testing.assert_close(
                    single["samples"], together["samples"][i : i + 1], rtol=1e-3, atol=5e-3
                )
                ended.append(seen.total)
            assert tail == LOWER or len(set(ended)) > 1, "the images end guidance at different steps"

    def test_ends_as_soon_as_all_images_agree(self, spied: Any, encode: Any, latent: Any) -> None:
        model, seen = spied
        _, report = ours(model, encode, latent, "euler", "simple", Cutoff(Similar(-1.0)))
        assert seen.rows == [4] + [2] * (STEPS - 1)
        assert report.startswith(f"{STEPS + 1} NFE for {STEPS} steps, 1 of them guided")

    def test_ends_at_the_latest_step(self, spied: Any, encode: Any, latent: Any) -> None:
        model, seen = spied
        ours(model, encode, latent, "euler", "simple", Cutoff(Similar(1.0, latest=0.5)))
        assert seen.rows == [4] * 3 + [2] * 3
