/** Ticket Regions: the editor as a widget of its node, in both of ComfyUI's renderers. */

import { app } from "../../../scripts/app.js";
import { after, keepNodeWidth, widgetOf } from "../nodes.js";
import { addStyle } from "../style.js";
import { fromBoxes, toBoxes } from "./boxes.js";
import { RegionEditor } from "./editor.js";
import { bankFor, sizeOf, takesRegions } from "./neighbours.js";
import { choosePicture, chosenPicture, showPicture, watchOutputs } from "./picture.js";

const WIDGET = "TICKET_REGIONS_EDITOR";
/** ComfyUI's own node for bounding boxes, and its widget. */
const BOXES = ["CreateBoundingBoxes", "editor_state"];
/** Of an image to one of its latent's, as in tickets/grid.py; and how many of these a block has where no bank says. */
const [PIXELS, BLOCK] = [8, 4];
/** By node: what its last run reported. */
const known = new WeakMap();
/** How every editor takes up what changed around it. */
const follows = new Set();
const followAll = () => follows.forEach((follow) => follow());
/** By locale. */
let words = {};

app.registerExtension({
  name: "WinningTickets.Regions",

  async init() {
    addStyle("./regions.css", import.meta.url);
    words = await (await fetch(new URL("./words.json", import.meta.url), { cache: "no-cache" })).json();
  },

  setup() {
    watchOutputs();
    // What the subgraph is given may have changed outside.
    app.canvas?.canvas?.addEventListener("subgraph-opened", followAll);
  },

  /** Of a node that regions go to: the editors offer its bank. */
  nodeCreated(node) {
    if (!takesRegions(node)) return;
    after(node, "onConnectionsChange", followAll);
    after(node, "onExecuted", ({ ticket_bank: [bank] = [] }) => {
      if (bank) known.set(node, bank);
      followAll();
    });
  },

  getCustomWidgets: () => ({
    [WIDGET](node, name, [, options]) {
      const widget = Object.assign(addEditor(node, name), { value: options?.default ?? "" });
      return { widget, minWidth: 380, minHeight: 610 };
    },
  }),
});

function addEditor(node, name) {
  const locale = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
  const run = (command) => app.extensionManager.command.execute(command);
  const editor = new RegionEditor({ ...words.en, ...(words[locale] ?? words[locale.split("-")[0]]) }, {
    change() {
      widget.callback?.(widget.value);
      node.graph?.setDirtyCanvas(true, true);
    },
    step: () => app.extensionManager.workflow.activeWorkflow?.changeTracker?.captureCanvasState?.(),
    undo: () => run("Comfy.Undo"),
    redo: () => run("Comfy.Redo"),
    take: () => takeBoxes(node, editor),
    give: () => giveBoxes(node, editor),
    picture(kind) {
      choosePicture(node, kind, known.get(node));
      follow();
    },
  });
  const widget = node.addDOMWidget(name, WIDGET, editor.element, {
    getValue: () => editor.value,
    setValue: (value) => (editor.value = value),
    getMinHeight: () => 300,
    hideOnZoom: false,
  });
  keepNodeWidth(widget);
  const follow = () => refresh(node, editor);
  for (const event of ["pointerenter", "focusin"]) editor.element.addEventListener(event, follow);
  for (const event of ["onConfigure", "onConnectionsChange"]) after(node, event, follow);
  after(node, "onRemoved", () => follows.delete(follow));
  after(node, "onAdded", () => {
    follows.add(follow);
    const sides = ["width", "height"].map((side) => widgetOf(node, side));
    sides.filter(Boolean).forEach((input) => after(input, "callback", follow));
    follow();
  });
  after(node, "onExecuted", ({ ticket_regions: [reported] = [] }) => {
    if (!reported) return;
    known.set(node, reported);
    if (reported.background && chosenPicture(node) !== "last") choosePicture(node, "connected", reported);
    follow();
  });
  return widget;
}

/** Size, categories and background, as far as they are known; an answer that another one overtook is dropped. */
async function refresh(node, editor) {
  const turn = (editor.turn = {});
  editor.know({ size: sizeOf(node, known) ?? [512, 512] });
  showPicture(node, editor.view, known.get(node));
  const bank = await bankFor(node, known);
  if (editor.turn !== turn) return;
  const cell = (bank?.block || BLOCK) * PIXELS;
  editor.know({ cell, offered: bank?.categories ?? [], inBank: Boolean(bank?.categories) });
}

/** From the selected Create Bounding Boxes, or else the newest one with any. */
function takeBoxes(node, editor) {
  const all = node.graph.nodes.filter((n) => n.comfyClass === BOXES[0] && widgetOf(n, BOXES[1])?.value?.length);
  const source = all.find((n) => app.canvas.selectedItems?.has(n)) ?? all.at(-1);
  if (!source) return editor.view.say(editor.words.noBoxes);
  const size = ["width", "height"].map((side) => widgetOf(source, side).value);
  editor.replace(() => fromBoxes(widgetOf(source, BOXES[1]).value, size));
}

/** To a new Create Bounding Boxes beside the node. */
function giveBoxes(node, editor) {
  const made = LiteGraph.createNode(BOXES[0]);
  if (!made) return editor.view.say(editor.words.noNode);
  ["width", "height"].forEach((side, axis) => (widgetOf(made, side).value = editor.size[axis]));
  widgetOf(made, BOXES[1]).value = toBoxes(editor.regions, editor.size);
  made.pos = [node.pos[0] + node.size[0] + 40, node.pos[1]];
  node.graph.add(made);
  editor.done();
}
