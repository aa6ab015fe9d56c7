"""A training loop that keeps its state in a file and goes on where it was stopped."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import training
from torch import nn
from tqdm import tqdm


def save(value: Any, path: Path) -> None:
    """A file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(value, temporary)
    os.replace(temporary, path)


def half_cosine(step: int, steps: int, warm_up: int = 50) -> float:
    """Learning rate factor: linear warm-up, then a half cosine to zero."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


class Run:
    """A training loop's state on disk: modules, optimiser, generator and log, saved as one file."""

    def __init__(
        self,
        path: Path,
        parts: nn.ModuleDict,
        lr: float,
        steps: int,
        seed: int,
        warm_up: int = 50,
        optimiser: Callable[[nn.Module, float], Any] = training.adam,
        device: torch.device | str = "cpu",
    ) -> None:
        self.path, self.parts, self.steps = path, parts, steps
        self.optimiser = optimiser(parts, lr)
        self.rate = partial(half_cosine, steps=steps, warm_up=warm_up)
        self.lr = lr
        self.rng = torch.Generator(device).manual_seed(seed)
        self.step, self.log, self.seconds = 0, [], 0.0
        self.average: training.Average | None = None
        if self.path.exists():
            kept = torch.load(self.path, weights_only=True, map_location="cpu")
            parts.load_state_dict(kept["parts"])
            self.optimiser.load_state_dict(kept["optimiser"])
            try:
                self.rng.set_state(kept["rng"])
            except RuntimeError:
                # Of another kind of device: what has been drawn is not drawn again.
                self.rng.manual_seed(seed + kept["step"])
            self.step, self.log, self.seconds = kept["step"], kept["log"], kept["seconds"]
            self.kept_average = kept.get("average")

    def follow(self, decay: float) -> None:
        """Keep a moving average of the weights."""
        self.average = training.Average([self.parts], decay)
        if self.step and self.kept_average is not None:
            for value, old in zip(self.average.values, self.kept_average, strict=True):
                value.copy_(old)

    def keep(self) -> None:
        state = {
            "parts": self.parts.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.get_state(),
            "step": self.step,
            "log": self.log,
            "seconds": self.seconds,
        }
        if self.average is not None:
            state["average"] = self.average.values
        save(state, self.path)

    def loop(self, loss_of: Callable[[], torch.Tensor], every: int = 250) -> None:
        """Take the steps that are left; `loss_of` draws a batch and returns its loss."""
        bar = tqdm(total=self.steps, initial=self.step, desc=self.path.stem, mininterval=5)
        mean = None
        while self.step < self.steps:
            start = time.monotonic()
            for group in self.optimiser.param_groups:
                group["lr"] = self.lr * self.rate(self.step)
            loss = loss_of()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parts.parameters(), 1.0)
            self.optimiser.step()
            self.optimiser.zero_grad()
            if self.average is not None:
                self.average.update(self.step)
            # Read only now and then: reading waits for a GPU.
            loss = loss.detach()
            mean = loss if mean is None else mean.lerp(loss, 0.02)
            self.step += 1
            due = self.step % every == 0 or self.step == self.steps
            if due or self.step % 10 == 0:
                bar.set_postfix(loss=f"{float(mean):.4f}", refresh=False)
            self.seconds += time.monotonic() - start
            bar.update()
            if due:
                self.log.append([self.step, round(float(mean), 5), round(self.seconds, 1)])
                self.keep()
        bar.close()
