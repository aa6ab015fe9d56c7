/** Regions from and to ComfyUI's bounding boxes and elements, as TicketRegionsFromBoxes reads them. */

/** Regions of one or several boxes {x, y, width, height} in pixels of an image of this size, or elements {bbox}. */
export function fromBoxes(value, size) {
  const given = [value].flat();
  const some = (Array.isArray(given[0]) ? given[0] : given).filter((box) => typeof box === "object" && box);
  const regions = some.map((box) => ({ category: labelOf(box), box: boxOf(box, size) }));
  return regions.filter(({ box }) => box[0] < box[2] && box[1] < box[3]);
}

/** Boxes as the widget of Create Bounding Boxes keeps them, in whole pixels of an image of this size. */
export function toBoxes(regions, size) {
  return regions.map(({ category, box }) => {
    const [x, y, right, bottom] = box.map((v, i) => Math.round(v * size[i % 2]));
    const metadata = { type: "obj", text: "", desc: category, palette: [] };
    return { x, y, width: right - x, height: bottom - y, metadata };
  });
}

const labelOf = ({ label, desc, text, metadata }) =>
  String(label || desc || text || metadata?.desc || metadata?.text || "");

function boxOf({ bbox, x, y, width, height }, size) {
  const [top, left, bottom, right] = Array.isArray(bbox) ? bbox : [y, x, y + height, x + width];
  const whole = Array.isArray(bbox) ? [1000, 1000] : size;
  const box = [left, top, right, bottom].map((v, i) => v / whole[i % 2]);
  if (!box.every(Number.isFinite)) throw new Error('{"x": 320, "y": 96, "width": 192, "height": 256}');
  return box.map((v) => Math.min(Math.max(v, 0), 1));
}
