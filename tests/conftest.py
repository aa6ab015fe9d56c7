"""Makes the pack importable as `winning_tickets`.

The pack's root is never on sys.path: its `nodes` would hide ComfyUI's.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The models of the tests are too small for several threads, and threads of several processes wait for
# each other: workers are what uses the cores. Set before torch is imported; servers inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Last, so that nothing of ComfyUI's is hidden.
sys.path.append(str(ROOT / "scripts"))

if "winning_tickets" not in sys.modules:
    spec = importlib.util.spec_from_file_location(
        "winning_tickets", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["winning_tickets"] = module
    spec.loader.exec_module(module)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The quick tests first, the server and the browser last.
    order = {"unit": 0, "comfy": 1, "server": 2, "browser": 3}
    items.sort(key=lambda item: order.get(item.path.parent.name, 0))
