/** The editor's elements, and drawing a layout with them. */

import { colour, ink, named, sameName } from "./category.js";
import { area } from "./geometry.js";

const SIDES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
/** Pixels: a lower box has its name beside it, a narrower one has handles at its corners only. */
const [LOW, NARROW] = [40, 48];

const percent = (v) => `${v * 100}%`;

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Indices of regions from the lowest to the topmost: small above large, as they win the cells. */
export function stacked(regions, selected) {
  const order = regions.map((_, i) => i).sort((a, b) => area(regions[b].box) - area(regions[a].box));
  return selected < 0 ? order : [...order.filter((i) => i !== selected), selected];
}

export class View {
  /** does: what each button does by its name, and picture(kind) and pick(category). */
  constructor(words, does) {
    Object.assign(this, { words, does, buttons: {} });
    const hint = (name) => ({ title: words[name], ariaLabel: words[name] });
    const button = (name) =>
      (this.buttons[name] = make("button", { type: "button", name, onclick: does[name], ...hint(name) }));
    const option = (name, value = name) => make("option", { value, textContent: words[name] });
    const div = (className, ...children) => make("div", { className }, ...children);
    this.category = make("input", { placeholder: words.category, ...hint("category"), spellcheck: false });
    const kinds = [option("noPicture", ""), option("connected"), option("last")];
    this.picture = make("select", { onchange: () => does.picture(this.picture.value), ...hint("picture") }, ...kinds);
    this.image = make("img", { alt: "", hidden: true, draggable: false, onerror: () => (this.image.hidden = true) });
    [this.offered, this.grid, this.boxes, this.guides] = ["offered", "grid", "boxes", "guides"].map((name) => div(name));
    const parts = [this.image, this.grid, this.guides, this.boxes];
    this.stage = make("div", { className: "stage", tabIndex: 0, role: "group", ...hint("stage") }, ...parts);
    this.room = div("room", this.stage);
    this.text = make("textarea", { hidden: true, spellcheck: false, ...hint("text") });
    this.message = make("div", { className: "message", role: "alert" });
    this.readout = make("output");
    const bars = [
      div("bar", this.category, ...["add", "duplicate", "lock", "remove"].map(button)),
      div("bar", ...["undo", "redo", "text", "take", "give"].map(button), this.picture),
    ];
    this.element = div("tickets-regions", ...bars, this.offered, this.message, this.room, this.text, this.readout);
  }

  showText(on) {
    [this.text.hidden, this.room.hidden] = [!on, on];
    this.buttons.text.setAttribute("aria-pressed", String(on));
  }

  say(sentence) {
    this.message.textContent = sentence;
  }

  setPicture(url, kind) {
    this.picture.value = kind;
    // One that could not be loaded stays hidden.
    if ((url || "") === (this.image.getAttribute("src") ?? "")) return;
    this.image.hidden = !url;
    this.image.src = url || "";
  }

  /** Fractions of the image under the pointer, whatever the zoom; and those that so many pixels of the screen are. */
  at({ clientX, clientY }, pixels = 0) {
    const { left, top, width, height } = this.stage.getBoundingClientRect();
    return [[(clientX - left) / width, (clientY - top) / height], [pixels / width, pixels / height]];
  }

  /** On the field for the name, or else on the selected box. */
  focus(naming = false) {
    const element = naming ? this.category : (this.boxes.querySelector(".selected") ?? this.stage);
    element.focus({ preventScroll: true });
    if (naming) element.select();
  }

  /** size: of the image; step: of the grid, in fractions; inBank: offered is all of a bank; guides: lines. */
  draw({ regions, selected, size, step, offered, inBank, guides }) {
    this.stage.style.setProperty("--aspect", String(size[0] / size[1]));
    this.grid.style = `--cell-x: ${percent(step[0])}; --cell-y: ${percent(step[1])}`;
    const same = offered.map(sameName);
    const unknown = (category) => inBank && category && !same.includes(sameName(category));
    // In the order of the list, by which Tab goes through them; which is above is the z-index.
    const boxes = regions.map((r, i) => this.#box(r, i, i === selected, unknown(r.category), size));
    stacked(regions, selected).forEach((i, height) => (boxes[i].style.zIndex = String(height)));
    const focused = this.boxes.contains(document.activeElement);
    this.boxes.replaceChildren(...boxes);
    if (focused) this.focus();
    const line = (at, axis) => make("i", { className: "xy"[axis], style: `--at: ${percent(at)}` });
    this.guides.replaceChildren(...guides.flatMap((some, axis) => some.map((at) => line(at, axis))));
    const all = new Set([...offered, ...regions.map((r) => named(r.category))].filter(Boolean));
    const chips = [...all].map((category) => this.#chip(category, unknown(category)));
    this.offered.replaceChildren(...(chips.length ? chips : [this.words.hint]));
    this.#about(regions[selected], size);
  }

  /** What the bar and the readout say of the selected region. */
  #about(region, size) {
    const { category, buttons, words, readout } = this;
    for (const name of ["duplicate", "lock", "remove"]) buttons[name].disabled = !region;
    category.disabled = buttons.remove.disabled = !region || Boolean(region.locked);
    if (document.activeElement !== category) category.value = region?.category ?? "";
    const lock = region?.locked ? "unlock" : "lock";
    Object.assign(buttons.lock, { name: lock, title: words[lock], ariaLabel: words[lock] });
    readout.textContent = region ? this.#measures(region, size).join(" \u00b7 ") : "";
  }

  /** Size in pixels of the image, share of it, and place. */
  #measures({ box, locked }, size) {
    const [x, y, right, bottom] = box.map((v, i) => Math.round(v * size[i % 2]));
    const share = `${(100 * area(box)).toFixed(area(box) < 0.1 ? 1 : 0)}%`;
    const all = [`${right - x} \u00d7 ${bottom - y} px`, share, `x ${x}, y ${y}`];
    return locked ? [...all, this.words.locked] : all;
  }

  #box(region, index, selected, unknown, size) {
    const [left, top, right, bottom] = region.box;
    const sides = [right - left, bottom - top];
    const room = [this.stage.clientWidth || 300, this.stage.clientHeight || 300];
    const label = region.category || this.words.unnamed;
    const text = unknown ? `${label} (${this.words.unknown})` : label;
    // On a line as wide as the image it begins at its box, and further left where it is too long for that.
    const name = make("div", { className: "name" }, make("span", { textContent: text }));
    name.style = `--before: ${left * room[0]}px; --image: ${room[0]}px`;
    if (sides[1] * room[1] < LOW) name.classList.add(top * room[1] < LOW / 2 ? "below" : "above");
    const wide = sides.map((side, axis) => side * room[axis] > NARROW);
    const shown = selected && !region.locked ? SIDES.filter((s) => s[1] || wide["nesw".indexOf(s) % 2]) : [];
    const about = [text, ...this.#measures(region, size)].join(", ");
    const element = make("div", { tabIndex: 0, role: "button", ariaPressed: String(selected), ariaLabel: about });
    element.className = `region ${selected ? "selected" : ""} ${region.locked ? "locked" : ""}`;
    element.append(name, ...shown.map((className) => make("i", { className })));
    element.dataset.index = String(index);
    const rgb = colour(named(region.category));
    const [x, y, width, height] = [left, top, ...sides].map(percent);
    element.style = `left: ${x}; top: ${y}; width: ${width}; height: ${height}`;
    element.style.cssText += `; --category: ${rgb.join(" ")}; --ink: ${ink(rgb)}`;
    return element;
  }

  #chip(category, unknown) {
    const onclick = () => this.does.pick(category);
    const chip = make("button", { type: "button", textContent: category, onclick });
    chip.style = `--category: rgb(${colour(category).join(" ")})`;
    return unknown ? Object.assign(chip, { className: "unknown", title: this.words.unknown }) : chip;
  }
}
