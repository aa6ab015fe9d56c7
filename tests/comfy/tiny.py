"""Tiny random transformers and text encoders of ComfyUI's own classes, with the tokenizers that it ships."""

from __future__ import annotations

import io
import string
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from unittest import SkipTest

import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.supported_models_base
import comfy.text_encoders.anima
import comfy.text_encoders.aura_t5
import comfy.text_encoders.cosmos
import comfy.text_encoders.flux
import comfy.text_encoders.hunyuan_image
import comfy.text_encoders.hydit
import comfy.text_encoders.lt
import comfy.text_encoders.lumina2
import comfy.text_encoders.pixart_t5
import comfy.text_encoders.qwen_image
import comfy.text_encoders.sd3_clip
import comfy.text_encoders.wan
import comfy.text_encoders.z_image
import comfyui_version
import sentencepiece
import torch

CPU = torch.device("cpu")
CLIP = {
    "num_hidden_layers": 3,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_act": "gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
T5 = {
    "num_layers": 1,
    "d_model": 64,
    "d_ff": 32,
    "d_kv": 16,
    "num_heads": 2,
    "vocab_size": 32128,
    "model_type": "t5",
    "dense_act_fn": "gelu_pytorch_tanh",
    "is_gated_act": True,
}

LLM = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def needs(version: str, what: str) -> None:
    """Skip the test that asks for what an older ComfyUI has not."""
    if is_older(version):
        raise SkipTest(f"{what} needs ComfyUI {version}; this is {comfyui_version.__version__}.")


def is_older(version: str) -> bool:
    here, wanted = (tuple(map(int, v.split(".")[:3])) for v in (comfyui_version.__version__, version))
    return here < wanted


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Every weight random, so that nothing is a no-op; large tables share memory between their rows."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if ".visual." in name:
            # A language model's eyes are large, and closed.
            continue
        if parameter.dim() == 2 and parameter.numel() >= 2**20:
            values = torch.randn(sum(parameter.shape), generator=generator)
            scale = 1 if "embed" in name or "shared" in name else 1.5 / parameter.shape[1] ** 0.5
            parameter.data = (values * scale).as_strided(parameter.shape, (1, 1))
            continue
        fan = parameter[0].numel() if parameter.dim() > 1 else 1
        value = torch.randn(parameter.shape, generator=generator) * (1.5 / fan**0.5 if fan > 1 else 0.1)
        value = value + 1 if parameter.dim() == 1 and "norm" in name else value
        parameter.data = value.to(parameter.dtype)
    for name, buffer in module.named_buffers():
        if name.endswith("pos_embed"):  # SD3's
            buffer.data = torch.randn(buffer.shape, generator=generator) * 0.2


def make_model(kind: Any, settings: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    config = kind(settings)
    # As detection leaves it: the base class adds what UNets have.
    config.unet_config = dict(settings)
    config.set_inference_dtype(dtype, None)
    model = config.get_model({}, "", device=CPU)
    randomise(model.diffusion_model, 0)
    return comfy.model_patcher.CoreModelPatcher(model, load_device=CPU, offload_device=CPU)


def make_clip(tokenizer: Any, encoder: Any, data: Any = None, **configs: dict[str, Any]) -> Any:
    """data: of a tokenizer that comes with the weights."""
    target = comfy.supported_models_base.ClipTarget(tokenizer, encoder)
    options = {"dtype": torch.float32, **{f"{name}_model_config": c for name, c in configs.items()}}
    clip = comfy.sd.CLIP(target, parameters=1, model_options=options, tokenizer_data=data or {})
    randomise(clip.cond_stage_model, 1)
    return clip


@dataclass(frozen=True)
class Family:
    """model, clip: make them, once. latent: without batch, of odd sides. layers: names of all.

    replaced: what patches_replace["dit"] calls a block, where it can replace any. tokens: of the text, where
    that is always the same. sequence: of a forward's text and image tokens, the parts of the joint attention
    in order.
    """

    model: Callable[[], Any]
    clip: Callable[[], Any]
    latent: tuple[int, ...]
    layers: tuple[str, ...]
    joint: bool = True
    patch: int = 2
    pixels: int = 8
    replaced: str = "double_block"
    tokens: int = 0
    sequence: Callable[[int, int], list[tuple[str, int]]] = field(
        default=lambda text, image: [("text", text), ("image", image)]
    )


SD3 = {
    "input_size": None,
    "patch_size": 2,
    "in_channels": 16,
    "depth": 1,
    "num_blocks": 3,
    "mlp_ratio": 2.0,
    "pos_embed_scaling_factor": None,
    "pos_embed_max_size": 16,
    "num_patches": 256,
    "adm_in_channels": 32,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 4096, "out_features": 64},
    },
    "qk_norm": None,
}


@cache
def sd3() -> Any:
    return make_model(comfy.supported_models.SD3, SD3)


@cache
def sd35() -> Any:
    """SD3.5 medium: some blocks have a second attention, of the image alone."""
    return make_model(
        comfy.supported_models.SD3, {**SD3, "qk_norm": "rms", "x_block_self_attn_layers": [0, 1]}
    )


@cache
def sd3_clip(clip_l: bool = True, clip_g: bool = True, t5: bool = True) -> Any:
    sd3 = comfy.text_encoders.sd3_clip
    model = sd3.sd3_clip(clip_l=clip_l, clip_g=clip_g, t5=t5)
    return make_clip(
        sd3.SD3Tokenizer,
        model,
        clip_l=CLIP,
        clip_g=CLIP,
        t5xxl={**T5, "d_model": 4096},
    )


@cache
def flux_clip() -> Any:
    flux = comfy.text_encoders.flux
    return make_clip(flux.FluxTokenizer, flux.flux_clip(), clip_l=CLIP, t5xxl=T5)


@cache
def chroma_clip() -> Any:
    pixart = comfy.text_encoders.pixart_t5
    return make_clip(pixart.PixArtTokenizer, pixart.pixart_te(), t5xxl=T5)


@cache
def qwen_clip() -> Any:
    qwen = comfy.text_encoders.qwen_image
    return make_clip(qwen.QwenImageTokenizer, qwen.te(), qwen25_7b=LLM)


@cache
def z_clip() -> Any:
    z_image = comfy.text_encoders.z_image
    return make_clip(z_image.ZImageTokenizer, z_image.te(), qwen3_4b=LLM)


@cache
def cosmos_clip() -> Any:
    cosmos = comfy.text_encoders.cosmos
    return make_clip(cosmos.CosmosT5Tokenizer, cosmos.te(), t5xxl=T5)


@cache
def klein_clip() -> Any:
    flux = comfy.text_encoders.flux
    layers = {**LLM, "hidden_size": 16, "num_hidden_layers": 28, "num_attention_heads": 1}
    return make_clip(flux.KleinTokenizer, flux.klein_te(), qwen3_4b=layers)


@cache
def krea_clip() -> Any:
    needs("0.27.0", "Krea2")
    from comfy.text_encoders import krea2

    layers = {**LLM, "hidden_size": 16, "num_hidden_layers": 36, "num_attention_heads": 1}
    return make_clip(krea2.Krea2Tokenizer, krea2.te(), qwen3vl_4b=layers)


@cache
def hunyuan_clip() -> Any:
    hunyuan = comfy.text_encoders.hunyuan_image
    layers = {**LLM, "num_hidden_layers": 4}
    return make_clip(hunyuan.HunyuanImageTokenizer, hunyuan.te(), qwen25_7b=layers)


@cache
def aura_clip() -> Any:
    aura = comfy.text_encoders.aura_t5
    return make_clip(aura.AuraT5Tokenizer, aura.AuraT5Model, pile_t5xl=T5)


@cache
def anima_clip() -> Any:
    """As wide as the model's adapter, whose size is fixed."""
    anima = comfy.text_encoders.anima
    layers = {**LLM, "hidden_size": 1024, "num_hidden_layers": 1}
    return make_clip(anima.AnimaTokenizer, anima.te(), qwen3_06b=layers)


@cache
def pieces() -> dict[str, Any]:
    """A small tokenizer of the kind that comes with the weights of Gemma and UMT5."""
    model = io.BytesIO()
    words = "a an old red blue fire hydrant castle tree cat cathedral bowl sign that says stop traffic light"
    words += (
        " very big lighthouse by the sea stone apple photo of in at night car truck bus and beside second"
    )
    letters = " ".join(string.printable[:94]) + " \u00e9 \u00fc \u4e00"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([words, letters, *words.split()] * 8),
        model_writer=model,
        vocab_size=300,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=9,
    )
    return {"spiece_model": torch.frombuffer(bytearray(model.getvalue()), dtype=torch.uint8)}


@cache
def lumina_clip() -> Any:
    lumina = comfy.text_encoders.lumina2
    return make_clip(lumina.LuminaTokenizer, lumina.te(), pieces(), gemma2_2b=LLM)


@cache
def wan_clip() -> Any:
    wan = comfy.text_encoders.wan
    return make_clip(wan.WanT5Tokenizer, wan.te(), pieces(), umt5xxl=T5)


QWEN = {
    "image_model": "qwen_image",
    "patch_size": 2,
    "in_channels": 64,
    "out_channels": 16,
    "num_layers": 3,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": 64,
    "pooled_projection_dim": 32,
    "axes_dims_rope": (8, 12, 12),
}
FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 16,
    "context_in_dim": 64,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [8, 12, 12],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
CHROMA = {
    **{name: value for name, value in FLUX.items() if name != "guidance_embed"},
    "image_model": "chroma",
    "in_channels": 64,
    "out_channels": 64,
    "vec_in_dim": None,
    "in_dim": 64,
    "out_dim": 64,
    "hidden_dim": 32,
    "n_layers": 1,
}
LUMINA = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 64,
    "n_layers": 3,
    "n_refiner_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 1,
    "multiple_of": 16,
    "ffn_dim_multiplier": 1.0,
    "norm_eps": 1e-5,
    "qk_norm": True,
    "cap_feat_dim": 64,
    "axes_dims": [8, 12, 12],
    "axes_lens": [300, 64, 64],
}
# Its embedding of the noise level is 256 wide.
Z_IMAGE = {
    **LUMINA,
    "dim": 256,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 4,
    "axes_dims": [16, 24, 24],
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
    "rope_theta": 256.0,
}
COSMOS = {
    "image_model": "cosmos_predict2",
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 64,
    "num_blocks": 3,
    "num_heads": 2,
    "crossattn_emb_channels": 64,
    "pos_emb_cls": "rope3d",
    "concat_padding_mask": True,
    "use_adaln_lora": True,
    "adaln_lora_dim": 16,
}
ANIMA = {**COSMOS, "image_model": "anima", "crossattn_emb_channels": 1024}
FLUX2 = {
    **FLUX,
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "vec_in_dim": None,
    "context_in_dim": 48,
    "axes_dim": [8, 8, 8, 8],
    "theta": 2000,
    "patch_size": 1,
    "guidance_embed": False,
    "txt_ids_dims": [3],
    "qkv_bias": False,
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
}
KREA2 = {
    "image_model": "krea2",
    "features": 128,
    "tdim": 32,
    "txtdim": 16,
    "heads": 2,
    "kvheads": 1,
    "multiplier": 2,
    "layers": 3,
    "patch": 2,
    "channels": 16,
    "txtlayers": 12,
    "txtheads": 2,
    "txtkvheads": 2,
}
HUNYUAN = {
    "image_model": "hunyuan_video",
    "in_channels": 64,
    "out_channels": 64,
    "vec_in_dim": None,
    "context_in_dim": 64,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [16, 16],
    "theta": 256,
    "patch_size": [1, 1],
    "qkv_bias": True,
    "guidance_embed": False,
    "byt5": True,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
    "meanflow_sum": False,
}
AURA = {
    "in_channels": 4,
    "out_channels": 4,
    "dim": 64,
    "n_layers": 4,
    "n_heads": 2,
    "global_conddim": 64,
    "cond_seq_dim": 64,
    "max_seq": 256,
    "n_double_layers": 2,
}
WAN = {
    "image_model": "wan2.1",
    "model_type": "t2v",
    "patch_size": (1, 2, 2),
    "text_len": 64,
    "in_dim": 16,
    "dim": 64,
    "ffn_dim": 64,
    "freq_dim": 64,
    "text_dim": 64,
    "out_dim": 16,
    "num_heads": 2,
    "num_layers": 3,
}


WAN_I2V = {**WAN, "model_type": "i2v", "in_dim": 36}


def _built(kind: str, settings: dict[str, Any], since: str = "0.24.1") -> Callable[[], Any]:
    """One for the session, made when it is needed. since: the ComfyUI that has it first, or 0.24.1."""

    @cache
    def build() -> Any:
        needs(since, kind)
        return make_model(getattr(comfy.supported_models, kind), settings)

    return build


def _padded(text: int, image: int) -> list[tuple[str, int]]:
    return [("text", text), ("fill", -text % 32), ("image", image), ("fill", -image % 32)]


IMAGE = (16, 19, 13)
FRAME = (16, 1, 19, 13)
THREE = ("block 0", "block 1", "block 2")
FLUXES = ("double 0", "double 1", "single 0", "single 1")
# The ComfyUI that numbers the blocks of Cosmos-Predict2 and Anima.
NUMBERED = "0.30.0"


class Families(dict[str, Family]):
    """Families that can be read; on an older ComfyUI some are not, whose tests are skipped."""

    def __missing__(self, name: str) -> Family:
        needs(NUMBERED, f"Reading {name}")
        raise KeyError(name)


FAMILIES = Families(
    {
        "SD3": Family(sd3, sd3_clip, IMAGE, THREE),
        "SD3.5": Family(sd35, sd3_clip, IMAGE, THREE),
        "Qwen-Image": Family(_built("QwenImage", QWEN), qwen_clip, FRAME, THREE),
        "Chroma": Family(_built("Chroma", CHROMA), chroma_clip, IMAGE, FLUXES),
        "Flux.1": Family(_built("Flux", FLUX), flux_clip, IMAGE, FLUXES),
        "Lumina2": Family(_built("Lumina2", LUMINA), lumina_clip, IMAGE, THREE, replaced=""),
        "Z-Image": Family(
            _built("Lumina2", Z_IMAGE), z_clip, IMAGE, THREE[:2], replaced="", sequence=_padded
        ),
        "Cosmos-Predict2": Family(
            _built("CosmosT2IPredict2", COSMOS), cosmos_clip, FRAME, THREE, joint=False, replaced=""
        ),
        "Anima": Family(
            _built("Anima", ANIMA), anima_clip, FRAME, THREE, joint=False, replaced="", tokens=512
        ),
        "Flux.2 Klein": Family(_built("Flux2", FLUX2), klein_clip, (128, 10, 7), FLUXES, patch=1, pixels=16),
        "Krea2": Family(_built("Krea2", KREA2, "0.27.0"), krea_clip, FRAME, THREE, replaced=""),
        "HunyuanImage": Family(
            _built("HunyuanImage21", HUNYUAN), hunyuan_clip, (64, 10, 7), FLUXES, patch=1, pixels=32
        ),
        "AuraFlow": Family(
            _built("AuraFlow", AURA),
            aura_clip,
            (4, 19, 13),
            FLUXES,
            sequence=lambda text, image: [("registers", 8), ("text", text), ("image", image)],
        ),
        "Wan": Family(_built("WAN21_T2V", WAN), wan_clip, FRAME, THREE, joint=False),
    }
)


PIXART = {
    "image_model": "pixart_sigma",
    "input_size": 16,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 48,
    "depth": 2,
    "num_heads": 2,
    "caption_channels": 64,
    "model_max_length": 300,
    "micro_condition": False,
    "pe_interpolation": 2,
}
ERNIE = {
    "image_model": "ernie",
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_layers": 2,
    "ffn_hidden_size": 64,
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "text_in_dim": 64,
    "rope_theta": 256,
    "rope_axes_dim": (8, 12, 12),
}


@cache
def pixart() -> Any:
    return make_model(comfy.supported_models.PixArtSigma, PIXART)


@cache
def ernie() -> Any:
    return make_model(comfy.supported_models.ErnieImage, ERNIE)


HUNYUAN_DIT = {
    "image_model": "hydit",
    "hidden_size": 64,
    "depth": 4,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "text_states_dim": 64,
    "text_states_dim_t5": 64,
    "size_cond": True,
    "use_style_cond": True,
}
BERT = {
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 512,
    "vocab_size": 47020,
    "layer_norm_eps": 1e-12,
}


@cache
def hydit_clip() -> Any:
    hydit = comfy.text_encoders.hydit
    data = {f"mt5xl.{name}": model for name, model in pieces().items()}
    return make_clip(hydit.HyditTokenizer, hydit.HyditModel, data, hydit_clip=BERT, mt5xl=T5)


# PixArt takes no smaller images.
UNREADABLE = {
    "PixArt": Family(pixart, chroma_clip, (4, 34, 36), ()),
    "HunyuanDiT": Family(_built("HunyuanDiT", HUNYUAN_DIT), hydit_clip, (4, 19, 13), ()),
    "Ernie-Image": Family(ernie, chroma_clip, (128, 9, 7), (), patch=1, pixels=16),
}
"""Families that show their attention to no patch."""
LTXV = {
    "image_model": "ltxv",
    "in_channels": 128,
    "cross_attention_dim": 64,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "caption_channels": 64,
    "num_layers": 2,
}
LTXAV = {
    **LTXV,
    "image_model": "ltxav",
    "audio_in_channels": 128,
    "audio_cross_attention_dim": 32,
    "audio_attention_head_dim": 16,
    "audio_num_attention_heads": 2,
}
HUNYUAN_VIDEO = {
    **HUNYUAN,
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 16,
    "axes_dim": [8, 12, 12],
    "patch_size": [1, 2, 2],
    "guidance_embed": True,
    "byt5": False,
}


@cache
def lt_clip(width: int) -> Any:
    lt = comfy.text_encoders.lt
    return make_clip(lt.LTXVT5Tokenizer, lt.ltxv_te(), t5xxl={**T5, "d_model": width})


VIDEOS = {
    "Wan": (FAMILIES["Wan"].model, wan_clip, [(16, 3, 8, 6)]),
    "HunyuanVideo": (_built("HunyuanVideo", HUNYUAN_VIDEO), flux_clip, [(16, 2, 6, 4)]),
    "LTXV": (_built("LTXV", LTXV), lambda: lt_clip(64), [(128, 2, 5, 3)]),
    "LTXV with sound": (_built("LTXAV", LTXAV), lambda: lt_clip(128), [(128, 2, 5, 3), (8, 5, 16)]),
}
"""Models that make videos: how to make model and clip, and the shapes of a latent; two are nested."""
if is_older(NUMBERED):
    UNREADABLE |= {name: replace(FAMILIES.pop(name), layers=()) for name in ("Cosmos-Predict2", "Anima")}
