/** Which nodes of the graph are this pack's, and which one an id of a run means. */

import { app } from "../../scripts/app.js";

const here = decodeURIComponent(new URL("./", import.meta.url).pathname.split("/").at(-2));

export const ours = (node) => node?.constructor.nodeData?.python_module === `custom_nodes.${here}`;

/** The node of an id as runs have it, "5:12" for one in a subgraph; undefined if the graph has none. */
export function ofRun(id) {
  let graph = app.rootGraph;
  let node;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part);
    graph = node?.subgraph;
  }
  return node ?? undefined;
}
