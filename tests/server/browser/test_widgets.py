"""Every node fits on a screen: what a person sees of a fresh one, in both of ComfyUI's renderers."""

from __future__ import annotations

from typing import Any

import browser as browsers
from comfyui_server import Server

MOST = 10
# It has most to say: bank, place, seed, selection, strength and how candidates are looked at.
MORE = {"TicketLatentFromRegions": 11}
HEIGHT = 800
MODULE = "custom_nodes.winning-tickets"
ADD = """kind => {
  app.graph.clear()
  const node = LiteGraph.createNode(kind)
  node.pos = [0, 0]
  app.graph.add(node)
  app.canvas.setDirty(true, true)
  return String(node.id)
}"""
# Classic draws on a canvas: what it draws is asked of the node, by the function that its drawing asks.
DRAWN = (
    "() => { const n = app.graph.nodes[0]; return n.widgets?.filter(w => n.isWidgetVisible(w)).length ?? 0 }"
)
SHOWN = ".lg-node-widget"


def test_a_fresh_node_shows_at_most_ten_widgets(page: Any, server: Server) -> None:
    """The rule: what is rarely set hides behind a choice, and a choice brings its own inputs only.

    Ticket Latent from Regions showed 21. Flags such as `advanced` count for nothing in the classic renderer.
    """
    vue = page.evaluate("app.extensionManager.setting.get('Comfy.VueNodes.Enabled')")
    kinds = [k for k, info in server.client.object_info().items() if info["python_module"] == MODULE]
    counts, heights = {}, {}
    for kind in kinds:
        node = page.evaluate(ADD, kind)
        if vue:
            page.locator(f"[data-node-id='{node}']").wait_for()
            browsers.settle(page)
        counts[kind] = page.locator(SHOWN).count() if vue else page.evaluate(DRAWN)
        heights[kind] = page.evaluate("app.graph.nodes[0].size[1]")
    assert counts["TicketLatentFromRegions"] >= 9 and counts["TicketRegions"] == 3
    assert {kind: count for kind, count in counts.items() if count > MORE.get(kind, MOST)} == {}
    assert {kind: height for kind, height in heights.items() if height > HEIGHT} == {}
