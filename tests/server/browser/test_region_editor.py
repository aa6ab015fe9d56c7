"""Ticket Regions in the page: drawn with mouse, finger and keyboard, kept wherever a workflow goes."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import browser as browsers
import pytest
from comfyui_client import Client
from PIL import Image
from playwright.sync_api import expect
from winning_tickets.show.colours import category_colour
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.layout.regions import Region

ADD = """([type, at]) => {
  const node = LiteGraph.createNode(type)
  node.pos = at
  app.graph.add(node)
  app.canvas.setDirty(true, true)
  return node.id
}"""
VALUE = "id => app.graph.getNodeById(id).widgets.find(w => w.name === 'layout').value"
SET = "([id, name, value]) => { app.graph.getNodeById(id).widgets.find(w => w.name === name).value = value }"
TURN = """([id, name, value]) => {
  const widget = app.graph.getNodeById(id).widgets.find(w => w.name === name)
  widget.value = value
  widget.callback(value)
}"""
CONNECT = """([from, slot, to, name]) => {
  app.graph.getNodeById(from).connect(slot, app.graph.getNodeById(to), name)
}"""
# Whether a node shows this text; nodes out of sight have no element on the page.
TOLD = """told => app.graph.nodes.flatMap(n => n.widgets ?? [])
  .some(w => w.name === 'told' && w.element.textContent.includes(told))"""
FIND = "app.graph.nodes.find(n => n.comfyClass === 'TicketRegions').id"
TAKING_A_STEP = "app.extensionManager.workflow.activeWorkflow.changeTracker._restoringState"
CAPTURE = "app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState()"
# All that a run reports to the page comes before its end.
FINISHED = """() => { window.finished = new Promise(done => {
  for (const end of ['success', 'error', 'interrupted'])
    app.api.addEventListener(`execution_${end}`, () => done(end), {once: true})
}) }"""
LINES = "castle: 0.625 0.1875 1 0.6875\nlake: 0.0625 0.5 0.5625 1"
LAYOUT = [Region("castle", 0.625, 0.1875, 1, 0.6875), Region("lake", 0.0625, 0.5, 0.5625, 1)]


def until(page: Any, true: Callable[[], bool]) -> None:
    """Wait for what only Python can tell of a page."""
    deadline = time.monotonic() + browsers.PATIENCE / 1000
    while not true():
        assert time.monotonic() < deadline, "the page did not get there"
        page.wait_for_timeout(50)


class Editor:
    """One Ticket Regions on the page."""

    def __init__(self, page: Any, at: tuple[int, int] = (0, 0), nth: int = 0) -> None:
        self.page, self.nth = page, nth
        self.id = page.evaluate(ADD, ["TicketRegions", list(at)])
        self.root = page.locator(".tickets-regions").nth(nth)
        self.stage = self.root.locator(".stage")
        self.stage.wait_for()
        browsers.settle(page)

    @property
    def text(self) -> str:
        return str(self.page.evaluate(VALUE, self.id))

    @property
    def regions(self) -> list[Region]:
        return parse_regions(self.text)

    @property
    def boxes(self) -> list[list[float]]:
        """Of regions that may have no name yet."""
        return [entry["box"] for entry in json.loads(self.text)["regions"]]

    def wait_for(self, regions: list[Region]) -> None:
        """ComfyUI takes steps back by loading the whole workflow, which may take a while."""
        until(self.page, lambda: self.regions == regions and not self.page.evaluate(TAKING_A_STEP))
        browsers.settle(self.page)

    def set(self, text: str) -> None:
        self.page.evaluate(SET, [self.id, "layout", text])

    def at(self, x: float, y: float) -> tuple[float, float]:
        box = self.stage.bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.at(*start))
        mouse.down()
        mouse.move(*self.at((start[0] + end[0]) / 2, (start[1] + end[1]) / 2))
        mouse.move(*self.at(*end))
        mouse.up()

    def click(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.at(x, y))

    def touch(self, *points: tuple[float, float]) -> None:
        """A finger from the first of these places to the last."""
        session = self.page.context.new_cdp_session(self.page)
        for kind, point in zip(("touchStart", *("touchMove",) * (len(points) - 1)), points, strict=True):
            x, y = self.at(*point)
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        session.detach()

    def button(self, name: str) -> Any:
        return self.root.locator(f"button[name={name}]")

    @property
    def readout(self) -> str:
        return str(self.root.locator("output").text_content())

    def draw(self, category: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.drag(start, end)
        self.page.keyboard.type(category)
        self.page.keyboard.press("Enter")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


@pytest.fixture
def editor(page: Any) -> Editor:
    return Editor(page)


@pytest.fixture
def drawn(editor: Editor) -> Editor:
    editor.draw("castle", (0.62, 0.2), (0.98, 0.7))
    editor.draw("Lake.", (0.05, 0.5), (0.55, 0.97))
    return editor


class TestDrawing:
    def test_boxes_snap_to_cells_and_are_named_by_typing(self, drawn: Editor) -> None:
        assert drawn.regions == LAYOUT
        assert json.loads(drawn.text)["regions"][0] == {
            "category": "castle",
            "box": [0.625, 0.1875, 1, 0.6875],
        }

    def test_alt_draws_beside_the_cells(self, editor: Editor) -> None:
        editor.page.keyboard.down("Alt")
        editor.drag((0.1, 0.1), (0.5, 0.35))
        editor.page.keyboard.up("Alt")
        assert editor.boxes[0] == pytest.approx([0.1, 0.1, 0.5, 0.35], abs=0.01)

    def test_boxes_are_moved_resized_and_deleted(self, drawn: Editor) -> None:
        drawn.drag((0.8, 0.5), (0.5, 0.4))
        assert drawn.regions[0] == Region("castle", 0.3125, 0.0625, 0.6875, 0.5625)
        drawn.drag((0.6875, 0.5625), (0.88, 0.74))
        assert drawn.regions[0] == Region("castle", 0.3125, 0.0625, 0.875, 0.75)
        drawn.press("Delete")
        assert drawn.regions == LAYOUT[1:]

    def test_keys_do_all_that_the_mouse_does(self, drawn: Editor) -> None:
        drawn.press("ArrowUp", "ArrowRight", "Shift+ArrowLeft")
        assert drawn.regions[1] == Region("lake", 0.125, 0.4375, 0.5625, 0.9375)
        drawn.press("Alt+ArrowRight")
        assert drawn.regions[1].x0 == pytest.approx(0.125 + 1 / 512, abs=1e-4)
        drawn.press("Delete", "Insert")
        drawn.page.keyboard.type("boat")
        drawn.press("Enter")
        assert [r.category for r in drawn.regions] == ["castle", "boat"]
        drawn.press("Shift+Tab")
        assert drawn.root.locator(".selected span").text_content() == "castle"

    def test_escape_takes_back_what_is_being_dragged(self, drawn: Editor) -> None:
        mouse = drawn.page.mouse
        mouse.move(*drawn.at(0.8, 0.5))
        mouse.down()
        mouse.move(*drawn.at(0.4, 0.2))
        drawn.press("Escape")
        mouse.up()
        assert drawn.regions == LAYOUT

    def test_a_second_click_reaches_the_box_beneath(self, editor: Editor) -> None:
        editor.set("sky: 0 0 1 1\nsun: 0.25 0.25 0.5 0.5")
        names = []
        for _ in range(3):
            editor.click(0.4, 0.4)
            names.append(editor.root.locator(".selected span").text_content())
        assert names == ["sun", "sky", "sun"]

    def test_fingers(self, editor: Editor) -> None:
        editor.touch((0.1, 0.1), (0.3, 0.3), (0.5, 0.5))
        assert editor.boxes == [[0.125, 0.125, 0.5, 0.5]]

    def test_the_panel_of_parameters_does_not_narrow_it(self, editor: Editor) -> None:
        """The panel draws the widget once more, for which it writes its own width into it."""
        before = editor.root.bounding_box()["width"]
        widget = "app.graph.getNodeById(id).widgets.find(w => w.name === 'layout')"
        editor.page.evaluate(f"id => {{ {widget}.width = 100; app.canvas.setDirty(true, true) }}", editor.id)
        browsers.settle(editor.page)
        assert editor.root.bounding_box()["width"] == before

    def test_the_zoom_of_the_canvas_does_not_matter(self, editor: Editor) -> None:
        editor.page.evaluate("app.canvas.ds.scale = 0.6; app.canvas.setDirty(true, true)")
        browsers.settle(editor.page)
        editor.draw("castle", (0.62, 0.2), (0.98, 0.7))
        assert editor.regions == LAYOUT[:1]

    def test_aspect_and_cells_follow_width_and_height(self, editor: Editor) -> None:
        editor.page.evaluate(TURN, [editor.id, "width", 768])
        browsers.settle(editor.page)
        box = editor.stage.bounding_box()
        assert box["width"] / box["height"] == pytest.approx(1.5, rel=0.02)
        editor.draw("castle", (0.05, 0.1), (0.98, 0.7))
        assert editor.regions[0].x0 == pytest.approx(1 / 24, abs=1e-4)

    def test_regions_before_these_set_the_size(self, editor: Editor) -> None:
        """The rule: the size is asked for once, and the drawing has the shape that the image will have."""
        editor.page.evaluate(TURN, [editor.id, "width", 768])
        second = Editor(editor.page, (500, 0), 1)
        second.page.evaluate(CONNECT, [editor.id, 0, second.id, "regions"])
        browsers.settle(second.page)
        box = second.stage.bounding_box()
        assert box["width"] / box["height"] == pytest.approx(1.5, rel=0.02)

    def test_every_step_can_be_undone_and_done_again(self, drawn: Editor) -> None:
        # What the new node took for its size, ComfyUI would keep with the next step.
        browsers.settle(drawn.page)
        drawn.page.evaluate(CAPTURE)
        drawn.press("ArrowUp")
        moved = drawn.regions
        assert moved != LAYOUT
        drawn.press("Control+z")
        drawn.wait_for(LAYOUT)
        drawn.root.get_by_title("Redo").click()
        drawn.wait_for(moved)

    def test_a_category_has_the_colour_it_has_in_the_pictures(self, editor: Editor) -> None:
        names = ["castle", "flower", "a red bicycle", "\u57ce", "caf\u00e9", *map(str, range(200))]
        script = """async names => {
          const url = [...document.styleSheets].map(s => s.href).find(u => u?.includes('regions.css'))
          const {colour, ink} = await import(new URL('./category.js', url))
          return names.map(n => [colour(n), ink(colour(n))])
        }"""
        told = editor.page.evaluate(script, names)
        for name, (rgb, ink) in zip(names, told, strict=True):
            assert [c / 255 for c in rgb] == pytest.approx(category_colour(name), abs=0.004)
            assert contrast(rgb, [0, 0, 0] if ink == "#000" else [255, 255, 255]) >= 4.5


def contrast(one: list[int], other: list[int]) -> float:
    """WCAG's ratio of two colours; 4.5 is asked for text."""

    def light(rgb: list[int]) -> float:
        parts = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


class TestKept:
    def test_in_a_saved_and_loaded_workflow(self, drawn: Editor) -> None:
        load = "async () => app.loadGraphData(JSON.parse(JSON.stringify(app.graph.serialize())))"
        drawn.page.evaluate(load)
        expect(drawn.root.locator(".region")).to_have_count(2)
        assert drawn.regions == LAYOUT

    def test_in_a_copy_of_the_node(self, drawn: Editor) -> None:
        copied = drawn.page.evaluate(
            """id => {
              app.canvas.selectItems([app.graph.getNodeById(id)])
              app.canvas.copyToClipboard()
              app.canvas.pasteFromClipboard({position: [600, 0]})
              return app.graph.nodes.find(n => n.id !== id).id
            }""",
            drawn.id,
        )
        assert drawn.page.evaluate(VALUE, copied) == drawn.text

    def test_in_a_subgraph_and_in_the_api_format(self, drawn: Editor) -> None:
        prompt = "async () => Object.values((await app.graphToPrompt()).output)"
        before = drawn.page.evaluate(prompt)
        drawn.page.evaluate(
            "id => { app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)])) }", drawn.id
        )
        browsers.settle(drawn.page)
        after = drawn.page.evaluate(prompt)
        assert [n["inputs"]["layout"] for n in after] == [n["inputs"]["layout"] for n in before]
        assert parse_regions(after[0]["inputs"]["layout"]) == LAYOUT

    def test_broken_json_is_shown_with_a_message_and_kept(self, editor: Editor) -> None:
        text = '{"regions": [{"category": "castle"'
        editor.set(text)
        assert editor.text == text
        assert "is not a layout" in editor.root.locator(".message").text_content()
        area = editor.root.locator("textarea")
        assert area.input_value() == text
        area.fill('{"regions": [{"category": "castle", "box": [0, 0, 1, 1]}]}')
        assert editor.regions == [Region("castle", 0, 0, 1, 1)]
        assert editor.root.locator(".message").is_hidden()

    def test_as_text_by_copy_and_paste(self, drawn: Editor) -> None:
        context = drawn.page.context
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        drawn.press("Control+c")
        assert drawn.page.evaluate("navigator.clipboard.readText()") == LINES.replace("lake", "Lake.")
        other = Editor(drawn.page, (500, 0), 1)
        other.stage.focus()
        other.press("Control+v")
        until(other.page, lambda: other.regions == LAYOUT)
        assert drawn.page.evaluate("app.graph.nodes.length") == 2

    def test_lines_are_read_too(self, editor: Editor) -> None:
        editor.set(LINES)
        assert editor.root.locator(".region").count() == 2 and editor.regions == LAYOUT

    def test_the_page_reads_lines_as_the_nodes_do(self, editor: Editor) -> None:
        """Rule: colons, commas, digits and spaces of any keyboard, and the names of embeddings."""
        for line in (
            "Castle\uff1a0.62\uff0c0.18\uff0c1.0\uff0c0.69",
            "red\u3000castle:\uff10\uff0e\uff16\uff12\u3000\uff10\uff0e\uff11\uff18\u30011\u30010.69",
            "castle: 0,62 0,18 1,0 0,69  # decimal commas",
            "castle\t0.62; 0.18; 1; 0.69",
            "castle \u2013 [0.62, 0.18, 1, 0.69]",
            "\u201cperro\u201d: 0.62 0.18 1 0.69",
            "A Embedding:MyCat: 0.62 0.18 1 0.69",
        ):
            editor.set(f"# a comment\n{line}")
            assert editor.text.startswith("{"), line
            assert editor.regions == parse_regions(line), line
        for line in ("castle 0 0 1 1", "castle: 0 0 1", "castle, 0 0 0 1 1"):
            editor.set(line)
            assert editor.text == line and editor.root.locator(".message").is_visible()


class TestPicture:
    def test_one_that_is_gone_is_not_shown(self, editor: Editor) -> None:
        file = {"filename": "gone.png", "subfolder": "", "type": "temp"}
        kept = {"ticket regions picture": {"kind": "last", "file": file}}
        keep = "([id, kept]) => { Object.assign(app.graph.getNodeById(id).properties, kept) }"
        editor.page.evaluate(keep, [editor.id, kept])
        with editor.page.expect_response(lambda r: "gone.png" in r.url):
            editor.page.mouse.move(5, 5)
            editor.root.locator("input").hover()
        for _ in range(2):
            browsers.settle(editor.page)
            assert editor.root.locator("img").is_hidden()
            editor.page.mouse.move(5, 5)
            editor.root.locator("input").hover()
        # The browser's own line about the 404 is the only one.
        editor.page.said[:] = [line for line in editor.page.said if "gone.png" not in line]

    def test_of_a_connected_load_image(self, editor: Editor, server: Any) -> None:
        (server.base / "input").mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), "orange").save(server.base / "input" / "orange.png")
        load = editor.page.evaluate(ADD, ["LoadImage", [-420, 0]])
        editor.page.evaluate(SET, [load, "image", "orange.png"])
        editor.page.evaluate(CONNECT, [load, 0, editor.id, "background"])
        editor.root.locator("select").select_option("connected")
        editor.page.wait_for_function("document.querySelector('.tickets-regions img').naturalWidth === 64")

    def test_the_last_output_is_no_report_of_this_pack(self, page: Any, server: Any) -> None:
        """Rule: what is drawn on is a picture that was made, not a chart about it."""
        regions = {"class_type": "TicketRegions", "inputs": {"width": 256, "height": 256, "layout": ""}}
        made = {"width": 96, "height": 64, "batch_size": 1, "color": uuid.uuid4().int % 2**24}
        picture = {
            "1": {"class_type": "EmptyImage", "inputs": made},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        }
        about = {
            "1": {"class_type": "LoadTicketBank", "inputs": {"name": "demo_model.safetensors"}},
            "2": {"class_type": "TicketBankReport", "inputs": {"bank": ["1", 0]}},
        }
        for prompt in (picture, about):
            page.evaluate("prompt => app.loadApiJson(prompt, 'regions')", {**prompt, "20": regions})
            page.locator(".tickets-regions .stage").wait_for()
            page.evaluate(FINISHED)
            with page.expect_response(lambda r: r.url.endswith("/prompt")) as answer:
                page.evaluate("app.queuePrompt(0)")
            outputs = server.client.wait(answer.value.json()["prompt_id"], 600)["outputs"]
            assert outputs["2"]["images"] and page.evaluate("window.finished") == "success"
        page.locator(".tickets-regions select").select_option("last")
        page.wait_for_function("document.querySelector('.tickets-regions img').naturalWidth > 0")
        assert page.evaluate("document.querySelector('.tickets-regions img').naturalWidth") == 96


class TestHandling:
    """Small boxes, fingers, lines to align with; copies and locks."""

    def test_a_name_is_seen_whole_at_any_size(self, editor: Editor) -> None:
        """Rule: a box may be smaller than its name; the name is within the image and beside a low box."""
        corners = [(0, 0), (0.9375, 0), (0, 0.9375), (0.9375, 0.9375), (0.45, 0.45)]
        name = "a small bird on a branch"
        entries = [{"category": name, "box": [x, y, x + 0.0625, y + 0.0625]} for x, y in corners]
        editor.set(json.dumps({"regions": entries}))
        stage = editor.stage.bounding_box()
        for k in range(len(corners)):
            region = editor.root.locator(".region").nth(k)
            name = region.locator("span")
            assert name.evaluate("e => e.scrollWidth <= e.clientWidth && e.clientWidth > 120")
            seen, box = name.bounding_box(), region.bounding_box()
            assert (
                stage["x"] - 3 <= seen["x"] and seen["x"] + seen["width"] <= stage["x"] + stage["width"] + 3
            )
            assert seen["y"] + seen["height"] <= box["y"] + 3 or seen["y"] >= box["y"] + box["height"] - 3
            assert (
                stage["y"] - 3 <= seen["y"] and seen["y"] + seen["height"] <= stage["y"] + stage["height"] + 3
            )

    @pytest.mark.parametrize("corner, sides", [((0.375, 0.375), "nw"), ((0.625, 0.625), "se")])
    def test_a_finger_has_44_pixels_to_take_hold_of_an_edge(
        self, editor: Editor, corner: tuple[float, float], sides: str
    ) -> None:
        """Rule: 20 pixels beside a corner a finger resizes the box, where a mouse would draw another."""
        text = "castle: 0.375 0.375 0.625 0.625"
        editor.set(text)
        width = editor.stage.bounding_box()["width"]
        away = 20 / width * (1 if sides == "se" else -1)
        start = corner[0] + away, corner[1] + away
        end = start[0] + away, start[1] + away
        editor.click(0.5, 0.5)
        editor.touch(start, end, end)
        (resized,) = editor.regions
        fixed = (resized.x0, resized.y0) if sides == "se" else (resized.x1, resized.y1)
        assert fixed == (1 - corner[0], 1 - corner[1]) and resized.area() > 0.0625
        editor.set(text)
        editor.click(0.5, 0.5)
        editor.drag(start, end)
        assert len(editor.boxes) == 2 and editor.boxes[0] == [0.375, 0.375, 0.625, 0.625]

    def test_the_middle_of_a_small_box_still_moves_it(self, editor: Editor) -> None:
        editor.set("castle: 0.5 0.5 0.5625 0.5625")
        editor.click(0.53, 0.53)
        editor.touch((0.53125, 0.53125), (0.6, 0.6), (0.71875, 0.71875))
        assert editor.boxes == [[0.6875, 0.6875, 0.75, 0.75]]

    def test_a_pen_draws(self, editor: Editor) -> None:
        session = editor.page.context.new_cdp_session(editor.page)
        pen = {"pointerType": "pen", "button": "left", "force": 0.5}
        for kind, place in (("Pressed", 0.125), ("Moved", 0.3), ("Moved", 0.5), ("Released", 0.5)):
            x, y = editor.at(place, place)
            held = {"buttons": 0 if kind == "Released" else 1, "clickCount": int(kind != "Moved")}
            session.send("Input.dispatchMouseEvent", {"type": f"mouse{kind}", "x": x, "y": y, **pen, **held})
        assert editor.boxes == [[0.125, 0.125, 0.5, 0.5]]

    def test_size_and_share_are_told_while_it_is_resized(self, drawn: Editor) -> None:
        mouse = drawn.page.mouse
        drawn.click(0.8, 0.4)
        assert drawn.readout == "192 \u00d7 256 px \u00b7 19% \u00b7 x 320, y 96"
        mouse.move(*drawn.at(0.625, 0.1875))
        mouse.down()
        mouse.move(*drawn.at(0.7, 0.45))
        mouse.move(*drawn.at(0.75, 0.5))
        assert drawn.readout == "128 \u00d7 96 px \u00b7 4.7% \u00b7 x 384, y 256"
        mouse.up()
        drawn.press("Escape")
        assert drawn.readout == ""

    def test_boxes_align_with_others_and_the_middle_and_lines_show_it(self, editor: Editor) -> None:
        """Rule: what is near is met exactly, also off the cells; Alt switches it off."""
        editor.set("castle: 0.1 0.1 0.33 0.4")
        lines = editor.root.locator(".guides i")
        editor.page.mouse.move(*editor.at(0.335, 0.6))
        editor.page.mouse.down()
        editor.page.mouse.move(*editor.at(0.5, 0.7))
        editor.page.mouse.move(*editor.at(0.75, 0.875))
        assert lines.count() == 1 and "33%" in lines.first.get_attribute("style")
        editor.page.mouse.up()
        assert editor.boxes[1] == [0.33, 0.625, 0.75, 0.875] and lines.count() == 0
        editor.page.keyboard.type("lake")
        editor.press("Enter")
        # By its middle to that of the image.
        editor.drag((0.54, 0.75), (0.505, 0.75))
        assert editor.boxes[1] == [0.29, 0.625, 0.71, 0.875]
        editor.page.keyboard.down("Alt")
        editor.drag((0.5, 0.75), (0.52, 0.75))
        editor.page.keyboard.up("Alt")
        assert editor.boxes[1][0] == pytest.approx(0.31, abs=0.004)

    def test_a_copy_lies_beside_its_original(self, drawn: Editor) -> None:
        """ComfyUI's own Ctrl+D, which loads another workflow, does not get the key."""
        drawn.press("Control+d")
        assert drawn.regions == [*LAYOUT, Region("lake", 0.125, 0.4375, 0.625, 0.9375)]
        drawn.click(0.8, 0.3)
        drawn.button("duplicate").click()
        assert drawn.regions[3] == Region("castle", 0.5625, 0.25, 0.9375, 0.75)
        browsers.settle(drawn.page)
        assert drawn.page.evaluate("app.graph.nodes.length") == 1
        drawn.press("Control+z")
        drawn.wait_for([*LAYOUT, Region("lake", 0.125, 0.4375, 0.625, 0.9375)])

    def test_a_locked_box_stays_as_it_is(self, drawn: Editor) -> None:
        """Rule: nothing but unlocking changes it, and what is drawn on it is a box of its own."""
        drawn.click(0.8, 0.4)
        drawn.press("Control+l")
        entry = {"category": "castle", "box": [0.625, 0.1875, 1, 0.6875], "locked": True}
        assert json.loads(drawn.text)["regions"][0] == entry and drawn.regions == LAYOUT
        drawn.press("Delete", "ArrowUp", "Shift+ArrowLeft", "Backspace", "x")
        assert "locked" in drawn.readout and drawn.button("remove").is_disabled()
        assert drawn.regions == LAYOUT
        drawn.drag((0.7, 0.3), (0.9, 0.5))
        assert json.loads(drawn.text)["regions"][0] == entry and len(drawn.boxes) == 3
        drawn.press("Escape", "Delete")
        assert drawn.regions == LAYOUT
        browsers.settle(drawn.page)
        drawn.page.evaluate(CAPTURE)
        drawn.click(0.8, 0.6)
        drawn.button("unlock").click()
        assert "locked" not in drawn.text
        drawn.press("ArrowUp")
        assert drawn.regions[0].y0 == 0.125
        for _ in range(2):
            drawn.press("Control+z")
            browsers.settle(drawn.page)
        until(drawn.page, lambda: json.loads(drawn.text)["regions"][0] == entry)

    def test_a_lock_is_kept_in_the_text(self, editor: Editor) -> None:
        editor.set("sky: 0 0 1 0.5  # locked\nsun: 0.25 0.25 0.5 0.5")
        assert [e.get("locked") for e in json.loads(editor.text)["regions"]] == [True, None]
        editor.button("text").click()
        area = editor.root.locator("textarea")
        assert area.input_value() == "sky: 0 0 1 0.5  # locked\nsun: 0.25 0.25 0.5 0.5"
        area.fill(area.input_value().replace("sun", "moon"))
        assert [e.get("locked") for e in json.loads(editor.text)["regions"]] == [True, None]


class TestBoxes:
    """ComfyUI's own bounding boxes, from its node Create Bounding Boxes and to it."""

    STATE = """() => {
      const node = app.graph.nodes.find(n => n.comfyClass === 'CreateBoundingBoxes')
      return Object.fromEntries(node.widgets.map(w => [w.name, w.value]))
    }"""

    @pytest.fixture
    def node(self, client: Client) -> None:
        """Of ComfyUI; older ones lack it."""
        if "CreateBoundingBoxes" not in client.object_info():
            pytest.skip("This ComfyUI has no Create Bounding Boxes.")

    @pytest.fixture(autouse=True)
    def what_comfyui_says_of_its_own_node(self, page: Any) -> Iterator[None]:
        yield
        page.said[:] = [line for line in page.said if "addWidget(...) without a callback" not in line]

    def test_there_and_back_and_through_the_server(
        self, node: None, drawn: Editor, run: Callable[[dict[str, Any]], Any]
    ) -> None:
        drawn.button("give").click()
        browsers.settle(drawn.page)
        state = drawn.page.evaluate(self.STATE)
        assert (state["width"], state["height"]) == (512, 512)
        assert [b["metadata"]["desc"] for b in state["editor_state"]] == ["castle", "Lake."]
        sides = {"width": 512, "height": 512}
        # Of two entries, a bare list would be a link.
        made = {"editor_state": {"__value__": state["editor_state"]}, **sides}
        prompt = {
            "1": {"class_type": "CreateBoundingBoxes", "inputs": made},
        }
        for node, slot in (("2", 1), ("3", 2)):
            taken = {"boxes": ["1", slot], "category": "x", **sides}
            prompt[node] = {"class_type": "TicketRegionsFromBoxes", "inputs": taken}
            prompt[f"1{node}"] = {"class_type": "PreviewAny", "inputs": {"source": [node, 0]}}
        entry = run(prompt)
        assert parse_regions(entry.text("2")) == [Region("x", r.x0, r.y0, r.x1, r.y1) for r in LAYOUT]
        assert [r.category for r in parse_regions(entry.text("3"))] == ["castle", "lake"]
        drawn.set("")
        drawn.button("take").click()
        assert drawn.regions == LAYOUT
        browsers.settle(drawn.page)
        drawn.press("Control+z")
        drawn.wait_for([])

    def test_of_another_size_are_in_their_places(self, node: None, editor: Editor) -> None:
        other = editor.page.evaluate(ADD, ["CreateBoundingBoxes", [500, 0]])
        editor.button("take").click()
        assert "no boxes" in editor.root.locator(".message").text_content()
        box = {"x": 256, "y": -64, "width": 512, "height": 320, "metadata": {"desc": "", "text": "Open"}}
        beyond = {"x": 2000, "y": 0, "width": 10, "height": 10}
        editor.page.evaluate(SET, [other, "editor_state", [box, beyond]])
        editor.button("take").click()
        assert editor.regions == [Region("open", 0.25, 0, 0.75, 0.25)]
        assert editor.root.locator(".message").is_hidden()

    @pytest.mark.parametrize(
        "boxes",
        [
            {"x": 64, "y": 128, "width": 128, "height": 256, "label": "Dog"},
            [[{"x": 64, "y": 128, "width": 128, "height": 256, "label": "Dog", "score": 0.9}], []],
            [{"type": "obj", "bbox": [250, 125, 750, 375], "desc": "Dog"}],
        ],
    )
    def test_are_pasted_as_json(self, editor: Editor, boxes: Any) -> None:
        editor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        editor.page.evaluate("text => navigator.clipboard.writeText(text)", json.dumps(boxes))
        editor.stage.focus()
        editor.press("Control+v")
        until(editor.page, lambda: editor.regions == [Region("dog", 0.125, 0.25, 0.375, 0.75)])


class TestEverybody:
    """Keyboard and screen reader, in both themes."""

    STATES = {
        "empty": "",
        "drawn": json.dumps(
            {
                "regions": [
                    {"category": "sky", "box": [0, 0, 1, 0.5], "locked": True},
                    {"category": "castle", "box": [0.5, 0.25, 1, 0.75]},
                    {"category": "", "box": [0.125, 0.75, 0.1875, 0.8125]},
                ]
            }
        ),
        "broken": '{"regions": [',
    }

    @pytest.mark.parametrize("theme", ["dark", "light"])
    def test_axe_finds_nothing(
        self, editor: Editor, axe: Callable[[Any, str], list[str]], theme: str
    ) -> None:
        page = editor.page
        other = page.evaluate(ADD, ["CollectTickets", [-420, 0]])
        page.evaluate(SET, [other, "categories", "castle\ntree"])
        TestBank.build(editor, other)
        choose = "name => app.extensionManager.setting.set('Comfy.ColorPalette', name)"
        page.evaluate(choose, theme)
        try:
            for state, text in self.STATES.items():
                editor.set(text)
                if state == "drawn":
                    editor.click(0.75, 0.6)
                browsers.settle(page)
                assert axe(page, ".tickets-regions") == [], state
            editor.button("add").evaluate("e => ['title', 'aria-label'].map(name => e.removeAttribute(name))")
            (told,) = axe(page, ".tickets-regions")
            assert told.startswith("button-name")
        finally:
            page.evaluate(choose, "dark")

    def test_a_box_says_what_and_where_it_is(self, editor: Editor) -> None:
        editor.set(self.STATES["drawn"])
        boxes = editor.root.get_by_role("button", name="px")
        labels = [box.get_attribute("aria-label") for box in boxes.all()]
        assert labels == [
            "sky, 512 \u00d7 256 px, 50%, x 0, y 0, locked",
            "castle, 256 \u00d7 256 px, 25%, x 256, y 128",
            "name me, 32 \u00d7 32 px, 0.4%, x 64, y 384",
        ]
        editor.stage.focus()
        for k in range(3):
            editor.press("Tab")
            assert [b.get_attribute("aria-pressed") for b in boxes.all()].index("true") == k
            assert boxes.nth(k).evaluate("e => e === document.activeElement")
        editor.press("Escape")
        assert editor.stage.evaluate("e => e === document.activeElement")
        assert editor.root.get_by_role("status").count() == 1

    def test_every_button_and_field_has_a_name(self, editor: Editor) -> None:
        for role, count in (("button", 9), ("textbox", 1), ("combobox", 1), ("group", 1)):
            found = editor.root.get_by_role(role)
            assert found.count() == count
            assert all(one.get_attribute("aria-label") for one in found.all())


class TestBank:
    @pytest.fixture
    def collecting(self, editor: Editor) -> Editor:
        self.collect = editor.page.evaluate(ADD, ["CollectTickets", [-420, 0]])
        editor.page.evaluate(SET, [self.collect, "categories", "castle\nA  Tree.\ncar"])
        self.build(editor, self.collect)
        expect(editor.root.locator(".offered button")).to_have_count(3)
        return editor

    @staticmethod
    def build(editor: Editor, bank: int) -> int:
        """Ticket Latent from Regions with this bank; the editor's regions are for it."""
        latent = editor.page.evaluate(ADD, ["TicketLatentFromRegions", [500, 0]])
        editor.page.evaluate(CONNECT, [editor.id, 0, latent, "regions"])
        editor.page.evaluate(CONNECT, [bank, 0, latent, "bank"])
        return int(latent)

    def test_its_categories_are_offered_and_picked(self, collecting: Editor) -> None:
        chips = collecting.root.locator(".offered button")
        assert chips.all_text_contents() == ["castle", "a tree", "car"]
        collecting.drag((0.62, 0.2), (0.98, 0.7))
        chips.get_by_text("car").click()
        collecting.drag((0.1, 0.2), (0.4, 0.7))
        assert [r.category for r in collecting.regions] == ["car", "castle"]

    def test_a_loaded_banks_categories_and_cells_are_known_before_any_run(self, editor: Editor) -> None:
        load = editor.page.evaluate(ADD, ["LoadTicketBank", [-420, 0]])
        editor.page.evaluate(SET, [load, "name", "demo_model.safetensors"])
        self.build(editor, load)
        chips = editor.root.locator(".offered button")
        chips.get_by_text("flower").wait_for()
        assert chips.count() == 6
        # Cells of 16 of 512 pixels.
        editor.drag((0.1, 0.1), (0.4, 0.4))
        assert editor.boxes == [[0.09375, 0.09375, 0.40625, 0.40625]]

    def test_a_slow_answer_does_not_replace_a_newer_one(self, editor: Editor) -> None:
        """Rule: what was asked for last is what is shown, whichever answer comes last."""
        held: list[Any] = []
        slow = "**/winning_tickets/bank?name=slow*"
        editor.page.route(slow, lambda route: held.append(route))
        load = editor.page.evaluate(ADD, ["LoadTicketBank", [-420, 0]])
        editor.page.evaluate(SET, [load, "name", "slow.safetensors"])
        self.build(editor, load)
        until(editor.page, lambda: bool(held))
        editor.page.evaluate(SET, [load, "name", "demo_model.safetensors"])
        editor.page.mouse.move(5, 5)
        editor.stage.hover()
        chips = editor.root.locator(".offered button")
        chips.get_by_text("flower").wait_for()
        for route in held:
            with editor.page.expect_response(slow):
                route.fulfill(json={"categories": ["an older bank"], "block": 8})
        browsers.settle(editor.page)
        editor.page.unroute(slow)
        assert chips.count() == 6 and not chips.get_by_text("older").count()

    def test_regions_that_are_passed_on_find_it_too(self, collecting: Editor) -> None:
        """The rule: the bank is that of the node which takes the regions in the end, however far."""
        second = Editor(collecting.page, (-420, 700), 1)
        mask = second.page.evaluate(ADD, ["TicketRegionFromMask", [-420, 1400]])
        second.page.evaluate(CONNECT, [second.id, 0, mask, "regions"])
        second.page.evaluate(CONNECT, [mask, 0, collecting.id, "regions"])
        expect(second.root.locator(".offered button")).to_have_text(["castle", "a tree", "car"])

    def test_a_bank_of_the_drawn_categories_lacks_none(self, collecting: Editor) -> None:
        """The wiring that the sockets suggest, once a cycle: categories to the collector, its bank back."""
        collecting.page.evaluate(CONNECT, [collecting.id, 1, self.collect, "categories"])
        browsers.settle(collecting.page)
        collecting.draw("boat", (0.62, 0.2), (0.98, 0.7))
        assert collecting.root.locator(".region span").text_content() == "boat"

    def test_what_it_lacks_is_marked(self, collecting: Editor) -> None:
        collecting.drag((0.62, 0.2), (0.98, 0.7))
        assert collecting.root.locator(".region span").text_content() == "castle"
        collecting.page.keyboard.type("boat")
        assert "boat (not in the bank)" in collecting.root.locator(".region span").text_content()


def test_regions_reach_the_noise_and_the_picture_keeps_them(
    page: Any, run: Callable[[dict[str, Any]], Any], short: dict[str, Any], server: Any
) -> None:
    """The whole way: drawn, queued from the page, seen in a PNG that holds the workflow."""
    prompt = json.loads(json.dumps(short))
    prompt["20"] = {
        "class_type": "TicketRegions",
        "inputs": {"width": 256, "height": 256, "layout": '{"regions": []}'},
    }
    # With a seed of its own: of what is cached, ComfyUI does not tell the page again.
    prompt["3"]["inputs"] |= {"regions": ["20", 0], "seed": uuid.uuid4().int % 2**32}
    page.evaluate("prompt => app.loadApiJson(prompt, 'regions')", prompt)
    page.locator(".tickets-regions .stage").wait_for()
    text = "castle: 0.5 0.25 1 0.75\ntree: 0 0.25 0.5 0.75"
    page.evaluate(SET, [page.evaluate(FIND), "layout", text])
    with page.expect_response(lambda r: r.url.endswith("/prompt")) as answer:
        page.evaluate("app.queuePrompt(0)")
    entry = server.client.wait(answer.value.json()["prompt_id"], 600)
    page.locator(".tickets-regions select").select_option("last")
    page.wait_for_function("document.querySelector('.tickets-regions img').naturalWidth === 256")
    for told in ("tickets of 3 categories", "30 NFE for 20 steps"):
        page.wait_for_function(TOLD, arg=told)
    pictures = [image for output in entry["outputs"].values() for image in output.get("images", [])]
    # Snapping to the cells of the bank, whose size is known of the run: 16 of 256 pixels.
    cell = "document.querySelector('.tickets-regions .grid').style.getPropertyValue('--cell-x')"
    assert page.evaluate(cell) == "6.25%"
    saved = next(image for image in pictures if image["type"] == "output")
    image = Image.open(io.BytesIO(server.client.image(**saved)))
    workflow = json.loads(image.info["workflow"])
    node = next(n for n in workflow["nodes"] if n["type"] == "TicketRegions")
    assert parse_regions(node["widgets_values"][2])[0] == Region("castle", 0.5, 0.25, 1, 0.75)
    # What the nodes told is no part of the workflow.
    assert "NFE for" not in json.dumps(page.evaluate("app.graph.serialize()"))
    assert "NFE for" not in image.info["prompt"]
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    expect(page.locator(".tickets-regions .region")).to_have_count(2)
    expect(page.locator(".tickets-regions .offered button")).to_have_text(["castle", "tree", "car"])
