/** The region editor: an element and its value as text. It knows nothing of ComfyUI. */

import { holds, moved, parse, resized, sameName, serialize, snapped, toLines } from "./layout.js";
import { stacked, View } from "./view.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const CLICK = 4;

export class RegionEditor {
  /**
   * words: see words.js. Told of what the user does: change() at every change of the value, step() when a
   * change is complete, undo(), redo(), and picture(kind) for the background: "", "connected" or "last".
   */
  constructor(words, told) {
    Object.assign(this, { words, told, size: [512, 512], cell: 32, offered: [], inBank: null });
    Object.assign(this, { regions: [], broken: null, selected: -1, drag: null });
    this.view = new View(words, {
      add: () => this.add(),
      remove: () => this.remove(),
      undo: told.undo,
      redo: told.redo,
      text: () => this.#showText(this.view.text.hidden),
      picture: told.picture,
      pick: (category) => this.#pick(category),
    });
    this.#listen();
    this.draw();
  }

  get element() {
    return this.view.element;
  }

  /** JSON of the layout, or the text that could not be read. */
  get value() {
    return this.broken ?? serialize(this.regions);
  }

  set value(text) {
    this.selected = -1;
    this.#read(String(text ?? ""));
    if (this.broken !== null || !this.view.text.hidden) this.#showText(true);
    this.draw();
  }

  /** Of the image, in pixels. */
  setSize(width, height) {
    if (width === this.size[0] && height === this.size[1]) return;
    this.size = [width, height];
    this.draw();
  }

  /** categories: offered to be picked; cell: side of a ticket's cell in pixels; known: they are a bank's. */
  setOffered(categories, cell, known) {
    const same = cell === this.cell && known === Boolean(this.inBank);
    if (same && categories.join("\n") === this.offered.join("\n")) return;
    this.offered = categories;
    this.inBank = known ? new Set(categories.map(sameName)) : null;
    this.cell = cell;
    this.draw();
  }

  /** Of the grid, in fractions of the image. */
  get step() {
    return this.size.map((side) => Math.min(this.cell / side, 1));
  }

  draw() {
    this.view.draw(this);
  }

  /** A new box in the middle of things, called as what is offered and not there yet, or to be named. */
  add() {
    if (this.broken !== null) return;
    const side = (s) => Math.min(1, Math.max(s, Math.round(0.3 / s) * s));
    const shift = (this.regions.length % 6) + 2;
    const [x, y] = this.step;
    this.#push(moved([0, 0, side(x), side(y)], shift * x, shift * y, [x, y]));
    this.#done();
    this.#nameOrFocus();
  }

  remove() {
    if (this.selected < 0) return;
    this.regions.splice(this.selected, 1);
    this.selected = -1;
    this.#done();
    this.view.focusSelected();
  }

  #push(box) {
    const free = this.offered.find((c) => !this.regions.some((r) => r.category === c));
    this.regions.push({ category: free ?? "", box });
    this.selected = this.regions.length - 1;
  }

  #nameOrFocus() {
    if (this.regions[this.selected].category) this.view.focusSelected();
    else this.view.focusCategory();
  }

  #rename(text) {
    if (this.selected < 0) return;
    this.regions[this.selected].category = text;
    this.draw();
    this.told.change();
  }

  #pick(category) {
    if (this.broken !== null) return;
    if (this.selected < 0) this.add();
    this.view.category.value = category;
    this.#rename(category);
    this.told.step();
    this.view.focusSelected();
  }

  #done() {
    this.draw();
    this.told.change();
    this.told.step();
  }

  #read(text) {
    try {
      this.regions = text.trim() ? parse(text) : [];
      this.broken = null;
      this.view.say("");
    } catch (error) {
      this.broken = text;
      this.view.say(`${this.words.broken} ${error.message}`);
    }
  }

  #showText(on) {
    if (on) this.view.text.value = this.broken ?? toLines(this.regions);
    this.view.showText(on || this.broken !== null);
  }

  #listen() {
    const { stage, room, category, text } = this.view;
    stage.addEventListener("pointerdown", (e) => this.#press(e));
    stage.addEventListener("pointermove", (e) => this.#pull(e));
    stage.addEventListener("pointerup", (e) => this.#release(e));
    stage.addEventListener("pointercancel", () => this.#cancel());
    stage.addEventListener("dblclick", () => this.selected >= 0 && this.view.focusCategory());
    stage.addEventListener("focusin", (e) => this.#focus(Number(e.target.dataset.index ?? -1)));
    room.addEventListener("keydown", (e) => this.#key(e));
    room.addEventListener("copy", (e) => this.#copy(e));
    room.addEventListener("paste", (e) => this.#paste(e));
    category.addEventListener("input", () => this.#rename(category.value));
    category.addEventListener("change", () => this.told.step());
    category.addEventListener("keydown", (e) => {
      e.stopPropagation();
      if (e.key === "Enter" || e.key === "Escape") this.view.focusSelected();
    });
    text.addEventListener("keydown", (e) => e.stopPropagation());
    text.addEventListener("change", () => this.told.step());
    text.addEventListener("input", () => {
      this.#read(text.value);
      this.selected = -1;
      this.draw();
      this.told.change();
    });
    // The canvas behind must neither move its node nor open its menu.
    for (const name of ["pointerdown", "contextmenu", "dblclick"]) {
      this.element.addEventListener(name, (e) => e.stopPropagation());
    }
  }

  #focus(index) {
    if (index < 0 || index === this.selected || this.drag) return;
    this.selected = index;
    this.draw();
    this.view.focusSelected();
  }

  #press(event) {
    if (event.button !== 0 || this.drag || this.broken !== null) return;
    const [x, y] = this.view.at(event);
    const { sides } = event.target.dataset;
    const under = stacked(this.regions, -1).filter((i) => holds(this.regions[i], x, y)).reverse();
    const hit = under.includes(this.selected) ? this.selected : (under[0] ?? -1);
    this.drag = {
      id: event.pointerId,
      from: [x, y],
      pixel: [event.clientX, event.clientY],
      kind: sides ?? (hit >= 0 ? "move" : "draw"),
      before: this.regions.map((r) => ({ ...r })),
      under,
      again: !sides && hit >= 0 && hit === this.selected,
      far: false,
    };
    if (!sides) this.selected = hit;
    this.view.stage.setPointerCapture(event.pointerId);
    this.draw();
    this.view.focusSelected();
  }

  #pull(event) {
    const { drag } = this;
    if (drag?.id !== event.pointerId) return;
    const [px, py] = drag.pixel;
    drag.far ||= Math.hypot(event.clientX - px, event.clientY - py) >= CLICK;
    if (!drag.far) return;
    const [x, y] = this.view.at(event);
    const [x0, y0] = drag.from;
    const step = event.altKey ? null : this.step;
    const least = step ?? this.size.map((side) => 1 / side);
    if (drag.kind === "draw") {
      if (this.selected < 0) this.#push([]);
      const corner = snapped(x0, y0, step);
      this.regions[this.selected].box = resized([...corner, ...corner], "se", x, y, step, least);
    } else {
      const { box } = drag.before[this.selected];
      this.regions[this.selected].box =
        drag.kind === "move"
          ? moved(box, x - x0, y - y0, step)
          : resized(box, drag.kind, x, y, step, least);
    }
    this.draw();
  }

  #release(event) {
    const { drag } = this;
    if (drag?.id !== event.pointerId) return;
    this.drag = null;
    if (drag.far) {
      this.#done();
      this.#nameOrFocus();
    } else if (drag.again && drag.under.length > 1) {
      // A click on the selected box goes on to the one beneath it.
      this.#focus(drag.under[(drag.under.indexOf(this.selected) + 1) % drag.under.length]);
    }
  }

  #cancel() {
    if (!this.drag) return;
    this.regions = this.drag.before;
    if (this.drag.kind === "draw") this.selected = -1;
    this.drag = null;
    this.draw();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey) {
      // ComfyUI takes the step; the browser would undo typing in the category's field as well.
      if (!event.altKey && /^[yz]$/i.test(event.key)) event.preventDefault();
      return;
    }
    const arrow = ARROWS[event.key];
    const some = this.selected >= 0;
    if (event.key === "Escape" && this.drag) this.#cancel();
    else if (event.key === "Insert") this.add();
    else if (event.key === "Delete" || event.key === "Backspace") this.remove();
    else if ((event.key === "Enter" || event.key === "F2") && some) this.view.focusCategory();
    else if (event.key === "Escape" && some) {
      this.selected = -1;
      this.draw();
      this.view.focusSelected();
    } else if (arrow && some) this.#nudge(arrow, event);
    else if (event.key.length === 1 && event.key !== " " && some) {
      // Typing names the box: the character goes to the input.
      this.view.focusCategory();
      event.stopPropagation();
      return;
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #nudge([x, y], { altKey, shiftKey }) {
    const region = this.regions[this.selected];
    const pixel = this.size.map((side) => 1 / side);
    const grid = altKey ? null : this.step;
    const [dx, dy] = [x * (grid ?? pixel)[0], y * (grid ?? pixel)[1]];
    const [, , right, bottom] = region.box;
    region.box = shiftKey
      ? resized(region.box, x ? "e" : "s", right + dx, bottom + dy, grid, grid ?? pixel)
      : moved(region.box, dx, dy, grid);
    this.#done();
    this.view.focusSelected();
  }

  #copy(event) {
    event.clipboardData.setData("text/plain", toLines(this.regions));
    event.preventDefault();
    event.stopPropagation();
  }

  #paste(event) {
    event.preventDefault();
    event.stopPropagation();
    try {
      this.regions = parse(event.clipboardData.getData("text/plain"));
    } catch (error) {
      this.view.say(error.message);
      return;
    }
    this.view.say("");
    this.selected = -1;
    this.#done();
    this.view.focusSelected();
  }
}
