/** What a node of this pack reports after a run, shown on the node; ComfyUI itself shows pictures only. */

import { app } from "../../scripts/app.js";
import { after, keepNodeWidth, ours } from "./nodes.js";
import { addStyle } from "./style.js";

const NAME = "told";
const LINE = 16;
const CHARACTER = 6.7;
const MOST_LINES = 22;

app.registerExtension({
  name: "WinningTickets.NodeText",

  init: () => addStyle("./node_text.css", import.meta.url),

  nodeCreated(node) {
    if (ours(node)) after(node, "onExecuted", (output) => show(node, output?.text));
  },

  /** As after a change of tabs: ComfyUI keeps what nodes reported. */
  onNodeOutputsUpdated(outputs) {
    for (const [locator, output] of Object.entries(outputs)) {
      const [graph, id] = locator.includes(":") ? locator.split(":") : [null, locator];
      const node = (graph ? app.rootGraph.subgraphs.get(graph) : app.rootGraph)?.getNodeById(id);
      if (ours(node)) show(node, output?.text);
    }
  },
});

function show(node, lines) {
  const text = [lines ?? []].flat().join("\n");
  let widget = node.widgets?.find((w) => w.name === NAME);
  if (!text && !widget) return;
  widget ??= add(node);
  widget.element.firstChild.replaceChildren(...text.split("\n").map(lineOf));
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  node.graph?.setDirtyCanvas(true, true);
}

/** Rows of a table are not wrapped: one can scroll to their end. */
function lineOf(text) {
  const line = document.createElement("div");
  line.textContent = text;
  line.classList.toggle("row", text.startsWith("|"));
  return line;
}

function add(node) {
  const element = document.createElement("div");
  element.className = "tickets-told";
  element.append(document.createElement("div"));
  const rows = () => {
    // What is wrapped goes on four characters further in.
    const room = Math.max(20, (node.size[0] - 50) / CHARACTER - 4);
    const lines = [...element.firstChild.children];
    const high = (line) => (line.className === "row" ? 1 : Math.ceil(line.textContent.length / room));
    return lines.reduce((sum, line) => sum + Math.max(1, high(line)), 0);
  };
  const widget = node.addDOMWidget(NAME, "TICKETS_TEXT", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => Math.min(MOST_LINES, rows()) * LINE + 30,
  });
  widget.serialize = false;
  keepNodeWidth(widget);
  for (const name of ["pointerdown", "wheel", "copy"]) {
    element.addEventListener(name, (event) => event.stopPropagation());
  }
  return widget;
}
