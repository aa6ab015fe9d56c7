/** Boxes [left, top, right, bottom] in fractions of the image: moved and resized, on a grid or along lines. */

const AXES = [0, 1];
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const own = (box, axis) => [box[axis], (box[axis] + box[axis + 2]) / 2, box[axis + 2]];

export const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);
export const holds = (box, at) => AXES.every((axis) => box[axis] <= at[axis] && at[axis] <= box[axis + 2]);

/** What boxes are aligned with, for x and for y: edges and middles of the image and of these boxes. */
export const linesOf = (boxes) =>
  AXES.map((axis) => [...new Set([[0, 0, 1, 1], ...boxes].flatMap((box) => own(box, axis)))]);

/** Those of the lines with which a box is aligned. */
export const heldBy = (box, lines) =>
  lines.map((some, axis) => some.filter((line) => own(box, axis).some((v) => Math.abs(v - line) < 1e-6)));

/** The nearest line of the grid; the image's edge is one, too. */
function onGrid(value, step) {
  const line = clamp(Math.round(value / step) * step, 0, 1);
  return 1 - value < Math.abs(line - value) ? 1 : line;
}

/** With one of value + parts on a line if that is near, else on the grid. snap: step, lines and near, for x and y. */
function settled(value, axis, snap, parts) {
  if (!snap) return value;
  const ways = snap.lines[axis].flatMap((line) => parts.map((part) => line - part - value));
  const way = ways.reduce((a, b) => (Math.abs(b) < Math.abs(a) ? b : a), Infinity);
  return Math.abs(way) <= Math.min(snap.near[axis], snap.step[axis] / 3) ? value + way : onGrid(value, snap.step[axis]);
}

/** A point of the image. */
export const snapped = (at, snap) => AXES.map((axis) => clamp(settled(at[axis], axis, snap, [0]), 0, 1));

/** The box moved by [x, y], kept in the image. */
export function moved(box, by, snap) {
  const sides = AXES.map((axis) => box[axis + 2] - box[axis]);
  const low = AXES.map((axis) => {
    const parts = [0, sides[axis] / 2, sides[axis]];
    return clamp(settled(box[axis] + by[axis], axis, snap, parts), 0, 1 - sides[axis]);
  });
  return [...low, low[0] + sides[0], low[1] + sides[1]];
}

/** The box with the edges named in `sides` (of "nesw") at a point; it may turn over, not get smaller than `least`. */
export function resized(box, sides, at, snap, least) {
  const to = snapped(at, snap);
  const spans = AXES.map((axis) => {
    const [low, high] = ["wn"[axis], "es"[axis]].map((side) => sides.includes(side));
    return low || high ? span(box[low ? axis + 2 : axis], to[axis], least[axis]) : [box[axis], box[axis + 2]];
  });
  return [spans[0][0], spans[1][0], spans[0][1], spans[1][1]];
}

function span(fixed, free, least) {
  const [low, high] = free < fixed ? [Math.min(free, fixed - least), fixed] : [fixed, Math.max(free, fixed + least)];
  if (low < 0) return [0, Math.max(high, least)];
  return high > 1 ? [Math.min(low, 1 - least), 1] : [low, high];
}

/**
 * The edges ("nw", "e", ...) that a pointer has hold of, or "": 2 x reach wide, half of that inside, or all where the
 * image ends, but never more than a quarter of the box, by whose middle it is moved.
 */
export function gripped(box, at, reach) {
  const found = AXES.map((axis) => {
    const [low, , high] = own(box, axis);
    const inside = (border) => Math.min(border ? 2 * reach[axis] : reach[axis], (high - low) / 4);
    const [first, last] = [inside(low <= 0), inside(high >= 1)];
    if (at[axis] < low - 2 * reach[axis] + first || at[axis] > high + 2 * reach[axis] - last) return null;
    return at[axis] <= low + first ? "wn"[axis] : at[axis] >= high - last ? "es"[axis] : "";
  });
  return found.includes(null) ? "" : found[1] + found[0];
}
