/** The region editor: an element and its value as text. It knows nothing of ComfyUI. */

import { moved } from "./geometry.js";
import { listenToKeys } from "./keys.js";
import { parse, serialize, toLines } from "./layout.js";
import { Pointer } from "./pointer.js";
import { View } from "./view.js";

const stop = (event) => event.stopPropagation();

export class RegionEditor {
  /**
   * words: see words.json. Told of what the user does: change() of the value, step() when a change is complete;
   * and of buttons: undo(), redo(), take() and give() ComfyUI's boxes, picture(kind): "", "connected" or "last".
   */
  constructor(words, told) {
    Object.assign(this, { words, told, regions: [], broken: null, selected: -1, guides: [] });
    const does = { ...told, text: () => this.#showText(this.view.text.hidden), pick: (name) => this.#pick(name) };
    for (const name of ["add", "duplicate", "lock", "remove"]) does[name] = () => this[name]();
    this.view = new View(words, does);
    this.element = this.view.element;
    this.pointer = new Pointer(this);
    listenToKeys(this);
    this.#listen();
    this.know({ size: [512, 512], cell: 32, offered: [], inBank: false });
  }

  /** JSON of the layout, or the text that could not be read. */
  get value() {
    return this.broken ?? serialize(this.regions);
  }

  set value(text) {
    this.#read(String(text ?? ""));
    if (this.broken !== null || !this.view.text.hidden) this.#showText(true);
  }

  /** size: of the image; cell: a ticket's side, both in pixels; offered: categories to pick, of a bank if inBank. */
  know(news) {
    if (Object.keys(news).every((name) => JSON.stringify(news[name]) === JSON.stringify(this[name]))) return;
    Object.assign(this, news);
    this.step = this.size.map((side) => Math.min(this.cell / side, 1));
    this.draw();
  }

  draw() {
    this.view.draw(this);
  }

  /** After a complete change; naming: a box that has no name yet is to get one. */
  done(naming = false) {
    this.view.say("");
    this.draw();
    this.told.change();
    this.told.step();
    this.view.focus(naming && !this.regions[this.selected].category);
  }

  select(index) {
    this.selected = index;
    this.draw();
    this.view.focus();
  }

  /** The selected region, unless it is locked. */
  get free() {
    const region = this.regions[this.selected];
    if (region?.locked) this.view.readout.textContent = this.words.keepLocked;
    return region?.locked ? null : region;
  }

  /** A new box in the middle of things, called as what is offered and not there yet, or to be named. */
  add() {
    if (this.broken !== null) return;
    const sides = this.step.map((s) => Math.min(1, Math.max(s, Math.round(0.3 / s) * s)));
    const by = this.step.map((s) => s * ((this.regions.length % 6) + 2));
    this.push(moved([0, 0, ...sides], by));
    this.done(true);
  }

  /** A copy of the selected box, a cell to the right and below; at the image's edge to the left and above. */
  duplicate() {
    const region = this.regions[this.selected];
    if (!region) return;
    const by = this.step.map((s, axis) => (region.box[axis + 2] + s > 1 ? -s : s));
    this.push(moved(region.box, by), region.category);
    this.done();
  }

  /** Or unlock. */
  lock() {
    const { locked, ...region } = this.regions[this.selected] ?? {};
    if (!region.box) return;
    this.regions[this.selected] = locked ? region : { ...region, locked: true };
    this.done();
  }

  remove() {
    if (!this.free) return;
    this.regions.splice(this.selected, 1);
    this.selected = -1;
    this.done();
  }

  /** All regions by those that `read` gives; what it throws is shown. */
  replace(read) {
    try {
      this.regions = read();
    } catch (error) {
      return this.view.say(error.message);
    }
    Object.assign(this, { broken: null, selected: -1 });
    this.done();
  }

  push(box, category) {
    const unused = this.offered.find((c) => !this.regions.some((r) => r.category === c));
    this.selected = this.regions.push({ category: category ?? unused ?? "", box }) - 1;
  }

  #pick(category) {
    if (this.broken !== null) return;
    if (this.selected < 0) this.add();
    if (!this.free) return;
    this.free.category = this.view.category.value = category;
    this.done();
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
    this.selected = -1;
    this.draw();
  }

  #showText(on) {
    if (on) this.view.text.value = this.broken ?? toLines(this.regions);
    this.view.showText(on || this.broken !== null);
  }

  #listen() {
    const { stage, category, text } = this.view;
    stage.addEventListener("focusin", ({ target }) => {
      const index = Number(target.dataset.index ?? -1);
      if (index >= 0 && index !== this.selected && !this.pointer.drag) this.select(index);
    });
    category.addEventListener("input", () => {
      Object.assign(this.free ?? {}, { category: category.value });
      this.draw();
      this.told.change();
    });
    text.addEventListener("input", () => this.told.change(this.#read(text.value)));
    for (const field of [category, text]) field.addEventListener("change", () => this.told.step());
    // The canvas behind must neither move its node nor open its menu.
    for (const name of ["pointerdown", "contextmenu", "dblclick"]) this.element.addEventListener(name, stop);
    new ResizeObserver(() => this.pointer.drag || this.draw()).observe(stage);
  }
}
