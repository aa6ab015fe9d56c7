/** A category's name and colour, as the nodes have them (tickets/words.py, show/colours.py). */

const QUOTED = /^["'`\u2018-\u201e\u00ab\u00bb\u300c-\u300f](.+)["'`\u2018-\u201e\u00ab\u00bb\u300c-\u300f]$/;
/** Told apart with each kind of colour blindness, too. */
const PALETTE = (
  "24a1c1 346392 3472f0 6334f0 637234 63f0d0 825372 8263c1 82c192 92f0b1 a124d0 a14353 " +
  "b18263 b182f0 b1a153 b1f024 c12424 d07224 d0e063 e0a124 f063c1 f092f0 f0c182 f0c1f0"
).split(" ");

/** Lower case but for embeddings, on one line, without a final period. */
export function named(category) {
  const seen = category.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/gu, " ");
  const parts = seen.split(/\bembedding:(\S+)/i);
  const plain = parts.map((part, i) => (i % 2 ? `embedding:${part}` : part.normalize("NFKC").toLowerCase()));
  const name = plain.join("").trim().split(/\s+/).join(" ").replace(/[.\u3002]+$/, "");
  return name.replace(QUOTED, (_, bare) => `"${bare.trim()}"`);
}

/** The same for names that mean the same: without quotes, and without an article in front. */
export const sameName = (category) => named(category).replace(/^"|"$/g, "").replace(/^(?:an?|the) (?=.)/, "");

/** Red, green and blue, 0 to 255. */
export function colour(category) {
  let mixed = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(category)) mixed = Math.imul(mixed ^ byte, 0x01000193) >>> 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x5d9d25d1) >>> 0;
  const found = PALETTE[((mixed ^ (mixed >>> 16)) >>> 0) % PALETTE.length];
  return [0, 2, 4].map((i) => parseInt(found.slice(i, i + 2), 16));
}

/** Black or white, whichever is read more easily on a colour (WCAG's contrast). */
export function ink(rgb) {
  const [r, g, b] = rgb.map((c) => ((c / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}
