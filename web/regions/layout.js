/** Regions as data: reading, writing, snapping. A box is [left, top, right, bottom] as fractions of the image. */

/** As the nodes read them (tickets/layout/parse.py): colons of any keyboard; without one, a tab, a dash or the like. */
const LINE = /^(.*?)\s*[:\uff1a\u2236\ufe55]\s*([^:\uff1a\u2236\ufe55]*)$/;
const BARE = /^(.*?[^\d.,\s])?(?:\s+[-\u2013\u2014]\s|\s*[,;=|\t]\s*)([[\](){}\d.,;\s+-]+)$/;
const NEWLINE = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/;
const COMMENT = /(^|\s)[#\uff03].*/;
const QUOTED = /^["'`\u2018-\u201e\u00ab\u00bb\u300c-\u300f](.+)["'`\u2018-\u201e\u00ab\u00bb\u300c-\u300f]$/;
const LONGEST_LINE = 1000;
const DIGITS = 5;
/** Saturation and value. */
const SHADES = [[0.62, 0.92], [0.9, 0.72], [0.38, 1.0]];
const EXAMPLE = "castle: 0.62 0.18 1.0 0.69";

/** A category as the nodes name it (tickets/words.py): lower case but for embeddings, on one line, no final period. */
export function named(category) {
  const seen = category.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/gu, " ");
  const parts = seen.split(/\bembedding:(\S+)/i);
  const plain = parts.map((part, i) => (i % 2 ? `embedding:${part}` : part.normalize("NFKC").toLowerCase()));
  const name = plain.join("").trim().split(/\s+/).join(" ").replace(/[.\u3002]+$/, "");
  return name.replace(QUOTED, (_, bare) => `"${bare.trim()}"`);
}

/** The same for names that mean the same: without quotes, and without an article in front. */
export const sameName = (category) => named(category).replace(/^"|"$/g, "").replace(/^(?:an?|the) (?=.)/, "");

/** Regions of the widget's JSON or of lines; an Error with a sentence for people if it is neither. */
export function parse(text) {
  const regions = text.trimStart().startsWith("{") ? ofJson(text) : ofLines(text);
  regions.forEach(({ category, box }, i) => {
    const where = `Region ${i + 1} ("${category}")`;
    if (box.length !== 4 || !box.every(Number.isFinite)) throw new Error(`${where}: ${EXAMPLE}`);
    if (Math.min(...box) < -1e-6 || Math.max(...box) > 1 + 1e-6) throw new Error(`${where}: 0 - 1`);
    if (box[0] >= box[2] || box[1] >= box[3]) throw new Error(`${where}: left < right, top < bottom`);
  });
  return regions;
}

const isNumber = (value) => typeof value === "number";

function ofJson(text) {
  const { regions } = JSON.parse(text.replace(/^\ufeff+/, ""));
  if (!Array.isArray(regions)) throw new Error('{"regions": [...]}');
  return regions.map((entry) => {
    if (typeof entry?.category !== "string" || !Array.isArray(entry.box) || !entry.box.every(isNumber)) {
      throw new Error('{"category": "castle", "box": [0.62, 0.18, 1.0, 0.69]}');
    }
    return { category: entry.category, box: [...entry.box] };
  });
}

function ofLines(text) {
  const lines = text.split(NEWLINE).map((line) => line.replace(COMMENT, "").trim());
  return lines.filter(Boolean).map((line, i) => {
    if (line.length > LONGEST_LINE) throw new Error(`Region ${i + 1} ("${line.slice(0, 60)}..."): ${EXAMPLE}`);
    let found = LINE.exec(line);
    if (!found || found[1].trim() === "embedding") found = BARE.exec(line.normalize("NFKC"));
    if (!found?.[1]) throw new Error(`Region ${i + 1} ("${line}"): ${EXAMPLE}`);
    return { category: found[1], box: numbers(found[2]) };
  });
}

/** The numbers of a line; decimal commas where they are clear: 0,62 0,18 1,0 0,69. */
function numbers(text) {
  const plain = text.normalize("NFKC").replaceAll("\u3001", ",").replace(/^[[\](){} ,;]+|[[\](){} ,;]+$/g, "");
  const words = plain.split(/[\s;]+/).map((word) => word.replace(/,+$/, ""));
  const clear = words.length === 4 && words.every((word) => /^[+-]?\d*[.,]?\d+$/.test(word));
  return clear ? words.map((word) => Number(word.replace(",", "."))) : plain.split(/[\s,;]+/).map(Number);
}

const rounded = (value) => Number(value.toFixed(DIGITS));

/** The widget's value. */
export function serialize(regions) {
  const entries = regions.map(({ category, box }) => ({ category, box: box.map(rounded) }));
  return JSON.stringify({ regions: entries });
}

/** One region a line, as in the other nodes. */
export function toLines(regions) {
  return regions.map(({ category, box }) => `${category}: ${box.map(rounded).join(" ")}`).join("\n");
}

/** Red, green and blue, 0 to 255; as category_colour in show/colours.py. */
export function colour(category) {
  let mixed = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(category)) {
    mixed = Math.imul(mixed ^ byte, 0x01000193) >>> 0;
  }
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0xd5124e05) >>> 0;
  mixed = (mixed ^ (mixed >>> 16)) >>> 0;
  const [saturation, value] = SHADES[Math.floor(mixed / 360) % SHADES.length];
  const part = (n) => {
    const k = (n + (mixed % 360) / 60) % 6;
    return Math.round(255 * value * (1 - saturation * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return [part(5), part(3), part(1)];
}

/** Black or white, whichever is read more easily on a colour (WCAG's contrast). */
export function ink([r, g, b]) {
  const [R, G, B] = [r, g, b].map((c) => ((c / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * R + 0.7152 * G + 0.0722 * B > 0.179 ? "#000" : "#fff";
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
/** The nearest line of the grid; the image's edge is one, too. */
function onGrid(value, step) {
  const line = clamp(Math.round(value / step) * step, 0, 1);
  return 1 - value < Math.abs(line - value) ? 1 : line;
}

/** The point (x, y) on the grid of steps [x, y] if there is one, and in the image. */
export const snapped = (x, y, step) =>
  step ? [onGrid(x, step[0]), onGrid(y, step[1])] : [clamp(x, 0, 1), clamp(y, 0, 1)];

/** The box moved by (dx, dy), kept in the image; its corner on the grid of steps [x, y], if there is one. */
export function moved(box, dx, dy, step) {
  const width = box[2] - box[0];
  const height = box[3] - box[1];
  let [x, y] = [box[0] + dx, box[1] + dy];
  if (step) [x, y] = [Math.round(x / step[0]) * step[0], Math.round(y / step[1]) * step[1]];
  x = clamp(x, 0, 1 - width);
  y = clamp(y, 0, 1 - height);
  return [x, y, x + width, y + height];
}

/** The box with the edges named in `sides` (of "nesw") at the point (x, y); it may turn over, not vanish. */
export function resized(box, sides, x, y, step, least) {
  const [px, py] = snapped(x, y, step);
  const horizontal = sides.includes("w") ? [box[2], px] : sides.includes("e") ? [box[0], px] : null;
  const vertical = sides.includes("n") ? [box[3], py] : sides.includes("s") ? [box[1], py] : null;
  const [left, right] = horizontal ? span(...horizontal, least[0]) : [box[0], box[2]];
  const [top, bottom] = vertical ? span(...vertical, least[1]) : [box[1], box[3]];
  return [left, top, right, bottom];
}

function span(fixed, free, least) {
  let [low, high] = fixed < free ? [fixed, free] : [free, fixed];
  if (high - low < least) [low, high] = free < fixed ? [fixed - least, fixed] : [fixed, fixed + least];
  if (low < 0) [low, high] = [0, Math.max(high, least)];
  if (high > 1) [low, high] = [Math.min(low, 1 - least), 1];
  return [low, high];
}

export const area = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
export const holds = ({ box }, x, y) => box[0] <= x && x <= box[2] && box[1] <= y && y <= box[3];
