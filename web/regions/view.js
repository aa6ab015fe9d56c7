/** The editor's elements, and drawing a layout with them. */

import { area, colour, ink, named, sameName } from "./layout.js";

const SIDES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

function make(tag, properties = {}, children = []) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Indices of regions from the lowest to the topmost: small above large, as they win the cells. */
export function stacked(regions, selected) {
  const order = regions.map((_, i) => i).sort((a, b) => area(regions[b]) - area(regions[a]));
  return selected < 0 ? order : [...order.filter((i) => i !== selected), selected];
}

export class View {
  /** does: what the buttons do: add, remove, undo, redo, text, picture(kind), pick(category). */
  constructor(words, does) {
    this.words = words;
    this.does = does;
    const button = (label, title, onclick) =>
      make("button", { type: "button", textContent: label, title, ariaLabel: title, onclick });
    const hint = (name) => ({ title: words[name], ariaLabel: words[name] });
    this.category = make("input", { placeholder: words.category, ...hint("category"), spellcheck: false });
    this.remove = button("\u00d7", words.remove, does.remove);
    this.textButton = button("T", words.text, does.text);
    this.kind = make("select", hint("picture"), [
      make("option", { value: "", textContent: words.noPicture }),
      make("option", { value: "connected", textContent: words.connected }),
      make("option", { value: "last", textContent: words.last }),
    ]);
    this.kind.onchange = () => does.picture(this.kind.value);
    const bar = make("div", { className: "bar" }, [
      this.category,
      button("+", words.add, does.add),
      this.remove,
      button("\u21b6", words.undo, does.undo),
      button("\u21b7", words.redo, does.redo),
      this.textButton,
      this.kind,
    ]);
    this.chips = make("div", { className: "offered" });
    this.image = make("img", { alt: "", hidden: true, draggable: false });
    this.image.onerror = () => (this.image.hidden = true);
    this.grid = make("div", { className: "grid" });
    this.boxes = make("div", { className: "boxes" });
    const parts = [this.image, this.grid, this.boxes];
    this.stage = make("div", { className: "stage", tabIndex: 0, role: "group", ...hint("stage") }, parts);
    this.room = make("div", { className: "room" }, [this.stage]);
    this.text = make("textarea", { hidden: true, spellcheck: false, ...hint("text") });
    this.message = make("div", { className: "message", hidden: true, role: "alert" });
    const all = [bar, this.chips, this.message, this.room, this.text];
    this.element = make("div", { className: "tickets-regions" }, all);
  }

  showText(on) {
    this.text.hidden = !on;
    this.room.hidden = on;
    this.textButton.setAttribute("aria-pressed", String(on));
  }

  /** A sentence, or none. */
  say(sentence) {
    this.message.textContent = sentence;
    this.message.hidden = !sentence;
  }

  setPicture(url, kind) {
    this.kind.value = kind;
    // One that could not be loaded stays hidden.
    if ((url || null) === this.image.getAttribute("src")) return;
    this.image.hidden = !url;
    if (url) this.image.src = url;
    else this.image.removeAttribute("src");
  }

  /** Fractions of the image under the pointer, whatever the zoom. */
  at({ clientX, clientY }) {
    const { left, top, width, height } = this.stage.getBoundingClientRect();
    return [(clientX - left) / width, (clientY - top) / height];
  }

  focusSelected() {
    const element = this.boxes.querySelector(".selected");
    (element ?? this.stage).focus({ preventScroll: true });
  }

  focusCategory() {
    this.category.focus({ preventScroll: true });
    this.category.select();
  }

  /** size: of the image; step: of the grid, in fractions; inBank: a Set, when the bank is known. */
  draw({ regions, selected, size, step, offered, inBank }) {
    this.stage.style.setProperty("--aspect", String(size[0] / size[1]));
    this.grid.style.setProperty("--cell-x", `${step[0] * 100}%`);
    this.grid.style.setProperty("--cell-y", `${step[1] * 100}%`);
    const unknown = (category) => category && inBank && !inBank.has(sameName(category));
    // In the order of the list, by which Tab goes through them; which is above is the z-index.
    const boxes = regions.map((r, i) => this.#box(r, i, i === selected, unknown(r.category)));
    stacked(regions, selected).forEach((i, height) => (boxes[i].style.zIndex = String(height)));
    const focused = this.boxes.contains(document.activeElement);
    this.boxes.replaceChildren(...boxes);
    if (focused) this.focusSelected();
    const used = regions.map((r) => named(r.category)).filter(Boolean);
    const all = [...new Set([...offered, ...used])];
    const chips = all.map((category) => this.#chip(category, unknown(category)));
    this.chips.replaceChildren(...(all.length ? chips : [this.words.hint]));
    this.category.disabled = this.remove.disabled = selected < 0;
    if (document.activeElement !== this.category) this.category.value = regions[selected]?.category ?? "";
  }

  #box({ category, box: [left, top, right, bottom] }, index, selected, unknown) {
    const label = category || this.words.unnamed;
    const name = make("span", { textContent: unknown ? `${label} (${this.words.unknown})` : label });
    const handles = selected ? SIDES.map((sides) => this.#handle(sides)) : [];
    const kind = { className: selected ? "region selected" : "region", tabIndex: 0, role: "button" };
    const element = make("div", { ...kind, ariaLabel: label }, [name, ...handles]);
    element.dataset.index = String(index);
    const rgb = colour(named(category));
    element.style.setProperty("--category", rgb.join(" "));
    element.style.setProperty("--ink", ink(rgb));
    const percent = (v) => `${v * 100}%`;
    const [width, height] = [percent(right - left), percent(bottom - top)];
    Object.assign(element.style, { left: percent(left), top: percent(top), width, height });
    return element;
  }

  #handle(sides) {
    const handle = make("i");
    handle.dataset.sides = sides;
    const place = (low, high) => (sides.includes(low) ? "0%" : sides.includes(high) ? "100%" : "50%");
    const at = { left: place("w", "e"), top: place("n", "s"), cursor: `${sides}-resize` };
    Object.assign(handle.style, at);
    return handle;
  }

  #chip(category, unknown) {
    const chip = make("button", {
      type: "button",
      textContent: category,
      className: unknown ? "unknown" : "",
      title: unknown ? this.words.unknown : "",
      onclick: () => this.does.pick(category),
    });
    chip.style.setProperty("--category", `rgb(${colour(category).join(" ")})`);
    return chip;
  }
}
