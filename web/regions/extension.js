/** Ticket Regions: the editor as a widget of its node, in both of ComfyUI's renderers. */

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { ofRun, ours } from "../nodes.js";
import { addStyle } from "../style.js";
import { RegionEditor } from "./editor.js";
import { bankFor, isLinked, sizeOf, takesRegions, upstream, widgetOf } from "./neighbours.js";
import { words } from "./words.js";

const WIDGET = "TICKET_REGIONS_EDITOR";
/** Of an image to one of its latent's, as in tickets/grid.py. */
const PIXELS = 8;
const CELL = 4 * PIXELS;
const PICTURE = "ticket regions picture";
/** By node: what its last run reported. */
const known = new WeakMap();
/** By editor: how often it was refreshed. */
const turns = new WeakMap();
/** How every editor takes up what changed around it. */
const follows = new Set();
let lastOutput = null;

app.registerExtension({
  name: "WinningTickets.Regions",

  init: () => addStyle("./regions.css", import.meta.url),

  setup() {
    api.addEventListener("executed", ({ detail }) => {
      const found = detail?.output?.images?.at(-1);
      if (found && !isReport(detail)) lastOutput = found;
    });
  },

  /** Of a node that regions go to: the editors offer its bank. */
  nodeCreated(node) {
    if (!takesRegions(node)) return;
    after(node, "onConnectionsChange", () => follows.forEach((follow) => follow()));
    after(node, "onExecuted", ({ ticket_bank: [bank] = [] }) => {
      if (bank) known.set(node, bank);
      follows.forEach((follow) => follow());
    });
  },

  getCustomWidgets() {
    return {
      [WIDGET](node, name, [, options]) {
        const widget = addEditor(node, name);
        widget.value = options?.default ?? "";
        return { widget, minWidth: 380, minHeight: 580 };
      },
    };
  },
});

/** This pack's pictures are reports; those of a graph that is no longer shown have text beside them. */
function isReport({ display_node: shown, node: id, output }) {
  const node = ofRun(shown ?? id);
  return node ? ours(node) : Boolean(output.text);
}

function addEditor(node, name) {
  const locale = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
  const run = (command) => app.extensionManager.command.execute(command);
  const editor = new RegionEditor(words(locale), {
    change() {
      widget.callback?.(widget.value);
      node.graph?.setDirtyCanvas(true, true);
    },
    step: () => app.extensionManager.workflow.activeWorkflow?.changeTracker?.captureCanvasState?.(),
    undo: () => run("Comfy.Undo"),
    redo: () => run("Comfy.Redo"),
    picture: (kind) => choosePicture(node, editor, kind),
  });
  const widget = node.addDOMWidget(name, WIDGET, editor.element, {
    getValue: () => editor.value,
    setValue: (value) => (editor.value = value),
    getMinHeight: () => 280,
    hideOnZoom: false,
  });
  const follow = () => refresh(node, editor);
  editor.element.addEventListener("pointerenter", follow);
  editor.element.addEventListener("focusin", follow);
  after(node, "onRemoved", () => follows.delete(follow));
  after(node, "onConfigure", follow);
  after(node, "onConnectionsChange", follow);
  after(node, "onAdded", () => {
    follows.add(follow);
    for (const side of ["width", "height"]) {
      const input = widgetOf(node, side);
      if (input) after(input, "callback", follow);
    }
    follow();
  });
  after(node, "onExecuted", ({ ticket_regions: [reported] = [] }) => {
    if (!reported) return;
    known.set(node, reported);
    follow();
    const kind = node.properties[PICTURE]?.kind;
    if (reported.background && (!kind || kind === "connected")) choosePicture(node, editor, "connected");
  });
  return widget;
}

/** Of one object: what it did, and then this. */
function after(target, name, then) {
  const before = target[name];
  target[name] = function (...given) {
    const result = before?.apply(this, given);
    then(...given);
    return result;
  };
}

/** Size, categories and background, as far as they are known; an answer that another one overtook is dropped. */
async function refresh(node, editor) {
  const turn = (turns.get(editor) ?? 0) + 1;
  turns.set(editor, turn);
  editor.setSize(...(sizeOf(node, known) ?? [512, 512]));
  const { kind = "", file } = node.properties?.[PICTURE] ?? {};
  const shown = kind === "connected" ? (connectedPicture(node) ?? file) : kind && file;
  editor.view.setPicture(shown && pictureUrl(shown), kind);
  const bank = await bankFor(node, known);
  if (turns.get(editor) !== turn) return;
  const cell = bank?.block ? bank.block * PIXELS : CELL;
  editor.setOffered(bank?.categories ?? [], cell, Boolean(bank?.categories));
}

/** Which picture is behind the boxes; kept with the node, apart from the layout. */
function choosePicture(node, editor, kind) {
  const file = kind === "last" ? lastOutput : kind === "connected" ? connectedPicture(node) : null;
  node.properties[PICTURE] = { kind, file };
  editor.view.setPicture(file && pictureUrl(file), kind);
}

function connectedPicture(node) {
  const source = upstream(node, "background");
  const name = source?.comfyClass === "LoadImage" && widgetOf(source, "image")?.value;
  if (!name) return known.get(node)?.background ?? null;
  const [, plain, type = "input"] = /^(.*?)(?: \[(\w+)\])?$/.exec(String(name));
  const path = plain.split("/");
  return { filename: path.pop(), subfolder: path.join("/"), type };
}

function pictureUrl(file) {
  return file && api.apiURL(`/view?${new URLSearchParams(file)}`);
}
