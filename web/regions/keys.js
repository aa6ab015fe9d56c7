/** What the keyboard and the clipboard do in the editor. */

import { fromBoxes } from "./boxes.js";
import { moved, resized } from "./geometry.js";
import { parse, toLines } from "./layout.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function listenToKeys(editor) {
  const { room, category, text } = editor.view;
  const listen = (name, then) =>
    room.addEventListener(name, (event) => {
      if (then(editor, event) === false) return;
      event.preventDefault();
      event.stopPropagation();
    });
  listen("keydown", pressed);
  listen("copy", (_, { clipboardData }) => clipboardData.setData("text/plain", toLines(editor.regions)));
  listen("paste", (_, { clipboardData }) => {
    editor.replace(() => pasted(clipboardData.getData("text/plain"), editor.size));
  });
  text.addEventListener("keydown", (event) => event.stopPropagation());
  category.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter" || event.key === "Escape") editor.view.focus();
  });
}

/** ComfyUI's boxes as JSON, or a layout. */
function pasted(text, size) {
  const boxes = /^\s*[[{]/.test(text) && JSON.parse(text);
  return boxes && !boxes.regions ? fromBoxes(boxes, size) : parse(text);
}

/** false: the key is not for the editor, and goes on. */
function pressed(editor, event) {
  const { view, pointer, selected } = editor;
  const { key } = event;
  if (event.ctrlKey || event.metaKey) {
    const name = !event.altKey && { d: "duplicate", l: "lock" }[key.toLowerCase()];
    if (name) return editor[name]();
    // ComfyUI takes the step; the browser would undo typing in the category's field as well.
    if (!event.altKey && /^[yz]$/i.test(key)) event.preventDefault();
    return false;
  }
  if (key === "Escape" && pointer.drag) return pointer.cancel();
  if (key === "Insert") return editor.add();
  // Also without a selected box: else ComfyUI would delete the node.
  if (key === "Delete" || key === "Backspace") return editor.remove();
  if (selected < 0) return false;
  if (key === "Escape") return editor.select(-1);
  if (ARROWS[key]) return nudge(editor, ARROWS[key], event);
  const naming = key === "Enter" || key === "F2";
  // Typing names the box: the character goes to the input.
  const typing = key.length === 1 && key !== " ";
  if ((naming || typing) && editor.free) view.focus(true);
  if (typing) event.stopPropagation();
  return naming;
}

function nudge(editor, [x, y], { altKey, shiftKey }) {
  const { free: region, step, size } = editor;
  if (!region) return;
  const by = altKey ? size.map((side) => 1 / side) : step;
  const snap = altKey ? null : { step, lines: [[], []], near: [0, 0] };
  const [, , right, bottom] = region.box;
  region.box = shiftKey
    ? resized(region.box, x ? "e" : "s", [right + x * by[0], bottom + y * by[1]], snap, by)
    : moved(region.box, [x * by[0], y * by[1]], snap);
  editor.done();
}
