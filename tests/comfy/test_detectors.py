"""Real outputs of ComfyUI's own detector nodes, with random weights, judge a trial.

Their boxes mean nothing; their form is that of real ones. RT-DETR has its real size, SAM3 few large patches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_patcher
import comfy.supported_models
import folder_paths
import pytest
import torch
from winning_tickets.probe.trial.score import score_trial
from winning_tickets.tickets.layout.regions import Region
from winning_tickets.trial.cases import TrialError
from winning_tickets.trial.detector import BoxesError, boxes_of, score
from winning_tickets.trial.kept import append, load
from winning_tickets.trial.record import Placed, Record, parse

nodes_rtdetr = pytest.importorskip("comfy_extras.nodes_rtdetr")
nodes_sam3 = pytest.importorskip("comfy_extras.nodes_sam3")

WIDTH, HEIGHT = 104, 152
EMBEDDED = 128


def random_model(config: Any, fill: Callable[[torch.Tensor], object]) -> Any:
    """A detector of ComfyUI's as its loader makes it, with random weights."""
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "").eval()
    for name, weights in model.named_parameters():
        if weights.dim() > 1:
            fill(weights.data)
        elif name.endswith(("weight", "bias")):
            weights.data.fill_(float(name.endswith("weight")))
    for name, kept in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            kept.fill_(float(name.endswith("var")))
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, cpu, cpu)


def small(weights: torch.Tensor) -> None:
    torch.nn.init.normal_(weights, std=0.03)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def coco_boxes(images: torch.Tensor) -> Any:
    torch.manual_seed(0)
    config = comfy.supported_models.RT_DETR_v4({"image_model": "RT_DETR_v4", "enc_h": 256})
    model = random_model(config, small)
    with torch.inference_mode():
        return nodes_rtdetr.RTDETR_detect.execute(model, images, 0.0, "all", 100).args[0]


@pytest.fixture(scope="module")
def sam3() -> Any:
    torch.manual_seed(0)
    settings = {"image_model": "SAM3", "embed_dim": EMBEDDED, "depth": 1, "patch_size": 63, "num_queries": 20}
    return random_model(comfy.supported_models.SAM3(settings), small)


def word_boxes(sam3: Any, images: torch.Tensor, threshold: float = 0.0) -> Any:
    """As for one word."""
    options = {"attention_mask": torch.ones(1, 5, dtype=torch.int64)}
    conditioning = [[torch.randn(1, 5, EMBEDDED), options]]
    with torch.inference_mode():
        found = nodes_sam3.SAM3_Detect.execute(
            sam3, images, conditioning, threshold=threshold, refine_iterations=0
        )
    return found.args[1]


def records_of(*categories: str) -> list[Record]:
    share = 1 / len(categories)
    regions = tuple(Region(c, n * share, 0, (n + 1) * share, 1) for n, c in enumerate(categories))
    missing = tuple(Placed(c, False, 0, None, None, False, False, 0) for c in categories)
    return [
        Record("m", "plain", n, 0, n, "p", WIDTH, HEIGHT, {}, "model", regions, missing, 24) for n in (0, 1)
    ]


def test_rt_detrs_boxes_are_of_the_label_and_the_best_score(coco_boxes: Any) -> None:
    best = [max(found, key=lambda box: box["score"]) for found in coco_boxes]
    label = best[0]["label"]
    assert label in nodes_rtdetr.COCO_CLASSES
    scored = score(records_of(f"A {label}s", "unicorn"), [coco_boxes], WIDTH, HEIGHT)
    first = scored.records[0].objects
    assert first[0].present and first[0].confidence == pytest.approx(best[0]["score"], abs=1e-4)
    x = (min(best[0]["x"] + best[0]["width"], WIDTH) + max(best[0]["x"], 0)) / 2 / WIDTH
    assert first[0].x == pytest.approx(x, abs=0.04)
    assert not first[1].present and scored.notes[0].startswith("Never found: unicorn. The detector found: ")
    assert all(parse(record.line()).judge == "boxes" for record in scored.records)


def test_rt_detrs_boxes_may_lie_beyond_the_image(coco_boxes: Any) -> None:
    corners = [box.corners for found in boxes_of(coco_boxes, 2, WIDTH, HEIGHT) for box in found]
    assert min(map(min, corners)) < 0 and len(corners) == 200


def test_sam3_gives_no_labels_and_is_asked_once_for_each_word(sam3: Any, images: torch.Tensor) -> None:
    cats, none = word_boxes(sam3, images), word_boxes(sam3, images, 1.0)
    assert all("label" not in box for found in cats for box in found) and none == [[], []]
    records = records_of("cat", "robot")
    scored = score(records, [cats, none], WIDTH, HEIGHT)
    assert [[o.present for o in r.objects] for r in scored.records] == [[True, False]] * 2
    with pytest.raises(BoxesError, match="in this order: cat, robot. Connected: 1."):
        score(records, [cats], WIDTH, HEIGHT)


def test_boxes_of_fewer_images_are_refused(sam3: Any, images: torch.Tensor) -> None:
    with pytest.raises(BoxesError, match="of 1 images, but the trial has 2"):
        score(records_of("cat"), [word_boxes(sam3, images[:1])], WIDTH, HEIGHT)


class TestKept:
    """What Layout Score does with them."""

    @pytest.fixture(autouse=True)
    def output(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
        return tmp_path / "layout_trials"

    def test_table_agreement_and_file_come_of_it(
        self, coco_boxes: Any, images: torch.Tensor, output: Path
    ) -> None:
        records = records_of("car", "unicorn")
        for name, file in (("", f"trial_{records[0].run}_boxes"), ("mine", "mine"), ("mine", "mine")):
            found = score_trial(records, images, [coco_boxes], "unicorn: boat", name)
            assert "Judged by a detector's boxes" in found.report
            assert "Of 4 objects the model itself and the detector say the same of" in found.report
            assert found.report.splitlines()[-1] == f"Kept in output/layout_trials/{file}.jsonl."
            assert [r.line() for r in load(output / f"{file}.jsonl").records] == [
                r.line() for r in found.records
            ]
        assert found.picture.shape[-1] == 3 and found.picture.dim() == 4

    def test_it_says_that_the_trial_may_have_more_cases(self) -> None:
        """The node said "No effect" of 8 cases beside Layout Trial's sentence on all of them."""
        (one,) = records_of("car")[:1]
        for count, told in ((7, False), (8, True), (9, False)):
            some = [replace(one, case=case) for case in range(count)]
            blank = torch.zeros(count, HEIGHT, WIDTH, 3)
            found = score_trial(some, blank, [[[] for _ in some]], "", f"few {count}")
            assert ("Only 8 cases are judged." in found.report) == told

    def test_other_images_and_names_are_refused(self, images: torch.Tensor) -> None:
        records = records_of("car", "unicorn")
        with pytest.raises(TrialError, match="1 images, but the trial has 2"):
            score_trial(records, images[:1], [[[]]], "", "")
        with pytest.raises(TrialError, match="save_as is"):
            score_trial(records, images, [[[], []]], "", "../out")
        with pytest.raises(BoxesError, match="a category, a colon"):
            score_trial(records, images, [[[], []]], "car is automobile", "")

    def test_the_file_of_a_trial_is_never_replaced_and_other_trials_stay(
        self, images: torch.Tensor, output: Path
    ) -> None:
        """With the same save_as in both nodes, all images of the trial were lost."""
        records = records_of("car")
        append(output / "mine.jsonl", records)
        before = (output / "mine.jsonl").read_bytes()
        with pytest.raises(TrialError, match="save_as is mine, a file that holds more than a detector's"):
            score_trial(records, images, [[[], []]], "", "mine")
        assert (output / "mine.jsonl").read_bytes() == before
        others = [replace(r, settings={"steps": 99}) for r in records]
        for which in (records, others, records):
            score_trial(which, images, [[[], []]], "", "boxes")
        assert sorted(r.run for r in load(output / "boxes.jsonl").records) == sorted(
            r.run for r in (*records, *others)
        )

    def test_a_folder_that_cannot_be_written(self, images: torch.Tensor, output: Path) -> None:
        output.write_text("in the way", encoding="utf-8")
        with pytest.raises(TrialError, match="cannot be written in the output folder"):
            score_trial(records_of("car"), images, [[[], []]], "", "")
