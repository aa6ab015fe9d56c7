"""A node pack for tests: counts, inside a running ComfyUI, what a pack keeps and what it has left on models.

GET /inside?pack=winning-tickets: {figure: number}. Figures of one name are comparable over the server's life.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import sys
import types
from collections import Counter
from collections.abc import Iterator, Sized
from typing import Any

import torch
from aiohttp import web
from comfy.model_patcher import ModelPatcher
from server import PromptServer

CORE = ("comfy", "comfy_execution", "comfy_extras", "execution", "nodes", "latent_preview", "folder_paths")
HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_state_dict_hooks", "_load_state_dict_pre_hooks"),
)


def modules_of(pack: str) -> Iterator[types.ModuleType]:
    """Modules of a pack, by its folder."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        if f"/custom_nodes/{pack}/" in file.replace("\\", "/"):
            yield module


def caches(pack: str) -> Counter[str]:
    """Entries of whatever the pack's modules keep: containers, and what functions remember."""
    found: Counter[str] = Counter()
    for module in modules_of(pack):
        own = module.__name__.rsplit("custom_nodes", 1)[-1]
        for name, value in vars(module).items():
            if name.startswith("__") or isinstance(value, (str, bytes, tuple, types.ModuleType, type)):
                continue
            if hasattr(value, "cache_info"):
                found[f"{own}.{name}"] = value.cache_info().currsize
            elif isinstance(value, Sized) and type(value).__module__ != "torch":
                found[f"{own}.{name}"] = len(value)
    return found


def code_of_core() -> dict[str, int]:
    """Which function stands under each name of ComfyUI's modules and classes, and of torch's."""
    found: dict[str, int] = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] not in CORE and name not in ("torch", "torch.nn.functional"):
            continue
        for key, value in list(vars(module).items()):
            if isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
                found[f"{name}.{key}"] = id(value)
            elif isinstance(value, type) and value.__module__ == name:
                methods = {k: v for k, v in vars(value).items() if isinstance(v, types.FunctionType)}
                found |= {f"{name}.{key}.{k}": id(v) for k, v in methods.items()}
    return found


FIRST: dict[str, int] = {}


def figures(pack: str) -> dict[str, int]:
    """Of all that is alive after a garbage collection; what is free goes back to the system, on Linux."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    found: Counter[str] = Counter()
    every = gc.get_objects()
    found["objects"] = len(every)
    for value in every:
        kind = type(value)
        # Proxies answer to isinstance, but may fail.
        if issubclass(kind, torch.nn.Module):
            parts = vars(value)
            found["hooks on modules"] += sum(len(parts.get(name) or ()) for name in HOOKS)
            found["functions replaced on modules"] += sum(callable(parts.get(n)) for n in ("forward", "call"))
        elif issubclass(kind, ModelPatcher):
            found["MODELs and the like"] += 1
            if value.parent is None:
                # Those that loaders made: everything else is a clone.
                found["patches on loaders' models"] += _patches(value)
            found["object patches in effect"] += len(value.object_patches_backup)
        elif issubclass(kind, torch.Tensor):
            found["tensors"] += 1
        elif f"custom_nodes/{pack}." in str(kind.__module__).replace("\\", "/"):
            found["objects of the pack"] += 1
    kept = caches(pack)
    found["entries kept by the pack's modules"] = sum(kept.values())
    now = code_of_core()
    FIRST.update({name: own for name, own in now.items() if name not in FIRST})
    found["functions of ComfyUI replaced"] = sum(FIRST[name] != own for name, own in now.items())
    found["running tasks"] = len(asyncio.all_tasks(PromptServer.instance.loop))
    return dict(found)


def _patches(model: Any) -> int:
    """Whatever a patch of any kind adds to a MODEL."""
    options = model.model_options.get("transformer_options", {})
    held = [model.patches, model.object_patches, model.callbacks, model.wrappers, model.attachments]
    held += [model.injections, model.additional_models, model.hook_patches]
    held += [v for v in options.values() if isinstance(v, (dict, list))]
    rest = [v for k, v in model.model_options.items() if k != "transformer_options"]
    return sum(map(_leaves, held)) + sum(map(_leaves, rest))


def _leaves(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_leaves, value.values()))
    return sum(map(_leaves, value)) if isinstance(value, (list, tuple)) else 1


async def _answer(request: web.Request) -> web.Response:
    found = await asyncio.to_thread(figures, request.query["pack"])
    return web.json_response({"figures": found, "caches": caches(request.query["pack"])})


PromptServer.instance.routes.get("/inside")(_answer)
NODE_CLASS_MAPPINGS: dict[str, Any] = {}
