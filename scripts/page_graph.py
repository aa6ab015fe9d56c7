"""Graphs that are wired in ComfyUI's own page, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Link = tuple[str, int]


@dataclass(frozen=True)
class Node:
    """values: of widgets, by name, where they are not the node's own; links: input to (node, output).

    size: the height is what the node may come to need; 0 as ComfyUI makes it.
    """

    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    size: tuple[int, int] = (360, 0)
    title: str = ""


BUILD = """async graph => {
  await app.loadGraphData({id: crypto.randomUUID(), nodes: [], links: [], version: 0.4, last_node_id: 0})
  window.made = {}
  let y = 0
  for (const [name, {kind, values, links, size, title}] of Object.entries(graph)) {
    const node = LiteGraph.createNode(kind)
    if (!node) throw new Error(`There is no node ${kind}`)
    made[name] = node
    node.pos = [0, y]
    if (title) node.title = title
    app.graph.add(node)
    for (const [key, value] of Object.entries(values)) {
      const widget = node.widgets.find(w => w.name === key)
      if (!widget) throw new Error(`${kind} has no ${key}`)
      widget.value = value
      widget.callback?.(value)
    }
    const control = node.widgets?.find(w => w.name === 'control_after_generate')
    if (control) control.value = 'fixed'
    node.setSize([size[0], Math.max(size[1], node.computeSize()[1])])
    y += node.size[1] + 200
  }
  for (const [name, {links, kind}] of Object.entries(graph)) {
    for (const [input, [from, output]] of Object.entries(links)) {
      const link = made[from].connect(output, made[name], input)
      if (!link) throw new Error(`${kind}: ${input} is not connected`)
    }
  }
}"""


def described(graph: Mapping[str, Node]) -> dict[str, dict[str, Any]]:
    """What BUILD takes. The page keeps the nodes as `made`, by name; they are numbered in this order."""
    return {name: vars(node) for name, node in graph.items()}
