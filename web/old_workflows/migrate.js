/**
 * Workflows from before the inputs were frozen, when nodes had others (examples: tests/data/earlier), as data.
 * It knows nothing of ComfyUI.
 */

const SIZE = { name: "size", plain: "of the regions", custom: { width: 512, height: 512 } };
const rare = (custom) => ({ name: "advanced", plain: "defaults", custom });
const OVERLAP = { overlap: "smaller" };
const SELECTION = {
  name: "selection",
  options: { rank: ["best"], threshold: ["t_pos", "t_neg", "t_bg", "t_pos_single", "t_bg_single"] },
};
const NOISE = ["regions", "width", "height", "seed", "control_after_generate", "batch_size"];
const NEW_NOISE = ["regions", SIZE, "seed", "control_after_generate", "batch_size"];

/**
 * By node: its widgets of then and of now, in order; `number` is where a number stood then, and text now. Of a
 * choice that hides what is rarely set, `custom` holds the inputs and their default values.
 */
const KINDS = {
  CollectTickets: {
    number: 6,
    old: "categories noises seed width height layer cells_per_block scheme template save_as".split(" "),
    now: [
      ..."categories noises seed width height layer".split(" "),
      rare({ cells_per_block: 1, scheme: "pairs", template: "{}" }),
      "save_as",
    ],
  },
  TicketLayerReport: {
    number: 7,
    old: "categories noises planted seed width height images steps cfg".split(" "),
    now: [..."categories noises planted seed width height images".split(" "), rare({ steps: 10, cfg: 7 })],
  },
  TicketLatentFromRegions: {
    number: 1,
    old: [
      ...NOISE,
      ..."selection best best_background temperature t_pos t_neg t_bg t_pos_single t_bg_single".split(" "),
      ..."shortage background strength soft_edges overlap calibration candidates rounds".split(" "),
    ],
    now: [
      ...NEW_NOISE,
      SELECTION,
      "strength",
      "candidates",
      rare({
        best_background: 5,
        temperature: 1,
        shortage: "relax",
        background: "losers",
        soft_edges: false,
        ...OVERLAP,
        calibration: "standardize",
        rounds: 3,
      }),
    ],
  },
  ArrangeNoiseByRegions: {
    number: 1,
    old: [...NOISE, "layer", "cells_per_block", "rounds", "candidates", "overlap"],
    now: [...NEW_NOISE, "layer", "rounds", "candidates", rare({ cells_per_block: 1, ...OVERLAP })],
  },
  PickBestNoise: {
    number: 1,
    old: [...NOISE, "layer", "candidates", "overlap"],
    now: [...NEW_NOISE, "layer", "candidates", rare(OVERLAP)],
  },
};

/** Moves what old nodes of a serialized workflow hold to where it is now: [node, whether a bank was lost]. */
export function migrate(workflow) {
  const graphs = [workflow, ...(workflow.definitions?.subgraphs ?? [])];
  return graphs.flatMap((graph) => (graph.nodes ?? []).flatMap((node) => moved(graph, node)));
}

function moved(graph, node) {
  if (node.type === "TicketRegions") {
    const bank = node.inputs?.find((input) => input.name === "bank");
    if (!bank) return [];
    drop(graph, node, "bank");
    return bank.link == null ? [] : [[node, true]];
  }
  const kind = KINDS[node.type];
  const values = node.widgets_values;
  if (!Array.isArray(values) || typeof values[kind?.number] !== "number") return [];
  if (values.length !== kind.old.length) return [];
  const held = Object.fromEntries(kind.old.map((name, i) => [name, values[i]]));
  const names = {};
  node.widgets_values = kind.now.flatMap((entry) => {
    if (typeof entry === "string") return [held[entry]];
    const [option, inputs] = chosen(graph, node, entry, held);
    for (const name of inputs) names[name] = `${entry.name}.${name}`;
    return [option, ...inputs.map((name) => held[name])];
  });
  const gone = new Set(kind.old.filter((name) => !kind.now.includes(name) && name !== "selection"));
  for (const name of gone) {
    if (names[name]) rename(node, name, names[name]);
    else drop(graph, node, name);
  }
  return [[node, false]];
}

/** The option of a choice that does what the old values did, and the old inputs that it shows. */
function chosen(graph, node, { name, options, plain, custom }, held) {
  if (options) return [held[name], options[held[name]] ?? []];
  const inputs = Object.keys(custom);
  const links = inputs.map((input) => source(graph, node, input));
  const asBefore =
    name === "size"
      ? sameEditor(source(graph, node, "regions"), links)
      : inputs.every((input, i) => !links[i] && held[input] === custom[input]);
  return asBefore ? [plain, []] : ["custom", inputs];
}

/** Whether the size came from the very node that the regions come from: then the regions carry it. */
function sameEditor(regions, links) {
  return Boolean(regions) && links.every((link, i) => link?.node === regions.node && link.slot === 2 + i);
}

/** Links are arrays in a workflow and objects in a subgraph. */
const parts = (link) =>
  Array.isArray(link)
    ? { id: link[0], node: link[1], slot: link[2] }
    : { id: link.id, node: link.origin_id, slot: link.origin_slot };

function source(graph, node, name) {
  const id = node.inputs?.find((input) => input.name === name)?.link;
  return id == null ? null : (graph.links?.map(parts).find((link) => link.id === id) ?? null);
}

function rename(node, from, to) {
  const input = node.inputs?.find((i) => i.name === from);
  if (!input) return;
  input.name = to;
  if (input.widget) input.widget.name = to;
  delete input.localized_name;
}

function drop(graph, node, name) {
  const link = source(graph, node, name);
  node.inputs = node.inputs?.filter((input) => input.name !== name);
  if (!link) return;
  graph.links = graph.links.filter((other) => parts(other).id !== link.id);
  const output = graph.nodes.find((other) => other.id === link.node)?.outputs?.[link.slot];
  if (output?.links) output.links = output.links.filter((id) => id !== link.id);
}
