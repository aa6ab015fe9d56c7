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
        """cancel_at: after which share of the work the user cancels; 0: never."""

    def close(self) -> None: ...


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

    @rule(at=st.floats(0.01, 1.0), raised=st.booleans())
    def cancel(self, at: float, raised: bool) -> None:
        prompt = self.graph.prompt()
        self.done.append(f"cancel at {at:.2f}")
        ended = self.works.run(prompt, at, raised)
        if ended.how != "cancelled":
            self.compare(prompt, ended)

    def compare(self, prompt: Prompt, ended: Ended) -> None:
        expected = type(self).fresh(prompt)
        same = ended.how == expected.how and ended.message == expected.message
        other = [
            node
            for node in ended.results.keys() | expected.results.keys()
            if ended.results.get(node) != expected.results.get(node)
        ]
        # After an error, what else was run depends on the order.
        if not same or (other and ended.how == "done"):
            told = "; ".join(self.done)
            raise AssertionError(
                f"{ended.how} {ended.message[:300]} instead of {expected.how} {expected.message[:300]},"
                f" others: {sorted(other)}; after {told}"
            )

    def teardown(self) -> None:
        if hasattr(self, "works"):
            self.works.close()
