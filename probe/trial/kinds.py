"""The kinds of noise that a trial compares, each made as its node makes it where nothing else is set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import comfy.samplers
import torch

from ...tickets.bank.bank import TicketBank, model_changes
from ...tickets.grid import Grid
from ...tickets.layout.build import Layout
from ...tickets.layout.calibrate import STANDARDIZE
from ...tickets.layout.regions import Region, assign_cells, by_category
from ...tickets.layout.select import Rank
from ...tickets.noise import plain_noise
from ...tickets.prompts import JOINT, PLACE, make_prompts
from ...tickets.recent import Recent
from ...trial.cases import CONTROL, PLAIN, Case, turned
from ..attention.scorer import Scorer
from ..attention.tokens import PromptTokens
from ..build.looking import (
    AfterSteps,
    Looking,
    first_steps,
    looked_again,
    require_finite,
    rounds_worth,
    steps_after,
)
from ..build.searching import searched_swaps, searched_tickets
from ..collect.collect import CollectRequest
from ..layers.choose import AUTO, choose_layer, is_auto, listed
from ..model.architecture import unproven, unreadable
from ..model.family import ProbeError, latent_shape, require
from ..preview import ChoiceBar
from ..sampling.batches import Batches
from ..sampling.draw import Sampling
from ..sampling.samplers import forwards_about

PROMPTS_KEPT = 256
NONE = "none"
"""The layer of a trial that looks at no noise."""
SWAP, TICKETS, LOOKED = "block swap", "tickets", "tickets, looked at"
OTHERS = f"{CONTROL}: tickets of the other category"
NO_BANK = "Tickets were not tried: connect a bank of Collect Tickets to try them, too."
NO_OTHER = (
    "The control was left out: it needs tickets of another category, and some images of this trial have only"
    " one."
)


def best_of(seeds: int) -> str:
    return f"best of {seeds} seeds"


@dataclass(frozen=True)
class Choice:
    """Which kinds are tried beside plain noise, and how they look.

    best_of: seeds looked at for the best one, 0 leaves it out. tickets, looked, control: with a bank only.
    candidates, rounds: of block swap and of tickets that are looked at. after: the share of the images' steps
    after which the best are looked at again, 0: only the first step is.
    """

    best_of: int = 32
    swap: bool = True
    tickets: bool = True
    looked: bool = True
    control: bool = False
    candidates: int = 8
    rounds: int = 3
    after: float = 0.0

    def __post_init__(self) -> None:
        require("best of", self.best_of, 0)
        require("candidates", self.candidates, 1)
        require("rounds", self.rounds, 0)
        require_finite("look_after_percent", 100 * self.after)

    @property
    def kinds(self) -> tuple[Any, ...]:
        return self.best_of, self.swap, self.tickets, self.looked, self.control

    @property
    def named(self) -> list[str]:
        """Kinds beside plain noise, for people."""
        found = [best_of(self.best_of)] if self.best_of else []
        found += [SWAP] if self.swap else []
        return found + ([TICKETS] if self.tickets or self.looked or self.control else [])


@dataclass(frozen=True)
class Kind:
    """make: the noise [C, h, w] of a case, the same in any batch; looks: at how many noises for each, and
    deeper: at how many of them after some steps."""

    name: str
    make: Callable[[Case], torch.Tensor]
    looks: int = 0
    deeper: int = 0


class Noises:
    """Makes the noises of cases, looking at them by one layer of a model.

    layer: a name, or `auto`: the bank's; without a bank, if any kind of `choice` looks, `kept`, by which
    images of the same trial were looked at before, or else what Arrange Noise by Regions would choose for
    all categories. width, height: of the image in pixels. sampling: of the images, for looks after some of
    their steps. latent: the shape of one, as the model takes it. notes: for people.
    """

    def __init__(
        self,
        model: Any,
        clip: Any,
        node: str,
        categories: Sequence[str],
        width: int,
        height: int,
        layer: str = AUTO,
        bank: TicketBank | None = None,
        choice: Choice = Choice(),
        kept: str = "",
        sampling: Sampling | None = None,
    ) -> None:
        self.notes, self.node = list[str](), node
        choice = self._possible(model, choice)
        # Collected on another kind of model where nothing can be made of it.
        bank = None if unreadable(model) else bank
        self.model, self.bank, self.choice = model, bank, choice
        self._sampling = sampling if choice.after else None
        # Some schedulers take other steps than were asked for.
        self._steps = len(sampling.sigmas(model)) - 1 if sampling and self._sampling else 0
        if self._sampling and self._steps < 2:
            raise ProbeError(
                f"{node}: to look after some steps, raise steps (now {self._sampling.steps}) or set"
                " look_after_percent to 0."
            )
        # What was learnt of how many images go at once holds for all cases.
        self._batches: Batches | None = None
        self._encoded: Recent[Any] = Recent(PROMPTS_KEPT)
        self._latest: Looking | None = None
        asked = CollectRequest(tuple(categories), 1, 0, width, height, layer)
        if is_auto(asked) and bank is not None:
            asked = replace(asked, layer=bank.recipe.layer)
        elif is_auto(asked) and (choice.best_of or choice.swap) and kept:
            asked = replace(asked, layer=kept)
            self.notes.append(f"layer auto: {kept}, as for the images that were drawn before.")
        elif is_auto(asked) and (choice.best_of or choice.swap):
            asked, why = choose_layer(model, clip, asked, node, ChoiceBar())
            self.notes.append(why)
        self.latent = latent_shape(model, width, height)
        channels, *_, latent_height, latent_width = self.latent
        self.shape = channels, latent_height, latent_width
        self.layer = NONE
        if bank is not None:
            self._of_bank = Scorer.of_bank(bank.recipe, model, clip, node, width, height)
        if not unreadable(model):
            self.layer = NONE if is_auto(asked) else asked.layer
            if bank is not None and bank.recipe.layer == self.layer:
                self.scorer = self._of_bank
            else:
                layers = None if is_auto(asked) else self.layer
                self.scorer = Scorer(model, clip, node, width, height, layers)
            self.grid = self.scorer.grid()
        self._prompts: Recent[PromptTokens] = Recent(PROMPTS_KEPT)
        if bank is not None:
            self._check(bank, categories)

    def _possible(self, model: Any, choice: Choice) -> Choice:
        """What of a choice this MODEL can do; ProbeError if of one that was made there is nothing left."""
        why = unreadable(model)
        nothing = Choice(best_of=0, swap=False, tickets=False, looked=False)
        left = nothing if why else choice
        moved = left.named not in ([], [best_of(left.best_of)])
        if note := unproven(model, "") if moved else "":
            self.notes.append(note)
        names = [name for name in choice.named if name not in left.named]
        if not names:
            return left
        if not left.named and choice.kinds != Choice().kinds:
            raise ProbeError(
                f"{self.node}: what kinds asks for ({listed(names)}) cannot be tried. {why} Choose usual"
                " ones to try plain noise alone."
            )
        were = "was" if len(names) == 1 else "were"
        self.notes.append(f"{listed(names).capitalize()} {were} left out. {why}")
        return left

    def _check(self, bank: TicketBank, categories: Sequence[str]) -> None:
        for category in categories:
            bank.index(category)
        if changed := model_changes(self.scorer.fingerprint, bank.recipe.fingerprint):
            self.notes.append(
                f"Warning: the bank was collected with other settings. What differs: {', '.join(changed)}."
            )

    def kinds(self, cases: Sequence[Case]) -> list[Kind]:
        """What these cases are drawn with, plain noise first; the control only if each has two categories."""
        choice, found = self.choice, [Kind(PLAIN, self._plain)]
        if not choice.named:
            return found
        again = partial(looked_again, self.model)
        rounds = rounds_worth(self.model, choice.candidates, choice.rounds, bool(choice.after))
        looks = choice.candidates * (1 + rounds), again(choice.candidates)
        if choice.best_of:
            make = partial(self._swapped, choice.best_of, 0)
            found.append(Kind(best_of(choice.best_of), make, choice.best_of, again(choice.best_of)))
        if choice.swap:
            found.append(Kind(SWAP, partial(self._swapped, choice.candidates, choice.rounds), *looks))
        if self.bank is not None:
            if choice.tickets:
                found.append(Kind(TICKETS, self._tickets))
            if choice.looked:
                found.append(Kind(LOOKED, partial(self._looked, choice.candidates, choice.rounds), *looks))
            if choice.control and any(len(case.categories) < 2 for case in cases):
                self.notes.append(NO_OTHER)
            elif choice.control:
                found.append(Kind(OTHERS, self._others))
        elif choice.tickets or choice.looked or choice.control:
            self.notes.append(NO_BANK)
        baseline = self.scorer.baseline.noises
        if baseline and any(kind.looks for kind in found):
            about = baseline * self.scorer.share
            self.notes.append(
                f"Attention is compared with its mean over {baseline} other noises: about {about:.0f}"
                " forwards, once for each prompt, not counted for any image."
            )
        return found

    def cost(self, kind: Kind) -> float:
        """Of one noise of a kind, in forwards of one image, as far as they can be known beforehand."""
        if not kind.looks:
            return 0.0
        scorer = self._of_bank if kind.name == LOOKED else self.scorer
        if not self._sampling:
            return kind.looks * scorer.share
        how, steps = self._sampling, steps_after(self.choice.after, self._steps)
        each = forwards_about(how.sampler_name, how.cfg, steps) + scorer.share
        return kind.looks * scorer.share + kind.deeper * each

    def make(self, kind: Kind, case: Case) -> tuple[torch.Tensor, float]:
        """The noise [C, h, w] of a case, and the forwards of one image that the looks at it took."""
        self._latest = None
        noise = kind.make(case)
        return noise, self._latest.forwards if self._latest else 0.0

    def _plain(self, case: Case) -> torch.Tensor:
        return plain_noise(case.seed, self.shape)[0]

    def _swapped(self, candidates: int, rounds: int, case: Case) -> torch.Tensor:
        groups = by_category(case.regions, assign_cells(case.regions, *self.grid.exact))
        looking = self._looking(self.scorer, case, PLACE, self.grid)
        make = searched_swaps(lambda index: groups, self.shape, looking, candidates, rounds)
        return make(case.seed, 0)

    def _layout(self, regions: Sequence[Region]) -> Layout:
        assert self.bank is not None
        _, height, width = self.shape
        return Layout(self.bank, tuple(regions), width, height, Rank(), calibration=STANDARDIZE)

    def _tickets(self, case: Case) -> torch.Tensor:
        return self._layout(case.regions).build(case.seed)[0]

    def _others(self, case: Case) -> torch.Tensor:
        return self._layout(turned(case.regions)).build(case.seed)[0]

    def _looked(self, candidates: int, rounds: int, case: Case) -> torch.Tensor:
        layout = self._layout(case.regions)
        looking = self._looking(self._of_bank, case, layout.bank.recipe.template, layout.grid)
        return searched_tickets(layout, looking, candidates, rounds)(case.seed, 0)

    def _looking(self, scorer: Scorer, case: Case, template: str, grid: Grid) -> Looking:
        """As the nodes look: all categories named in one prompt; and after steps of the image itself."""
        self._latest = self._look(scorer, case, template, grid)
        return self._latest

    def _look(self, scorer: Scorer, case: Case, template: str, grid: Grid) -> Looking:
        (prompt,) = make_prompts(case.categories, JOINT, template)
        key = prompt.text, tuple(case.categories)
        tokens = self._prompts.get(key, lambda: scorer.encode([prompt])[0])
        # Once for a prompt, so it is no image's look.
        scorer.learn_baseline([tokens])
        how = self._sampling
        if how is None:
            return Looking(scorer, [tokens], grid)
        after = AfterSteps(
            self.choice.after,
            how.steps,
            how.cfg,
            comfy.samplers.sampler_object(how.sampler_name),
            how.sigmas(scorer.model),
            self._encode(case.prompt.text),
            self._encode(how.negative),
        )
        latent, text = scorer.latent, prompt.text
        steps = first_steps(scorer.model, scorer.clip, self.node, latent, text, after, True, self._batches)
        self._batches = steps.batches
        return Looking(scorer, [tokens], grid, steps, case.seed)

    def _encode(self, text: str) -> Any:
        clip = self.scorer.clip
        return self._encoded.get(text, lambda: clip.encode_from_tokens_scheduled(clip.tokenize(text)))
