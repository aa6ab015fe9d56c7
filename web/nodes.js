/** The graph's nodes: which are this pack's, what they are connected to, and what follows what they do. */

import { app } from "../../scripts/app.js";

const here = decodeURIComponent(new URL("./", import.meta.url).pathname.split("/").at(-2));

export const ours = (node) => node?.constructor.nodeData?.python_module === `custom_nodes.${here}`;
export const widgetOf = (node, name) => node.widgets?.find((w) => w.name === name);
export const isLinked = (node, name) => node.inputs?.some((i) => i.name === name && i.link != null);

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

/** The node that an input is connected to; a node being copied or removed is in no graph. */
export function upstream(node, name) {
  const index = node?.graph ? (node.inputs?.findIndex((i) => i.name === name) ?? -1) : -1;
  return index < 0 ? null : node.getInputNode(index);
}

/** What a widget of the subgraph around a node gives to an input; undefined where none does. */
export function givenAround(node, name) {
  const link = isLinked(node, name) && node.graph?.getLink?.(node.inputs.find((i) => i.name === name).link);
  if (!link || link.origin_id !== node.graph.inputNode?.id) return undefined;
  const input = node.graph.inputs[link.origin_slot];
  const graphs = [app.rootGraph, ...(app.rootGraph.subgraphs?.values() ?? [])];
  const around = graphs.flatMap((graph) => graph.nodes).find((n) => n.subgraph === node.graph);
  if (!around) return undefined;
  return isLinked(around, input.name) ? givenAround(around, input.name) : widgetOf(around, input.name)?.value;
}

/** Of one object: what it did, and then this. */
export function after(target, name, then) {
  const before = target[name];
  target[name] = function (...given) {
    const result = before?.apply(this, given);
    then(...given);
    return result;
  };
}

/** Of a widget on the page: as wide as its node. ComfyUI's panel of parameters gives it the panel's width. */
export function keepNodeWidth(widget) {
  Object.defineProperty(widget, "width", { get: () => undefined, set: () => {}, configurable: true });
}
