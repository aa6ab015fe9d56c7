"""Moments at which a user may cancel: each call of a module of any model."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch


class Moments:
    """Counts the calls of modules; at the chosen one the user cancels.

    raised: the interrupt comes out of the module itself. Else ComfyUI's flag is set there, as by the page,
    and whatever looks at it next raises.
    """

    def __init__(self) -> None:
        self.count, self.at, self.raised = 0, 0, False
        self._hook = torch.nn.modules.module.register_module_forward_pre_hook(self._called)

    def _called(self, module: Any, inputs: Any) -> None:
        self.count += 1
        if self.count == self.at:
            if self.raised:
                raise comfy.model_management.InterruptProcessingException
            comfy.model_management.interrupt_current_processing()

    def begin(self, at: int = 0, raised: bool = False) -> None:
        self.count, self.at, self.raised = 0, at, raised

    def close(self) -> None:
        self._hook.remove()
