"""Ticket Regions in the page: drawn with mouse, finger and keyboard, kept wherever a workflow goes."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import browser as browsers
import pytest
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
        session = editor.page.context.new_cdp_session(editor.page)

        def touch(kind: str, *points: tuple[float, float]) -> None:
            places = [{"x": x, "y": y} for x, y in (editor.at(*p) for p in points)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

        touch("touchStart", (0.1, 0.1))
        touch("touchMove", (0.3, 0.3))
        touch("touchMove", (0.5, 0.5))
        touch("touchEnd")
        assert editor.boxes == [[0.125, 0.125, 0.5, 0.5]]

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
          const {colour, ink} = await import(new URL('./layout.js', url))
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
        assert "is no layout" in editor.root.locator(".message").text_content()
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
