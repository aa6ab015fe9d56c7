"""ComfyUI imported on the CPU, with tiny random models of its own classes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent.parent
COMFYUI = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".comfyui" / "ComfyUI")

# `cutoff_runs` and the benchmarks' `forwards` are importable.
sys.path += [str(Path(__file__).parent), str(ROOT / "benchmarks")]
if str(COMFYUI) not in sys.path:
    gpu = os.environ.get("DEMO_DEVICE") == "cuda"
    arguments, sys.argv = sys.argv, ["comfyui", *([] if gpu else ["--cpu"])]
    sys.path.insert(0, str(COMFYUI))
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management

    # As main.py has it: an older ComfyUI's `nodes` puts the folder of comfy/utils.py first.
    import utils.extra_config  # noqa: F401

    sys.argv = arguments

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.patcher_extension
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.text_encoders.pixart_t5
import comfy.text_encoders.sd2_clip
import folder_paths
from forwards import Forwards, counted

WIDTH = 32
TYPES = comfy.model_base.ModelType
CLIP_SIZES = {
    "num_hidden_layers": 3,
    "hidden_size": WIDTH // 2,
    "num_attention_heads": 2,
    "intermediate_size": WIDTH,
    "hidden_act": "gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
ENCODERS: dict[str, tuple[Any, Any]] = {
    "L": (comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel),
    "H": (comfy.text_encoders.sd2_clip.SD2Tokenizer, comfy.text_encoders.sd2_clip.SD2ClipModel),
    "L and G": (comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel),
    "G": (comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLRefinerClipModel),
}
T5 = {
    "num_layers": 1,
    "d_model": WIDTH,
    "d_ff": WIDTH,
    "d_kv": WIDTH // 2,
    "num_heads": 2,
    "vocab_size": 32128,
    "model_type": "t5",
    "dense_act_fn": "gelu_pytorch_tanh",
    "is_gated_act": True,
}
KINDS = {
    "SD1.x": (TYPES.EPS, comfy.latent_formats.SD15),
    "SD2.x v": (TYPES.V_PREDICTION, comfy.latent_formats.SD15),
    "SDXL": (TYPES.EPS, comfy.latent_formats.SDXL),
}


@pytest.fixture(autouse=True)
def forget_models() -> Iterator[None]:
    """While ComfyUI knows of a model without its MODEL, it collects garbage at every load, which takes ever
    longer; the weights of some tiny ones live on in caches."""
    yield
    known = comfy.model_management.current_loaded_models
    known[:] = [loaded for loaded in known if not loaded.is_dead()]


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is remembered from test to test, or in the user's own folder."""
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    return tmp_path / "user"


def randomise(module: torch.nn.Module, seed: int) -> None:
    """ComfyUI's modules start uninitialised; every weight here is random, so nothing is a no-op."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        fan = parameter[0].numel() if parameter.dim() > 1 else 1
        value = torch.randn(parameter.shape, generator=generator) * (1.5 / fan**0.5 if fan > 1 else 0.1)
        if parameter.dim() == 1 and "norm" in name or name.endswith(".0.weight"):
            value = value + 1 if parameter.dim() == 1 else value
        parameter.data = value


def tiny_unet(**changes: Any) -> dict[str, Any]:
    """Three levels with cross-attention at every one: maps of the latent's size, half and a quarter."""
    return {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": WIDTH,
        "channel_mult": [1, 2, 2],
        "num_res_blocks": [1, 1, 1],
        "transformer_depth": [1, 1, 2],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1],
        "transformer_depth_middle": 1,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "use_temporal_attention": False,
        "use_checkpoint": False,
        "legacy": False,
        "num_heads": 2,
        "num_head_channels": -1,
        "context_dim": WIDTH,
        "adm_in_channels": None,
        **changes,
    }


@pytest.fixture(scope="session")
def randomised() -> Callable[[torch.nn.Module, int], None]:
    return randomise


@pytest.fixture(scope="session")
def unet_settings() -> Callable[..., dict[str, Any]]:
    return tiny_unet


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    def make(
        seed: int = 0,
        model_type: Any = comfy.model_base.ModelType.EPS,
        latent_format: Any = comfy.latent_formats.SD15,
    ) -> Any:
        class Tiny(comfy.supported_models_base.BASE):
            unet_config: dict[str, Any] = {}
            unet_extra_config: dict[str, Any] = {}
            memory_usage_factor = 1.0

        Tiny.latent_format = latent_format
        config = Tiny(tiny_unet())
        config.model_type = lambda state_dict, prefix="": model_type
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({}, "", device=torch.device("cpu"))
        randomise(model.diffusion_model, seed)
        cpu = torch.device("cpu")
        return comfy.model_patcher.CoreModelPatcher(model, load_device=cpu, offload_device=cpu)

    return make


@pytest.fixture
def model(make_model: Callable[..., Any]) -> Any:
    return make_model()


@pytest.fixture(params=KINDS)
def any_model(request: pytest.FixtureRequest, make_model: Callable[..., Any]) -> Any:
    """Of every prediction type and latent format that the pack is for."""
    return make_model(0, *KINDS[request.param])


@pytest.fixture(scope="session")
def first_input() -> Callable[[Any], tuple[Any, list[torch.Tensor]]]:
    """A clone of MODEL, and what its UNet was given, call by call."""

    def spy(model: Any) -> tuple[Any, list[torch.Tensor]]:
        seen: list[torch.Tensor] = []

        def wrapper(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            seen.append(x.clone())
            return executor(x, *args, **kwargs)

        clone = model.clone()
        key = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
        clone.add_wrapper_with_key(key, "spy", wrapper)
        return clone, seen

    return spy


@pytest.fixture(scope="session")
def clip() -> Any:
    config = {
        "num_hidden_layers": 1,
        "hidden_size": WIDTH,
        "num_attention_heads": 2,
        "intermediate_size": WIDTH,
        "hidden_act": "quick_gelu",
        "max_position_embeddings": 77,
        "eos_token_id": 49407,
    }
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    options = {"dtype": torch.float32, "clip_l_model_config": config}
    clip = comfy.sd.CLIP(target, parameters=1, model_options=options)
    randomise(clip.cond_stage_model, 1)
    return clip


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Any]:
    """By name of ENCODERS. chunks: tokens that an encoder reads at once where that is not 77, l=248."""

    def make(name: str, **chunks: int) -> Any:
        target = comfy.supported_models_base.ClipTarget(*ENCODERS[name])
        configs = {
            f"clip_{n}_model_config": {**CLIP_SIZES, "max_position_embeddings": chunks.get(n, 77)}
            for n in "lgh"
        }
        lengths = {f"clip_{n}_max_length": size for n, size in chunks.items()}
        options = {"dtype": torch.float32, **configs}
        clip = comfy.sd.CLIP(target, parameters=1, model_options=options, tokenizer_data=lengths)
        randomise(clip.cond_stage_model, 1)
        return clip

    return make


@pytest.fixture(scope="session")
def t5() -> Any:
    """A text encoder that is no CLIP."""
    pixart = comfy.text_encoders.pixart_t5
    target = comfy.supported_models_base.ClipTarget(pixart.PixArtTokenizer, pixart.PixArtT5XXL)
    options = {"dtype": torch.float32, "t5xxl_model_config": T5}
    return comfy.sd.CLIP(target, parameters=1, model_options=options)


@pytest.fixture
def sdxl() -> Any:
    """SDXL's own model class, its size conditioning included, with a tiny UNet."""
    pooled, sizes = WIDTH // 2, 6 * 256
    changes = {"adm_in_channels": pooled + sizes, "num_classes": "sequential"}
    config = comfy.supported_models.SDXL(tiny_unet(**changes))
    # SDXL's heads of 64 channels are wider than this UNet.
    config.unet_config.update(num_heads=2, num_head_channels=-1)
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device=torch.device("cpu"))
    randomise(model.diffusion_model, 0)
    cpu = torch.device("cpu")
    return comfy.model_patcher.CoreModelPatcher(model, load_device=cpu, offload_device=cpu)


@pytest.fixture(scope="session")
def encode(clip: Any) -> Callable[[str], Any]:
    return lambda text: clip.encode_from_tokens_scheduled(clip.tokenize(text))


@pytest.fixture
def control_net(randomised: Any, unet_settings: Any) -> Any:
    """With random weights."""
    import comfy.controlnet
    from comfy.cldm.cldm import ControlNet

    settings = unet_settings()
    settings.pop("out_channels")
    settings.pop("transformer_depth_output")
    net = ControlNet(
        hint_channels=3, **settings, operations=comfy.ops.disable_weight_init, dtype=torch.float32
    )
    randomised(net, 5)
    return comfy.controlnet.ControlNet(net, load_device=torch.device("cpu"))


@pytest.fixture
def latent() -> dict[str, Any]:
    """Two images of odd sizes: no level of the UNet halves them evenly."""
    return {"samples": torch.zeros(2, 4, 19, 13)}


@pytest.fixture
def spied(model: Any) -> tuple[Any, Forwards]:
    """A clone of MODEL, and each of its forwards, counted apart from the pack."""
    return counted(model)
