"""Regions in every form a user may give, and the cells that belong to them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from winning_tickets.tickets.layout.parse import names_only, parse_boxes, parse_regions, require_regions
from winning_tickets.tickets.layout.regions import (
    LISTED,
    SMALLER,
    MaskRegion,
    Region,
    RegionError,
    assign_cells,
    by_category,
    categories_of,
)


def half_mask(side: int = 8) -> torch.Tensor:
    """Left half white."""
    mask = torch.zeros(1, side, side)
    mask[:, :, : side // 2] = 1
    return mask


class TestText:
    def test_lines(self) -> None:
        found = parse_regions("# layout\n castle: 0.62 0.18 1.0 0.69 \n\nFire  hydrant.: 0, 0.5, .25, 1")
        assert found == [
            Region("castle", 0.62, 0.18, 1.0, 0.69),
            Region("fire hydrant", 0.0, 0.5, 0.25, 1.0),
        ]

    def test_the_editors_json(self) -> None:
        text = '{"regions": [{"category": "Castle", "box": [0.62, 0.18, 1, 0.69]}]}'
        assert parse_regions(text) == parse_regions("castle: 0.62 0.18 1.0 0.69")
        assert parse_regions('{"regions": []}') == parse_regions('\ufeff{"regions": []}') == []

    def test_a_locked_box_is_a_box(self) -> None:
        """What is locked matters in the editor only; versions before it read the same layout."""
        entry = '{"category": "castle", "box": [0.62, 0.18, 1, 0.69], "locked": true}'
        lines = "castle: 0.62 0.18 1 0.69  # locked"
        assert (
            parse_regions(f'{{"regions": [{entry}]}}')
            == parse_regions(lines)
            == [Region("castle", 0.62, 0.18, 1.0, 0.69)]
        )

    def test_no_region_at_all_is_an_error(self) -> None:
        assert parse_regions("  \n# nothing") == []
        with pytest.raises(RegionError, match="No regions: write one per line"):
            require_regions([])

    def test_a_detector_that_found_nothing_is_named(self) -> None:
        """The user was asked to write regions, where boxes are connected."""
        with pytest.raises(RegionError, match="No boxes: the detector found nothing"):
            require_regions([], boxes=True)
        require_regions([1], boxes=True)

    @pytest.mark.parametrize(
        "text, complaint",
        [
            ("cat: 0 0 1", "Region 1 .* four numbers"),
            ("cat: 0 0 1 nan", "four numbers"),
            ("cat: 0 0 1 x", "four numbers"),
            ("cat: 0 0 1 1\n: 0 0 1 1", "Region 2 .* names no category"),
            ("cat 0 0 1 1", "names no category"),
            (".: 0 0 1 1", "no category"),
            ("cat: -0.1 0 1 1", "leaves the image"),
            ("cat: 0 0 128 128", "leaves the image"),
            ("cat: 0.5 0 0.5 1", "is empty"),
            ("cat: 0.9 0 0.5 1", "left must be below right"),
            ('{"regions": [', r"broken JSON \(line 1, column 14\): fix or clear"),
            ('{"boxes": []}', "JSON of another form"),
            ('{"regions": [{"category": "cat"}]}', "JSON of another form"),
            ('{"regions": [{"category": "cat", "box": [0, 0, 1]}]}', "Region 1 .'cat'. needs four numbers"),
            ('{"regions": [{"category": " ", "box": [0, 0, 1, 1]}]}', "Region 1 .* no category"),
            ('{"regions": [{"category": "cat", "box": [0, 0, 1, 2]}]}', "leaves the image"),
        ],
    )
    def test_bad_text_names_the_region_and_the_fix(self, text: str, complaint: str) -> None:
        with pytest.raises(RegionError, match=complaint):
            parse_regions(text)


class TestBoxes:
    box = {"x": 64, "y": 0, "width": 192, "height": 256}

    @pytest.mark.parametrize("wrap", [lambda b: b, lambda b: [b], lambda b: [[b], []]])
    def test_a_box_a_list_and_a_list_of_lists_are_the_same(self, wrap: Any) -> None:
        assert parse_boxes(wrap(self.box), "cat", 256, 512) == [Region("cat", 0.25, 0.0, 1.0, 0.5)]

    def test_a_label_goes_before_the_category(self) -> None:
        boxes = [{**self.box, "label": "Dog", "score": 0.7}, self.box]
        assert [r.category for r in parse_boxes(boxes, "cat", 256, 256)] == ["dog", "cat"]

    def test_what_create_bounding_boxes_writes_names_its_boxes(self) -> None:
        described = {**self.box, "metadata": {"type": "obj", "text": "", "desc": "A castle", "palette": []}}
        text = {**self.box, "metadata": {"type": "text", "text": "Open", "desc": "", "palette": []}}
        assert [r.category for r in parse_boxes([described, text], "", 256, 256)] == ["a castle", "open"]

    def test_elements_are_in_thousandths_top_first(self) -> None:
        element = {"type": "obj", "bbox": [100, 200, 300, 600], "desc": "a castle"}
        assert parse_boxes([element], "", 1024, 512) == [Region("a castle", 0.2, 0.1, 0.6, 0.3)]

    def test_a_box_that_reaches_over_the_border_is_cut(self) -> None:
        (region,) = parse_boxes({"x": -10, "y": 0, "width": 138, "height": 300}, "cat", 256, 256)
        assert (region.x0, region.x1, region.y1) == (0.0, 0.5, 1.0)

    @pytest.mark.parametrize(
        "boxes, complaint",
        [
            ([{"x": 300, "y": 0, "width": 10, "height": 10}], "Box 1 lies outside the image of 256x256"),
            ([{"x": 0, "y": 0, "width": 0, "height": 10}], "Box 1 is empty"),
            ([{"x": 0, "y": 0, "width": -5, "height": 10}], "turned round"),
            ([{"x": 0, "y": float("nan"), "width": 5, "height": 10}], "neither a bounding box"),
            ([{"x": 0, "y": 0}], "neither a bounding box"),
            (["box"], "neither a bounding box"),
            ([{"bbox": [1, 2, 3]}], "neither a bounding box"),
            ([{"x": 0, "y": 0, "width": 10**400, "height": 5}], "neither a bounding box"),
            ([torch.zeros(4)], "neither a bounding box"),
            (5, "boxes is int"),
        ],
    )
    def test_bad_boxes_are_named(self, boxes: Any, complaint: str) -> None:
        with pytest.raises(RegionError, match=complaint):
            parse_boxes(boxes, "cat", 256, 256)

    def test_a_box_without_a_name_is_an_error(self) -> None:
        with pytest.raises(RegionError, match="Box 1 has no category"):
            parse_boxes(self.box, " ", 256, 256)


class TestMasks:
    def test_a_mask_covers_cells_by_its_mean(self) -> None:
        cover = MaskRegion("a", half_mask()).coverage(3, 3)
        torch.testing.assert_close(cover, torch.tensor([[1.0, 0.5, 0.0]] * 3, dtype=torch.float64))

    @pytest.mark.parametrize("rows, columns, side", [(4, 4, 64), (5, 7, 33), (4.75, 4.25, 50), (16, 8, 3)])
    def test_coverage_keeps_the_area_for_any_sizes(self, rows: float, columns: float, side: int) -> None:
        """The rule: what lies in whole cells is counted once, whatever the mask's resolution."""
        mask = torch.rand(1, side, side)
        fine = MaskRegion("a", mask).coverage(rows, columns)
        assert fine.shape == (int(rows), int(columns))
        if rows == int(rows) and columns == int(columns):
            assert float(fine.mean()) == pytest.approx(float(mask.mean()), rel=1e-5)
        assert float(fine.max()) <= float(mask.max()) + 1e-9

    def test_a_mask_of_a_box_owns_the_cells_of_the_box(self) -> None:
        box = Region("a", 0.25, 0.5, 0.75, 1.0)
        mask = torch.zeros(1, 32, 32)
        mask[:, 16:, 8:24] = 1
        torch.testing.assert_close(MaskRegion("a", mask).coverage(6, 9), box.coverage(6, 9))

    def test_each_image_has_its_own_mask_and_then_they_begin_again(self) -> None:
        region = MaskRegion("a", torch.cat([half_mask(), half_mask().flip(2)]))
        owners = [assign_cells([region], 2, 2, i).tolist() for i in range(3)]
        assert owners == [[[0, -1]] * 2, [[-1, 0]] * 2, [[0, -1]] * 2]

    def test_empty_masks_are_named(self) -> None:
        with pytest.raises(RegionError, match='The mask of "sky" is empty: paint'):
            MaskRegion("sky", torch.zeros(1, 4, 4))
        with pytest.raises(RegionError, match='mask number 2 of "sky"'):
            MaskRegion("sky", torch.cat([half_mask(), torch.zeros(1, 8, 8)]))
        with pytest.raises(RegionError, match="finite"):
            MaskRegion("sky", torch.full((1, 4, 4), float("nan")))


class TestCells:
    def test_cell_belongs_to_a_region_that_covers_half_of_it(self) -> None:
        owner = assign_cells([Region("a", 0.0, 0.0, 0.4, 0.5), Region("b", 0.65, 0.5, 1.0, 1.0)], 4, 4)
        assert owner.tolist() == [[0, 0, -1, -1], [0, 0, -1, -1], [-1, -1, -1, 1], [-1, -1, -1, 1]]

    def test_where_regions_overlap_the_smaller_wins_or_the_one_listed_first(self) -> None:
        layout = [Region("large", 0, 0, 1, 1), Region("small", 0.5, 0.5, 1, 1), Region("left", 0, 0, 0.5, 1)]
        assert assign_cells(layout, 2, 2, overlap=SMALLER).tolist() == [[2, 0], [2, 1]]
        with pytest.raises(RegionError, match="covered by others"):
            assign_cells(layout, 2, 2, overlap=LISTED)
        assert assign_cells(layout[::-1], 2, 2, overlap=LISTED).tolist() == [[0, 2], [0, 1]]

    def test_thin_region_keeps_its_best_cell_also_from_a_larger_one(self) -> None:
        """The rule: a region too thin to cover a cell is never silently lost."""
        mast = Region("mast", 0.3, 0.0, 0.32, 0.26)
        owner = assign_cells([mast, Region("ship", 0, 0, 1, 1)], 4, 4)
        assert (owner == 0).nonzero().tolist() == [[0, 1]]
        owner = assign_cells([Region("ship", 0, 0, 1, 1), mast], 4, 4, overlap=LISTED)
        assert (owner == 1).nonzero().tolist() == [[0, 1]]

    def test_two_thin_regions_in_one_cell_both_keep_one(self) -> None:
        one, two = Region("a", 0.30, 0, 0.32, 0.5), Region("b", 0.33, 0, 0.35, 0.5)
        owner = assign_cells([one, two], 4, 4)
        assert sorted(owner[owner >= 0].tolist()) == [0, 1]

    def test_region_hidden_by_smaller_ones_is_named(self) -> None:
        layout = [Region("back", 0, 0, 1, 1), Region("l", 0, 0, 0.5, 1), Region("r", 0.5, 0, 1, 1)]
        with pytest.raises(RegionError, match='"back" is covered'):
            assign_cells(layout, 4, 4)

    def test_partial_edge_cells_are_no_part_of_the_grid(self) -> None:
        owner = assign_cells([Region("all", 0, 0, 1, 1)], 4.75, 4.25)
        assert owner.shape == (4, 4) and not owner.any()

    def test_one_layout_serves_every_resolution(self) -> None:
        layout = [Region("a", 0.25, 0.0, 0.75, 0.5)]
        small, large = assign_cells(layout, 4, 8), assign_cells(layout, 16, 32)
        assert torch.equal(small.repeat_interleave(4, 0).repeat_interleave(4, 1), large)

    def test_regions_of_one_category_are_one_group(self) -> None:
        layout = [Region("a", 0, 0, 0.5, 1), Region("b", 0.5, 0, 1, 0.5), Region("a", 0.5, 0.5, 1, 1)]
        owner = assign_cells(layout, 2, 2)
        assert categories_of(layout) == ("a", "b")
        assert by_category(layout, owner).tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("castle\n# a comment: 1 2 3 4\n\nfire hydrant", True),
        ("embedding:style2\ncat 2", True),
        ("area 51, 2 owls", True),
        ('"star trek: the ship"', True),
        ("castle: left\ntree: right", False),
        ("castle\uff1a \u5de6", False),
        ("castle: 0.62 0.18 1.0 0.69", False),
        ("cat\nowl: 0.1 0.2", False),
        ("owl \uff1a 0,62 0,18 1,0 0,69", False),
        ("owl - [0.1, 0.2, 0.3, 0.4]", False),
        ('  {"regions": []}', False),
    ],
)
def test_a_list_of_names_is_told_from_regions(text: str, expected: bool) -> None:
    assert names_only(text) == expected
