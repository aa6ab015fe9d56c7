/** Regions as text: {category, box: [left, top, right, bottom] in fractions of the image, locked: if it is}. */

/** As the nodes read them (tickets/layout/parse.py): colons of any keyboard; without one, a tab, a dash or the like. */
const LINE = /^(.*?)\s*[:\uff1a\u2236\ufe55]\s*([^:\uff1a\u2236\ufe55]*)$/;
const BARE = /^(.*?[^\d.,\s])?(?:\s+[-\u2013\u2014]\s|\s*[,;=|\t]\s*)([[\](){}\d.,;\s+-]+)$/;
const NEWLINE = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/;
const COMMENT = /(^|\s)[#\uff03].*/;
/** To the nodes a comment. */
const LOCKED = "  # locked";
const EXAMPLE = "castle: 0.62 0.18 1.0 0.69";

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

function ofJson(text) {
  const { regions } = JSON.parse(text.replace(/^\ufeff+/, ""));
  if (!Array.isArray(regions)) throw new Error('{"regions": [...]}');
  return regions.map((entry) => {
    if (typeof entry?.category !== "string" || !Array.isArray(entry.box) || !entry.box.every(Number.isFinite)) {
      throw new Error('{"category": "castle", "box": [0.62, 0.18, 1.0, 0.69]}');
    }
    return { category: entry.category, box: [...entry.box], ...(entry.locked === true && { locked: true }) };
  });
}

function ofLines(text) {
  const lines = text.split(NEWLINE).filter((line) => line.replace(COMMENT, "").trim());
  return lines.map((whole, i) => {
    const line = whole.replace(COMMENT, "").trim();
    if (line.length > 1000) throw new Error(`Region ${i + 1} ("${line.slice(0, 60)}..."): ${EXAMPLE}`);
    let found = LINE.exec(line);
    if (!found || found[1].trim() === "embedding") found = BARE.exec(line.normalize("NFKC"));
    if (!found?.[1]) throw new Error(`Region ${i + 1} ("${line}"): ${EXAMPLE}`);
    const locked = whole.trimEnd().endsWith(LOCKED.trim()) && { locked: true };
    return { category: found[1], box: numbers(found[2]), ...locked };
  });
}

/** The numbers of a line; decimal commas where they are clear: 0,62 0,18 1,0 0,69. */
function numbers(text) {
  const plain = text.normalize("NFKC").replaceAll("\u3001", ",").replace(/^[[\](){} ,;]+|[[\](){} ,;]+$/g, "");
  const words = plain.split(/[\s;]+/).map((word) => word.replace(/,+$/, ""));
  const clear = words.length === 4 && words.every((word) => /^[+-]?\d*[.,]?\d+$/.test(word));
  return clear ? words.map((word) => Number(word.replace(",", "."))) : plain.split(/[\s,;]+/).map(Number);
}

const rounded = (value) => Number(value.toFixed(5));

/** The widget's value. */
export const serialize = (regions) =>
  JSON.stringify({ regions: regions.map((region) => ({ ...region, box: region.box.map(rounded) })) });

/** One region a line, as in the other nodes. */
export function toLines(regions) {
  const numbers = (box) => box.map(rounded).join(" ");
  return regions.map((r) => `${r.category}: ${numbers(r.box)}${r.locked ? LOCKED : ""}`).join("\n");
}
