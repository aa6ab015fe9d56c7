"""The demo's transformers: trained for a few steps, loaded as ComfyUI's own classes, sampled by its samplers.

Nothing here needs the trained weights.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import comfy.ldm.modules.diffusionmodules.mmdit as mmdit
import comfy.ldm.wan.model as wan
import comfy.model_base
import comfy.sample
import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parent.parent.parent
COMFYUI = Path(comfy.sample.__file__).parent.parent
sys.path.append(str(ROOT / "demo"))

import denoiser  # noqa: E402
import loop  # noqa: E402
import model as demo  # noqa: E402
import training  # noqa: E402
from networks import NETWORKS  # noqa: E402
from settings import FLOW_PHASES, Settings  # noqa: E402

CLASSES = {
    "transformer": (comfy.model_base.SD3, mmdit.OpenAISignatureMMDITWrapper),
    "crossing": (comfy.model_base.WAN21, wan.WanModel),
}
SMALL = {"scenes": 16, "held_out": 4, "batch": 4, "phase_steps": 2}


def train(name: str, progress: Path, weights: Path, *more: str) -> Path:
    """The file of weights that demo/train.py leaves."""
    sizes = [word for key, value in SMALL.items() for word in (f"--{key}", str(value))]
    places = ["--progress", str(progress), "--weights", str(weights)]
    script = [str(ROOT / "demo" / "train.py"), "--comfyui", str(COMFYUI), "--device", "cpu"]
    environment = {**os.environ, "DEMO_VARIANT": name, "PYTHONUTF8": "1"}
    command = [sys.executable, *script, *sizes, *places, *more]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return weights / f"{name}.safetensors"


@pytest.fixture(scope="module", params=CLASSES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, train(request.param, folder / "progress", folder / "weights")


def test_training_leaves_a_small_file_that_loads_as_comfyuis_own_class(trained: tuple[str, Path]) -> None:
    name, path = trained
    assert path.stat().st_size < 8e6, "the transformer may add 8 MB to the repository"
    parts = demo.load(path)
    base, network = CLASSES[name]
    assert type(parts.model.model) is base and type(parts.model.model.diffusion_model) is network
    assert parts.model.model.model_type is comfy.model_base.ModelType.FLOW
    assert parts.vae.decode(torch.zeros(1, 4, 32, 32)).shape == (1, 256, 256, 3)


def test_words_are_read_as_in_training(trained: tuple[str, Path]) -> None:
    """Padding included: image tokens attend to all 77."""
    clip = demo.load(trained[1]).clip
    tokens = clip.tokenize("a cat and an apple")
    stock = clip.encode_from_tokens(tokens)
    encoder = clip.cond_stage_model.clip_l.transformer
    ids = torch.tensor([[t for t, _ in tokens["l"][0]]])
    embedding = encoder.text_model.embeddings.token_embedding
    with torch.no_grad():
        ours = training.encode_text(encoder, embedding, ids)
    assert ids.shape == (1, 77) and torch.allclose(stock, ours, atol=1e-4)


def test_training_takes_the_steps_that_the_sampler_undoes() -> None:
    rng = torch.Generator().manual_seed(0)
    x0 = torch.randn(64, 4, 8, 8)
    x, t, target, _ = denoiser.flow(x0, rng, FLOW_PHASES[0])
    sampling = NETWORKS["mmdit"].build(torch.float32, torch.device("cpu")).model_sampling
    sigma = t / 1000
    assert torch.allclose(sampling.timestep(sigma), t)
    assert torch.allclose(sampling.calculate_denoised(sigma, target, x), x0, atol=1e-4)
    assert torch.allclose(sampling.noise_scaling(sigma, target + x0, x0), x, atol=1e-4)
    times = denoiser.flow_times(40_000, rng)
    assert times.min() > 0 and times.max() < 1 and 0.4 < (times > 0.85).float().mean() < 0.6


def test_some_captions_are_left_out_and_some_hold_an_unknown_word() -> None:
    end = 9
    rows = torch.tensor([[1, 5, 6, end, end, end], [1, 5, 6, 7, 8, end]])
    rng = torch.Generator().manual_seed(0)
    found = denoiser.captions(rows.repeat(4000, 1), end, Settings(), rng).view(4000, 2, 6)
    for row, every in zip(rows.tolist(), found.unbind(1), strict=True):
        words = row.index(end)
        unknown = [[*row[:at], 0, *row[at:-1]] for at in range(1, words + 1)]
        counts = Counter(map(tuple, every.tolist()))
        empty = counts.pop((1, *[end] * 5))
        known = counts.pop(tuple(row))
        assert set(counts) == set(map(tuple, unknown))
        assert 350 < empty < 450 and 450 < 4000 - empty - known < 630
        assert max(counts.values()) < 1.4 * min(counts.values()), "anywhere in the caption"


def test_training_goes_on_on_another_kind_of_device(tmp_path: Path) -> None:
    """Rule: progress of a GPU can be resumed on a CPU. Their generators have states of other sizes."""
    parts = torch.nn.ModuleDict({"net": torch.nn.Linear(2, 2)})
    run = loop.Run(tmp_path / "some.pt", parts, 1e-3, 4, 0)
    run.step = 2
    run.keep()
    kept = torch.load(run.path, weights_only=True)
    loop.save({**kept, "rng": torch.zeros(16, dtype=torch.uint8)}, run.path)
    again = loop.Run(run.path, parts, 1e-3, 4, 0)
    first = torch.Generator().manual_seed(0)
    assert again.step == 2
    assert not torch.equal(torch.rand(8, generator=again.rng), torch.rand(8, generator=first))


def test_stock_sampling_takes_odd_sizes_and_batches(
    trained: tuple[str, Path], randomised: Callable[[torch.nn.Module, int], None]
) -> None:
    """Of the sampled images, the first is the same alone; another prompt draws something else."""
    parts = demo.load(trained[1])
    randomised(parts.model.model.diffusion_model, 0)

    def draw(text: str, noise: torch.Tensor) -> torch.Tensor:
        conds = [parts.clip.encode_from_tokens_scheduled(parts.clip.tokenize(t)) for t in (text, "")]
        empty = torch.zeros(len(noise), 4, *noise.shape[-2:])
        latent = comfy.sample.fix_empty_latent_channels(parts.model, empty)
        return comfy.sample.sample(
            parts.model,
            noise.view_as(latent),
            3,
            4.0,
            "euler",
            "simple",
            *conds,
            latent,
            disable_pbar=True,
            seed=0,
        )

    noise = torch.randn(2, 4, 19, 13, generator=torch.Generator().manual_seed(0))
    both, alone, other = draw("a cat", noise), draw("a cat", noise[:1]), draw("a sun", noise[:1])
    assert both.shape[0] == 2 and both.shape[-2:] == (19, 13) and torch.isfinite(both).all()
    assert torch.allclose(both[:1], alone, rtol=1e-3, atol=1e-2) and not torch.allclose(
        alone, other, rtol=0.1
    )
    assert parts.vae.decode(both).shape[:1] == (2,)


def test_a_snapshot_is_the_averaged_model_as_far_as_it_is(trained: tuple[str, Path], tmp_path: Path) -> None:
    name, path = trained
    if name != "transformer":
        pytest.skip("the loop is the same")
    progress = path.parent.parent / "progress"
    before, last = (f"{phase.name}.pt" for phase in FLOW_PHASES[-2:])
    os.replace(progress / last, progress / "moved")
    written = load_file(train(name, progress, tmp_path, "--snapshot"))["mmdit.x_embedder.proj.weight"]
    os.replace(progress / "moved", progress / last)
    averages = [torch.load(progress / f, weights_only=True)["average"][0].half() for f in (before, last)]
    assert torch.equal(written, averages[0]) and not torch.equal(written, averages[1])


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The loader as ComfyUI imports it, in the pack's folder."""
    place = ROOT / "demo"
    spec = importlib.util.spec_from_file_location(
        "demo_pack", place / "__init__.py", submodule_search_locations=[str(place)]
    )
    assert spec and spec.loader
    monkeypatch.setitem(sys.modules, "demo_pack", importlib.util.module_from_spec(spec))
    return importlib.import_module("demo_pack.loader")


def test_the_node_loads_the_transformer_or_says_that_it_is_not_there(
    pack: ModuleType, trained: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "TRANSFORMER", trained[1])
    model, clip, vae = pack.LoadDemoTransformer.execute().result
    assert type(model.model) is CLASSES[trained[0]][0] and clip and vae
    monkeypatch.setattr(pack, "TRANSFORMER", trained[1].with_name("missing.safetensors"))
    with pytest.raises(FileNotFoundError, match="Load Demo Transformer: .*Load Demo Model"):
        pack.LoadDemoTransformer.execute()
