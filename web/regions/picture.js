/** The picture behind a node's boxes: the connected one or the last output; kept with the node, not in the layout. */

import { api } from "../../../scripts/api.js";
import { ofRun, ours, upstream, widgetOf } from "../nodes.js";

const PICTURE = "ticket regions picture";
let lastOutput = null;

export function watchOutputs() {
  api.addEventListener("executed", ({ detail: { display_node: shown, node: id, output } }) => {
    const node = ofRun(shown ?? id);
    // This pack's pictures are reports; those of a graph that is no longer shown have text beside them.
    const isReport = node ? ours(node) : output?.text;
    if (!isReport) lastOutput = output?.images?.at(-1) ?? lastOutput;
  });
}

export const chosenPicture = (node) => node.properties?.[PICTURE]?.kind ?? "";

/** kind: "", "connected" or "last". reported: by the node's last run, its background among it. */
export function choosePicture(node, kind, reported) {
  const file = kind === "last" ? lastOutput : kind === "connected" ? connected(node, reported) : null;
  node.properties[PICTURE] = { kind, file };
}

export function showPicture(node, view, reported) {
  const { kind = "", file } = node.properties?.[PICTURE] ?? {};
  const shown = kind === "connected" ? (connected(node, reported) ?? file) : kind && file;
  view.setPicture(shown && api.apiURL(`/view?${new URLSearchParams(shown)}`), kind);
}

function connected(node, reported) {
  const source = upstream(node, "background");
  const name = source?.comfyClass === "LoadImage" && widgetOf(source, "image")?.value;
  if (!name) return reported?.background ?? null;
  const [, plain, type = "input"] = /^(.*?)(?: \[(\w+)\])?$/.exec(String(name));
  const path = plain.split("/");
  return { filename: path.pop(), subfolder: path.join("/"), type };
}
