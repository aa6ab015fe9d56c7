/** What the nodes around Ticket Regions know: the bank that its regions are for, and the image's size. */

import { api } from "../../../scripts/api.js";
import { named } from "./layout.js";

const REGIONS = "TICKET_REGIONS";
const BANK = "TICKET_BANK";
const FAR = 20;

export const widgetOf = (node, name) => node.widgets?.find((w) => w.name === name);
export const isLinked = (node, name) => node.inputs?.some((i) => i.name === name && i.link != null);
export const takesRegions = (node) => node.inputs?.some((i) => String(i.type).includes(REGIONS));

/** The node that an input is connected to; a node being copied or removed is in no graph. */
export function upstream(node, name) {
  const index = node?.graph ? (node.inputs?.findIndex((i) => i.name === name) ?? -1) : -1;
  return index < 0 ? null : node.getInputNode(index);
}

/** Width and height of the image: of the first of the regions before these, as Ticket Regions takes it. */
export function sizeOf(node, reported, depth = 0) {
  const before = upstream(node, "regions");
  const found = before && depth < FAR ? sizeOf(before, reported, depth + 1) : null;
  if (found) return found;
  const known = (name) => (before || isLinked(node, name)) && reported.get(node)?.[name];
  const sides = ["width", "height"].map((name) => known(name) || Number(widgetOf(node, name)?.value));
  return sides.every(Boolean) ? sides : null;
}

/**
 * The bank of the node that the regions go to, through others that pass them on: its categories, and the
 * side of a block in latent pixels, as far as they are known. reported: by node, what its last run reported.
 */
export async function bankFor(node, reported) {
  for (const taker of takers(node)) {
    const source = upstream(taker, "bank");
    if (source) return { ...reported.get(taker), ...(await offeredBy(source).catch(() => null)) };
  }
  return null;
}

function* takers(node, depth = 0) {
  if (!node?.graph || depth > FAR) return;
  const links = (node.outputs ?? []).filter((o) => o.type === REGIONS).flatMap((o) => o.links ?? []);
  for (const id of links) {
    const taker = node.graph.getNodeById(node.graph.getLink(id)?.target_id);
    if (!taker) continue;
    yield taker;
    yield* takers(taker, depth + 1);
  }
}

/** What can be known of a bank before the run. */
async function offeredBy(node, depth = 0) {
  if (!node || depth > FAR) return null;
  if (node.comfyClass === "CollectTickets") {
    // Those of another node, perhaps of this very drawing.
    if (isLinked(node, "categories")) return { categories: null };
    const lines = String(widgetOf(node, "categories")?.value ?? "").split("\n");
    return { categories: [...new Set(lines.map(named).filter(Boolean))] };
  }
  if (node.comfyClass === "LoadTicketBank") {
    const query = new URLSearchParams({ name: widgetOf(node, "name")?.value ?? "" });
    const answer = await api.fetchApi(`/winning_tickets/bank?${query}`);
    return answer.ok ? answer.json() : null;
  }
  const index = node.inputs?.findIndex((i) => i.type === BANK && i.link != null) ?? -1;
  return index < 0 ? null : offeredBy(node.getInputNode(index), depth + 1);
}
