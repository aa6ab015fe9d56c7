"""Transformers out of files, by ComfyUI's own loaders: what the loaders make of a model has to be read too.

The files have the real layouts, by which detection knows them, and random weights (checkpoints.py). SD3's has
its own CLIP and autoencoder. The other families' text encoders have sizes that no file can make smaller, from
5 thousand million weights up: text_encoders.py makes small ones with the real tokenizers.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from comfyui_server import Server
from PIL import Image
from safetensors.numpy import load_file

Prompt = dict[str, Any]
HEIGHT, WIDTH = 152, 104
TEXT = "a big castle and an old tree"
PLACES = "castle: 0 0 0.5 1\ntree: 0.5 0 1 1"


def node(kind: str, **inputs: Any) -> Prompt:
    return {"class_type": kind, "inputs": inputs}


@dataclass(frozen=True)
class Loaded:
    """A model as people load and sample it.

    file, text, vae: names in checkpoints.py. encoder: one of text_encoders.py. Without text and encoder the
    file is a checkpoint with all. model: ComfyUI's class. layers: all there are. layer: to be read. sampling:
    the node that sets the noise levels. guidance: distilled into the model.
    """

    file: str
    model: str
    layers: str
    layer: str
    sampling: Prompt
    encoder: str = ""
    text: str = ""
    vae: str = ""
    latent: str = "EmptySD3LatentImage"
    dtype: str = "default"
    batch: int = 2
    steps: int = 4
    cfg: float = 4.0
    guidance: float = 0.0

    @property
    def files(self) -> list[str]:
        return [name for name in (self.file, self.text, self.vae) if name]

    @property
    def whole(self) -> bool:
        return not (self.encoder or self.text)

    @property
    def clip(self) -> list[Any]:
        return ["1", 1] if self.whole else ["2", 0]

    @property
    def decoder(self) -> list[Any] | None:
        return ["3", 0] if self.vae else ["1", 2] if self.whole else None


FLUXES = "double 0, double 1, single 0, single 1"
THREE = "block 0, block 1, block 2"
SHIFT = node("ModelSamplingSD3", shift=3.0)
FLUX = Loaded(
    "flux",
    "Flux",
    FLUXES,
    "double 1, single 0",
    node("ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=WIDTH, height=HEIGHT),
    encoder="Flux",
    vae="flux_vae",
    cfg=1.0,
    guidance=3.5,
)
FAMILIES = {
    "SD3.5": Loaded("sd3", "SD3", THREE, "block 1", SHIFT),
    "Flux.1": FLUX,
    # One forward takes two seconds: it has to be cast.
    "Qwen-Image in 8 bits": Loaded(
        "qwen",
        "QwenImage",
        "block 0",
        "block 0",
        node("ModelSamplingAuraFlow", shift=3.1),
        encoder="Qwen-Image",
        vae="wan_vae",
        dtype="fp8_e4m3fn",
        batch=1,
        steps=2,
    ),
    "Wan": Loaded(
        *("wan", "WAN21", THREE, "block 2", SHIFT),
        **{"encoder": "Wan", "vae": "wan_vae", "latent": "EmptyHunyuanLatentVideo"},
    ),
    "Flux.2 Klein": Loaded(
        *("klein", "Flux2", FLUXES, "single 1", SHIFT),
        **{"encoder": "Flux.2 Klein", "latent": "EmptyFlux2LatentImage"},
    ),
    "HunyuanImage": Loaded(
        *("hunyuan", "HunyuanImage21", FLUXES, "double 0", SHIFT),
        **{"encoder": "HunyuanImage", "latent": "EmptyHunyuanImageLatent"},
    ),
}
OTHERS = {
    "SD3.5 in parts": replace(FAMILIES["SD3.5"], file="sd3_alone", text="clip_l"),
    "Flux.1 cast to 8 bits": replace(FLUX, dtype="fp8_e4m3fn"),
    "Flux.1 in 8 bits, with a scale for each matrix": replace(FLUX, file="flux_scaled"),
}
FILES = sorted({name for one in (*FAMILIES.values(), *OTHERS.values()) for name in one.files})


@pytest.fixture(scope="module")
def files(model_files: Callable[..., dict[str, str]]) -> dict[str, str]:
    return model_files(*FILES)


def graph(loaded: Loaded, files: dict[str, str]) -> Prompt:
    """Loaders 1 to 3, prompts 4 and 5, latent 6, model 7, KSampler 8; 9 saves the latent, 12 the pictures."""
    found: Prompt = {"1": node("UNETLoader", unet_name=files[loaded.file], weight_dtype=loaded.dtype)}
    if loaded.whole:
        found["1"] = node("CheckpointLoaderSimple", ckpt_name=files[loaded.file])
    elif loaded.text:
        found["2"] = node("CLIPLoader", clip_name=files[loaded.text], type="sd3")
    else:
        found["2"] = node("LoadTinyTextEncoder", encoder=loaded.encoder)
    if loaded.vae:
        found["3"] = node("VAELoader", vae_name=files[loaded.vae])
    found["4"] = node("CLIPTextEncode", text=TEXT, clip=loaded.clip)
    found["5"] = node("CLIPTextEncode", text="blurry", clip=loaded.clip)
    length = {"length": 1} if "Video" in loaded.latent else {}
    found["6"] = node(loaded.latent, width=WIDTH, height=HEIGHT, batch_size=loaded.batch, **length)
    found["7"] = copy.deepcopy(loaded.sampling)
    found["7"]["inputs"]["model"] = ["1", 0]
    found["8"] = node(
        "KSampler",
        **{"model": ["7", 0], "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0]},
        **{"seed": 7, "steps": loaded.steps, "cfg": loaded.cfg, "denoise": 1.0},
        **{"sampler_name": "euler", "scheduler": "simple"},
    )
    found["9"] = node("SaveLatent", samples=["8", 0], filename_prefix="loaded/latent")
    if loaded.guidance:
        found["10"] = node("FluxGuidance", conditioning=["4", 0], guidance=loaded.guidance)
        found["8"]["inputs"]["positive"] = ["10", 0]
    if loaded.decoder:
        found["11"] = node("VAEDecode", samples=["8", 0], vae=loaded.decoder)
        found["12"] = node("SaveImage", images=["11", 0], filename_prefix="loaded/picture")
    return found


@dataclass(frozen=True)
class Made:
    """What a graph made: its latent, its pictures by node, and what nodes said."""

    latent: np.ndarray
    pictures: dict[str, list[Image.Image]]
    run: Any

    def same(self, other: Made) -> bool:
        one, two = ([p.tobytes() for p in made.pictures["12"]] for made in (self, other))
        return one == two and np.array_equal(self.latent, other.latent)


@pytest.fixture(scope="module")
def make(server: Server, run: Callable[[Prompt], Any]) -> Callable[[Prompt], Made]:
    def made(prompt: Prompt) -> Made:
        done = run(prompt)
        outputs = done.entry["outputs"]
        (file,) = outputs["9"]["latents"]
        path = server.log_path.parent / "output" / file["subfolder"] / file["filename"]
        pictures: dict[str, list[Image.Image]] = {"12": []}
        for number, output in outputs.items():
            saved = output.get("images", [])
            pictures[number] = [Image.open(io.BytesIO(server.client.image(**one))) for one in saved]
        return Made(load_file(path)["latent_tensor"], pictures, done)

    return made


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest) -> Loaded:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def stock(loaded: Loaded, files: Any, make: Any) -> tuple[Prompt, Made]:
    prompt = graph(loaded, files)
    return prompt, make(prompt)


@pytest.fixture
def prompt(stock: tuple[Prompt, Made]) -> Prompt:
    """The stock graph, to be changed at will."""
    return copy.deepcopy(stock[0])


def watching(prompt: Prompt, loaded: Loaded, layer: str = "all") -> Prompt:
    """The graph with Attention over Steps between its model and its sampler, and all that it reports."""
    prompt["20"] = node(
        "AttentionOverSteps",
        model=["7", 0],
        clip=loaded.clip,
        prompt=TEXT,
        phrases="castle\nold tree",
        layer=layer,
    )
    prompt["8"]["inputs"]["model"] = ["20", 0]
    if loaded.guidance:
        prompt["10"]["inputs"]["conditioning"] = ["20", 1]
    else:
        prompt["8"]["inputs"]["positive"] = ["20", 1]
    prompt["21"] = node("AttentionOverStepsReport", latent=["8", 0], model=["20", 0], steps="", number=1)
    prompt["22"] = node("MaskToImage", mask=["21", 2])
    prompt["23"] = node("SaveImage", images=["22", 0], filename_prefix="loaded/mask")
    return prompt


def drawn(picture: Image.Image) -> bool:
    return len(picture.convert("L").getcolors()) > 20


def check_watched(stock: Made, watched: Made, loaded: Loaded) -> None:
    assert watched.same(stock)
    lines = watched.run.text("21").splitlines()
    assert lines[0].split()[:5] == ["step", "sigma", "castle", "old", "tree"]
    rows = [line.split() for line in lines[1 : loaded.steps + 1]]
    assert [row[0] for row in rows] == [str(step + 1) for step in range(loaded.steps)]
    without = "This run had no guidance: at cfg 1 there is nothing to cut." in lines
    assert without == (loaded.cfg == 1) == ("guidance" not in lines[0])
    masks = watched.pictures["23"]
    assert len(masks) == 2 and all(map(drawn, masks)) and masks[0].tobytes() != masks[1].tobytes()
    assert "Traceback" not in watched.run.log


def test_a_watched_run_is_the_stock_run_and_its_words_have_maps(
    loaded: Loaded, stock: tuple[Prompt, Made], prompt: Prompt, make: Any
) -> None:
    latent = stock[1].latent
    assert np.isfinite(latent).all() and latent.shape[0] == loaded.batch
    assert all(map(drawn, stock[1].pictures["12"]))
    check_watched(stock[1], make(watching(prompt, loaded)), loaded)


def test_forwards_are_counted_and_saved(loaded: Loaded, prompt: Prompt, make: Any) -> None:
    prompt["8"]["class_type"] = "GuidanceCutoffKSampler"
    prompt["8"]["inputs"] |= {
        "cutoff": "share of steps",
        "cutoff.guided": 0.5,
        "after_cutoff": "conditional",
    }
    told = make(prompt).run.text("8")
    steps, guided = loaded.steps, loaded.steps // 2
    if loaded.cfg == 1:
        assert told.startswith(f"{steps} NFE for {steps} steps") and "as at cfg 1: nothing to save" in told
    else:
        nfe = f"{steps + guided} NFE for {steps} steps, {guided} of them guided"
        assert told.startswith(f"{nfe}; a stock run takes {2 * steps}: 25% saved.")


SIZE = {"size": "custom", "size.width": WIDTH, "size.height": HEIGHT}
UNSHOWN = "a transformer. Objects have been shown to follow moved blocks of noise on two small ones only"


def by_noise(prompt: Prompt, noise: list[Any], latent: list[Any]) -> Prompt:
    """The graph with the noise of a node in place of KSampler's, and its empty latent."""
    prompt["32"] = node("BasicGuider", model=["7", 0], conditioning=prompt["8"]["inputs"]["positive"])
    prompt["33"] = node("KSamplerSelect", sampler_name="euler")
    prompt["34"] = node("BasicScheduler", model=["7", 0], scheduler="simple", steps=1, denoise=1.0)
    chosen = {"guider": ["32", 0], "sampler": ["33", 0], "sigmas": ["34", 0], "latent_image": latent}
    prompt["8"] = node("SamplerCustomAdvanced", noise=noise, **chosen)
    return prompt


def test_the_best_noise_is_picked_and_a_part_redrawn(loaded: Loaded, prompt: Prompt, make: Any) -> None:
    prompt["20"] = node(
        "PickBestNoise",
        **{"model": ["7", 0], "clip": loaded.clip, "regions": PLACES, "seed": 7, "batch_size": loaded.batch},
        **{"layer": loaded.layer, "candidates": 2, "advanced": "defaults", **SIZE},
    )
    left = {"region": "left: 0 0 0.5 1", "seed": 8, "edge": 0}
    prompt["21"] = node(
        "RedrawNoiseInRegion", noise=["20", 0], latent_image=["20", 2], model=["7", 0], **left
    )
    made = make(by_noise(prompt, ["21", 0], ["20", 2]))
    picked, redrawn = made.run.text("20"), made.run.text("21")
    assert f"; {2 * loaded.batch} looks of " in picked and "Use the noise output instead" in picked
    assert UNSHOWN not in picked, "no block has moved"
    assert "% of the noise is new, of seed 8" in redrawn
    assert np.isfinite(made.latent).all() and "Traceback" not in made.run.log


@pytest.mark.parametrize("name", ["SD3.5"])
def test_tickets_and_exchanged_blocks_are_sampled_as_noise(name: str, files: Any, make: Any) -> None:
    loaded = FAMILIES[name]
    first = graph(loaded, files)
    model = {"model": ["7", 0], "clip": loaded.clip}
    looks = {"regions": PLACES, "seed": 7, "batch_size": loaded.batch, "candidates": 2, "look": "first step"}
    looks |= {**model, "advanced": "defaults", **SIZE}
    first["20"] = node(
        "CollectTickets",
        **{**model, "categories": "castle\ntree", "noises": 3, "seed": 0, "layer": loaded.layer},
        **{"width": WIDTH, "height": HEIGHT, "advanced": "defaults", "save_as": ""},
    )
    chosen = {"selection": "rank", "selection.best": 10.0, "strength": 1.0}
    first["21"] = node("TicketLatentFromRegions", bank=["20", 0], **chosen, **looks)
    first["22"] = node("ArrangeNoiseByRegions", layer=loaded.layer, rounds=1, **looks)
    latents = []
    # Three rounds and one.
    for number, looks_each in (("21", 2 * 4), ("22", 2 * 2)):
        made = make(by_noise(copy.deepcopy(first), [number, 0], [number, 2]))
        report = made.run.text(number)
        assert UNSHOWN in report and "Use the noise output instead" in report
        assert f"; {looks_each * loaded.batch} looks of " in report
        assert np.isfinite(made.latent).all() and all(map(drawn, made.pictures["12"]))
        assert "Traceback" not in made.run.log
        latents.append(made.latent)
        if number == "21":
            assert UNSHOWN in made.run.text("20")
    assert not np.array_equal(*latents)


@pytest.mark.parametrize("name", ["SD3.5", "Wan"])
def test_a_trial_is_drawn_judged_and_shown(name: str, files: Any, make: Any) -> None:
    """The rule: of a model of videos the images are single frames, in the order of the records."""
    loaded = FAMILIES[name]
    prompt = graph(loaded, files)
    kinds: dict[str, Any] = {"kinds": "custom", "kinds.best_of": 2}
    kinds |= dict.fromkeys(
        ("kinds.block_swap", "kinds.tickets", "kinds.tickets_looked_at", "kinds.control"), True
    )
    rare = {"layer": loaded.layer, "objects": "two", "prompt": "{}", "negative": "", "candidates": 2}
    rare |= {"rounds": 0, "save_as": f"loaded/{loaded.file}", "pass_on": "all", "look_after_percent": 0.0}
    prompt["19"] = node(
        "CollectTickets",
        **{"model": ["7", 0], "clip": loaded.clip, "categories": "castle\ntree", "noises": 3, "seed": 0},
        **{"width": WIDTH, "height": HEIGHT, "layer": loaded.layer, "advanced": "defaults", "save_as": ""},
    )
    prompt["20"] = node(
        "LayoutTrial",
        **{"model": ["7", 0], "clip": loaded.clip, "vae": loaded.decoder, "regions": PLACES, "images": 2},
        bank=["19", 0],
        **{"seed": 7, "steps": 1, "cfg": loaded.cfg, "sampler_name": "euler", "scheduler": "simple"},
        **{
            **SIZE,
            **kinds,
            "advanced": "custom",
            **{f"advanced.{key}": value for key, value in rare.items()},
        },
    )
    prompt["9"]["inputs"]["samples"], prompt["11"]["inputs"]["samples"] = ["20", 3], ["20", 3]
    prompt["21"] = node("SaveImage", images=["20", 2], filename_prefix="loaded/trial")
    made = make(prompt)
    report = made.run.text("20")
    rows = (
        *("plain noise", "best of 2 seeds", "block swap", "tickets", "tickets (looked at)"),
        "control (tickets of the other category)",
    )
    assert [row for row in rows if f"| {row} " not in report] == [], report
    assert "Kept in output/" in report
    assert f"This model is {loaded.model}, {UNSHOWN}" in report
    assert made.latent.shape == (12, 16, *(() if name == "SD3.5" else (1,)), HEIGHT // 8, WIDTH // 8)
    decoded, given = ([picture.tobytes() for picture in made.pictures[n]] for n in ("12", "21"))
    assert decoded == given and len(given) == 12 and "Traceback" not in made.run.log


def test_what_does_not_fit_is_refused_in_a_sentence(loaded: Loaded, prompt: Prompt, failure: Any) -> None:
    """The layers are those of the file."""
    prompt["20"] = node(
        "CollectTickets",
        **{"model": ["7", 0], "clip": loaded.clip, "categories": "castle\ntree", "noises": 1, "seed": 0},
        **{"width": WIDTH, "height": HEIGHT, "layer": "input 8", "advanced": "defaults"},
    )
    prompt["21"] = node("TicketBankReport", bank=["20", 0])
    known = f"but this model attends to the prompt in: {loaded.layers}."
    refused = failure({number: prompt[number] for number in prompt if number in {"1", "2", "7", "20", "21"}})
    assert refused.node == "CollectTickets"
    assert refused.message == f'Collect Tickets: layer is "input 8", {known}'
    refused = failure(watching(prompt, loaded, "input 8"))
    assert refused.node == "AttentionOverSteps"
    assert refused.message == f'Attention over Steps: layer is "input 8", {known}'


@pytest.mark.parametrize("other", OTHERS.values(), ids=list(OTHERS))
def test_other_files_of_a_family_are_watched_as_they_are(files: Any, make: Any, other: Loaded) -> None:
    prompt = graph(other, files)
    check_watched(make(prompt), make(watching(prompt, other)), other)
