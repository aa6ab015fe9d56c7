"""A user at work on a graph, by Hypothesis: whatever was changed, cancelled and cached, a run gives what a
new ComfyUI would give.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from graphs import ACTIVE, BYPASSED, MUTED, WORKFLOWS, Graph
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

Prompt = dict[str, Any]
PICK = st.integers(0, 9999)


class Ended(Protocol):
    """How a prompt ended: done, refused, error or cancelled."""

    @property
    def how(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def results(self) -> dict[str, str]: ...


class Works(Protocol):
    """A ComfyUI that keeps what it has cached."""

    def run(self, prompt: Prompt, cancel_at: float = 0.0, raised: bool = False) -> Ended:
        """cancel_at: how late the user cancels, up to 1; 0: never."""

    def close(self) -> None: ...


def difference(ended: Ended, fresh: Ended) -> str:
    """What differs from what a new ComfyUI gives; empty if nothing does."""
    # Which of several wrong inputs ComfyUI names when it refuses a prompt has no order.
    told = [] if ended.how == "refused" else [one.message for one in (ended, fresh)]
    if ended.how != fresh.how or told[:1] != told[1:]:
        return f"{ended.how} {ended.message[:300]} instead of {fresh.how} {fresh.message[:300]}"
    names = ended.results.keys() | fresh.results.keys()
    if ended.how == "error":
        # What was run before it depends on the order.
        names = ended.results.keys() & fresh.results.keys()
    other = sorted(name for name in names if ended.results.get(name) != fresh.results.get(name))
    return f"other results of {other}" if other else ""


class Edits(RuleBasedStateMachine):
    """open, fresh, info: a ComfyUI, what a new one gives, and its /object_info; set by who runs it."""

    open: Callable[[], Works]
    fresh: Callable[[Prompt], Ended]
    info: Callable[[set[str]], Prompt]
    workflows: tuple[str, ...] = WORKFLOWS

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    @initialize(pick=PICK)
    def begin(self, pick: int) -> None:
        name = self.workflows[pick % len(self.workflows)]
        self.graph = Graph(name, type(self).info)
        self.works = type(self).open()
        self.done.append(name)
        self.queue()

    @rule(pick=PICK, value=PICK)
    def change(self, pick: int, value: int) -> None:
        self.done.append(self.graph.change(pick, value))

    @rule(pick=PICK, value=PICK)
    def change_and_queue(self, pick: int, value: int) -> None:
        self.done.append(self.graph.change(pick, value))
        self.queue()

    @rule(pick=PICK)
    def bypass(self, pick: int) -> None:
        self.done.append(self.graph.set_mode(pick, BYPASSED))

    @rule(pick=PICK)
    def mute(self, pick: int) -> None:
        self.done.append(self.graph.set_mode(pick, MUTED))

    @precondition(lambda self: any(self.graph.modes.values()))
    @rule(pick=PICK)
    def activate(self, pick: int) -> None:
        self.done.append(self.graph.set_mode(pick, ACTIVE))

    @precondition(lambda self: len(self.graph.nodes) < 30)
    @rule(pick=PICK, taker=PICK)
    def copy(self, pick: int, taker: int) -> None:
        self.done.append(self.graph.copy(pick, taker))

    @precondition(lambda self: any("c" in node for node in self.graph.nodes))
    @rule(pick=PICK)
    def remove(self, pick: int) -> None:
        self.done.append(self.graph.remove(pick))

    @rule()
    def queue(self) -> None:
        prompt = self.graph.prompt()
        self.done.append("queue")
        self.compare(prompt, self.works.run(prompt))

    @rule(pick=PICK, value=PICK, at=st.floats(0.01, 1.0), raised=st.booleans())
    def change_and_cancel(self, pick: int, value: int, at: float, raised: bool) -> None:
        self.done.append(self.graph.change(pick, value))
        prompt = self.graph.prompt()
        self.done.append(f"cancel at {at:.2f}")
        ended = self.works.run(prompt, at, raised)
        if ended.how != "cancelled":
            self.compare(prompt, ended)

    def compare(self, prompt: Prompt, ended: Ended) -> None:
        if other := difference(ended, type(self).fresh(prompt)):
            raise AssertionError(f"{other}; after {'; '.join(self.done)}")

    def teardown(self) -> None:
        if hasattr(self, "works"):
            self.works.close()
