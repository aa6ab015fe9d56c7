/** Drawing, moving and resizing with a mouse, a finger or a pen. */

import { gripped, heldBy, holds, linesOf, moved, resized, snapped } from "./geometry.js";
import { stacked } from "./view.js";

/** Pixels of the screen: from where on a press is a drag; how near a line attracts; half of what is hit of an edge. */
const [CLICK, NEAR] = [4, 6];
const REACH = { mouse: 6, pen: 12, touch: 22 };

export class Pointer {
  constructor(editor) {
    Object.assign(this, { editor, drag: null });
    const { room } = editor.view;
    room.addEventListener("pointerdown", (e) => this.#press(e));
    room.addEventListener("pointermove", (e) => (this.drag ? this.#pull(e) : this.#hover(e)));
    room.addEventListener("pointerup", (e) => this.#release(e));
    room.addEventListener("pointercancel", () => this.cancel());
    room.addEventListener("dblclick", () => editor.free && editor.view.focus(true));
  }

  /** What is under the pointer: edges of the selected box that it has hold of; boxes, the topmost first. */
  #found(event) {
    const { regions, selected, view } = this.editor;
    const [at, reach] = view.at(event, REACH[event.pointerType] ?? REACH.touch);
    const under = stacked(regions, -1).filter((i) => holds(regions[i].box, at)).reverse();
    const hit = under.includes(selected) ? selected : (under[0] ?? -1);
    const mine = regions[selected];
    const sides = mine && !mine.locked ? gripped(mine.box, at, reach) : "";
    const kind = sides || (hit >= 0 && !regions[hit].locked ? "move" : "draw");
    return { at, under, kind, hit: sides ? selected : hit, again: !sides && hit >= 0 && hit === selected };
  }

  #hover(event) {
    const { kind } = this.#found(event);
    this.editor.view.room.style.cursor = { move: "move", draw: "crosshair" }[kind] ?? `${kind}-resize`;
  }

  #press(event) {
    const { editor } = this;
    if (event.button !== 0 || this.drag || editor.broken !== null) return;
    const found = this.#found(event);
    const before = editor.regions.map((r) => ({ ...r }));
    this.drag = { ...found, start: event, before, was: editor.selected, far: false };
    editor.view.room.setPointerCapture(event.pointerId);
    editor.select(found.hit);
  }

  #pull(event) {
    const { drag, editor } = this;
    const { pointerId, clientX, clientY } = drag.start;
    if (pointerId !== event.pointerId) return;
    if (!drag.far && Math.hypot(event.clientX - clientX, event.clientY - clientY) < CLICK) return;
    // Also on a locked box, which is drawn upon like the picture.
    if (!drag.far && drag.kind === "draw") editor.push([]);
    drag.far = true;
    const [at, near] = editor.view.at(event, NEAR);
    const lines = linesOf(editor.regions.filter((_, i) => i !== editor.selected).map((r) => r.box));
    const { step, size } = editor;
    const snap = event.altKey ? null : { step, lines, near };
    const least = snap ? step : size.map((side) => 1 / side);
    const region = editor.regions[editor.selected];
    const corner = snapped(drag.at, snap);
    const { box } = drag.before[editor.selected] ?? { box: [...corner, ...corner] };
    if (drag.kind === "move") region.box = moved(box, [at[0] - drag.at[0], at[1] - drag.at[1]], snap);
    else region.box = resized(box, drag.kind === "draw" ? "se" : drag.kind, at, snap, least);
    editor.guides = snap ? heldBy(region.box, lines) : [];
    editor.draw();
  }

  #release(event) {
    const { drag, editor } = this;
    if (drag?.start.pointerId !== event.pointerId) return;
    this.drag = null;
    editor.guides = [];
    if (drag.far) return editor.done(true);
    // A click on the selected box goes on to the one beneath it.
    const next = (drag.under.indexOf(drag.hit) + 1) % drag.under.length;
    editor.select(drag.again ? drag.under[next] : drag.hit);
  }

  cancel() {
    if (!this.drag) return;
    const { before, was } = this.drag;
    this.drag = null;
    Object.assign(this.editor, { regions: before, guides: [] });
    this.editor.select(was);
  }
}
