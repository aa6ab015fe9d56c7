/** Tells the user of a workflow of an older version what became of its inputs. */

import { app } from "../../../scripts/app.js";
import { migrate } from "./migrate.js";
import { words } from "./words.js";

app.registerExtension({
  name: "WinningTickets.OldWorkflows",

  /** ComfyUI keeps the values of a node's widgets as a list, which would now fill others. */
  beforeConfigureGraph(workflow) {
    const changed = migrate(workflow);
    if (!changed.length) return;
    const say = words(app.extensionManager?.setting?.get("Comfy.Locale") ?? "en");
    const listed = (some) => some.map(([node]) => `${titleOf(node)} (${node.id})`).join(", ");
    const kept = changed.filter(([, lost]) => !lost);
    const lost = changed.filter(([, lost]) => lost);
    const lines = [
      kept.length && `${say.moved} ${listed(kept)}.`,
      lost.length && `${say.bank} ${listed(lost)}.`,
      say.todo,
    ];
    app.extensionManager.toast.add({
      severity: "warn",
      summary: say.title,
      detail: lines.filter(Boolean).join(" "),
    });
  },
});

/** In the user's language, unless the node was given a title. */
function titleOf(node) {
  return node.title ?? LiteGraph.registered_node_types[node.type]?.title ?? node.type;
}
