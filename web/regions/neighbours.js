/** What the nodes around Ticket Regions know: the bank that its regions are for, and the image's size. */

import { api } from "../../../scripts/api.js";
import { givenAround, isLinked, upstream, widgetOf } from "../nodes.js";
import { named } from "./category.js";

const REGIONS = "TICKET_REGIONS";
const BANK = "TICKET_BANK";
const FAR = 20;

export const takesRegions = (node) => node.inputs?.some((i) => String(i.type).includes(REGIONS));

/** Of the image: of the first of the regions before these, as the node takes it. reported: of nodes' last runs. */
export function sizeOf(node, reported, depth = 0) {
  const before = upstream(node, "regions");
  const found = before && depth < FAR ? sizeOf(before, reported, depth + 1) : null;
  if (found) return found;
  const ran = (name) => (before || isLinked(node, name)) && reported.get(node)?.[name];
  const known = (name) => givenAround(node, name) || ran(name) || widgetOf(node, name)?.value;
  const sides = ["width", "height"].map((name) => Number(known(name)));
  return sides.every(Boolean) ? sides : null;
}

/** Of the bank of the node that the regions go to, also through others: categories and a block's latent pixels. */
export async function bankFor(node, reported) {
  const taker = takers(node).find((one) => upstream(one, "bank"));
  const offered = taker && (await offeredBy(upstream(taker, "bank")).catch(() => null));
  return taker ? { ...reported.get(taker), ...offered } : null;
}

function takers(node, depth = 0) {
  if (!node?.graph || depth > FAR) return [];
  const links = (node.outputs ?? []).filter((o) => o.type === REGIONS).flatMap((o) => o.links ?? []);
  const found = links.map((id) => node.graph.getNodeById(node.graph.getLink(id)?.target_id)).filter(Boolean);
  return found.flatMap((taker) => [taker, ...takers(taker, depth + 1)]);
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
