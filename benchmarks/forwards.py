"""Forwards of a model as ComfyUI makes them, counted apart from the pack; for tests and benchmarks."""

from __future__ import annotations

from typing import Any, NamedTuple

from comfy.patcher_extension import WrappersMP


class Forward(NamedTuple):
    """One call of the model: the noise level, and the rows of its batch (images times prompts)."""

    sigma: float
    rows: int


class Forwards(list[Forward]):
    """Every forward since the last `clear`, in order."""

    @property
    def rows(self) -> list[int]:
        return [forward.rows for forward in self]

    @property
    def total(self) -> int:
        """Rows of all forwards together."""
        return sum(self.rows)


def counted(model: Any) -> tuple[Any, Forwards]:
    """A clone of MODEL, and the forwards that it, and what is made of it, will take.

    Counted where BaseModel.apply_model is called (APPLY_MODEL): every kind of model passes there, also one
    whose forward another patch replaces.
    """
    seen = Forwards()

    def count(executor: Any, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(Forward(float(t.max()), len(x)))
        return executor(x, t, *args, **kwargs)

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "count", count)
    return clone, seen
