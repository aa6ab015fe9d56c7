"""What the example workflows are made of, once for any SD1.x checkpoint and once for the demo model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from page_graph import Link, Node

BLUE, GOLD, GREEN, GREY = "#3f789e", "#b58b2a", "#5a8a3a", "#777777"
LEFT, RIGHT = [0.0625, 0.3125, 0.4375, 0.6875], [0.5625, 0.3125, 0.9375, 0.6875]
TOP_LEFT, BOTTOM_RIGHT = [0.0625, 0.0625, 0.4375, 0.4375], [0.5625, 0.5625, 0.9375, 0.9375]


@dataclass(frozen=True)
class Kit:
    """A model to make the examples for. block: the layer's, in latent pixels; bank: in ticket_banks."""

    loader: Node
    about: str
    side: int
    cfg: float
    layer: str
    block: int
    noises: int
    similarity: float
    bank: str
    about_bank: str

    @property
    def size(self) -> dict[str, Any]:
        return {"width": self.side, "height": self.side}


SD1 = Kit(
    Node("CheckpointLoaderSimple", size=(340, 120), title="Your checkpoint: any SD1.x"),
    "Choose a checkpoint of your own in the first node: any SD1.x one will do.",
    512,
    7.0,
    "input 8",
    4,
    128,
    0.99,
    "my_bank.safetensors",
    "Make the bank first, with the workflow *collect_and_save_a_bank* and the same checkpoint.",
)
DEMO = Kit(
    Node("LoadDemoModel", size=(340, 120)),
    "The model is the pack's own small demo model, of 256x256 images.",
    256,
    5.0,
    "input 3",
    2,
    48,
    0.999,
    "demo_model.safetensors",
    "The bank of the demo model comes with the pack: it knows castle, tree, sun, car, flower and fish.",
)


@dataclass(frozen=True)
class Group:
    title: str
    color: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """columns: groups from left to right, a column's from top to bottom. The note is above the first."""

    note: str
    nodes: dict[str, Node]
    columns: tuple[tuple[Group, ...], ...]
    height: int
    """Of the picture, in pixels; its width is always the same."""
    scale: float = 0.8


MODEL: dict[str, Link] = {"model": ("model", 0), "clip": ("model", 1)}
SIZE_OF_EDITOR: dict[str, Link] = {"width": ("editor", 2), "height": ("editor", 3)}
INPUTS = Group("Model and prompts", BLUE, ("model", "prompt", "negative"))


def _prompts(text: str = "a castle and a tree", width: int = 340) -> dict[str, Node]:
    clip: dict[str, Link] = {"clip": ("model", 1)}
    return {
        "prompt": Node("CLIPTextEncode", {"text": text}, clip, (width, 120), "Prompt"),
        "negative": Node("CLIPTextEncode", {"text": ""}, clip, (width, 100), "Negative prompt"),
    }


def _sampling(kit: Kit, sampler: str = "euler", scheduler: str = "normal") -> dict[str, Any]:
    values = {"seed": 7, "steps": 20, "cfg": kit.cfg}
    return {**values, "sampler_name": sampler, "scheduler": scheduler}


def _drawn(model: str, latent: Link) -> dict[str, Link]:
    return {
        "model": (model, 0),
        "positive": ("prompt", 0),
        "negative": ("negative", 0),
        "latent_image": latent,
    }


def _picture(name: str, samples: str, title: str, prefix: str, height: int = 280) -> dict[str, Node]:
    links: dict[str, Link] = {"samples": (samples, 0), "vae": ("model", 2)}
    saved = Node(
        "SaveImage", {"filename_prefix": prefix}, {"images": (f"{name} image", 0)}, (300, height), title
    )
    return {f"{name} image": Node("VAEDecode", {}, links, (300, 50), "Decode"), f"{name} saved": saved}


def _editor(bank: str | None, kit: Kit, **boxes: list[float]) -> Node:
    links: dict[str, Link] = {"bank": (bank, 0)} if bank else {}
    regions = [{"category": name, "box": box} for name, box in boxes.items()]
    layout = json.dumps({"regions": regions}, separators=(",", ":"))
    return Node("TicketRegions", {**kit.size, "layout": layout}, links, (380, 600))


def _with_noise(kit: Kit, noise: str) -> Node:
    links: dict[str, Link] = {**_drawn("model", (noise, 2)), "noise": (noise, 0)}
    return Node("GuidanceCutoffKSampler", _sampling(kit), links, (320, 500))


def _plain(kit: Kit, latent: Link) -> Node:
    return Node("KSampler", _sampling(kit), _drawn("model", latent), (320, 280))


def first_picture(kit: Kit) -> Example:
    layout = Node(
        "TicketLatentFromRegions",
        {"seed": 7},
        {"bank": ("collect", 0), "regions": ("editor", 0), **SIZE_OF_EDITOR, **MODEL},
        (360, 1010),
    )
    collect = {"categories": "castle\ntree", "noises": kit.noises, "seed": 1, "layer": kit.layer}
    return Example(
        f"""## A castle *there*

{kit.about} **Collect Tickets** looks at {kit.noises} random noises and finds the small blocks in them \
that lean towards a castle or a tree. Drag the boxes in **Ticket Regions**: **Ticket Latent from Regions** \
puts a new noise together, with castle blocks in the castle's box and tree blocks in the tree's. \
**Guidance Cutoff KSampler** draws from it, guided in the first half of the steps, and the plain KSampler \
below draws the same prompt from its seed's noise.

For other things change three: the boxes' names, the categories and the prompt.""",
        {
            "model": kit.loader,
            "collect": Node("CollectTickets", {**collect, **kit.size}, MODEL, (360, 660)),
            "layout": layout,
            **_prompts(),
            "sampler": _with_noise(kit, "layout"),
            **_picture("tickets", "sampler", "With tickets", "tickets/castle_and_tree"),
            "plain sampler": _plain(kit, ("layout", 2)),
            **_picture("plain", "plain sampler", "Without tickets", "tickets/castle_and_tree_plain"),
            "editor": _editor("collect", kit, castle=RIGHT, tree=LEFT),
        },
        (
            (INPUTS,),
            (
                Group("1. Draw regions", GOLD, ("editor",)),
                Group("2. Collect tickets, once", GOLD, ("collect",)),
            ),
            (Group("3. Build the noise", GOLD, ("layout",)),),
            (
                Group("4. Draw with tickets", GREEN, ("sampler",)),
                Group("For comparison: without", GREY, ("plain sampler",)),
            ),
            (
                Group("With tickets", GREEN, ("tickets image", "tickets saved")),
                Group("Without", GREY, ("plain image", "plain saved")),
            ),
        ),
        920,
        0.6,
    )


def collect_and_save_a_bank(kit: Kit) -> Example:
    wish = {"categories": "castle\ntree\nsun\ncar", "noises": kit.noises, "seed": 1, "layer": kit.layer}
    links: dict[str, Link] = {"bank": ("collect", 0)}
    return Example(
        f"""## Collect a bank once, use it for every picture

{kit.about} Write what you want to place into **Collect Tickets**, one thing a line. More noises give \
better tickets: begin with {kit.noises}. What was collected is kept in \
*models/ticket_banks/collecting.safetensors* while it runs: cancel, and the next run goes on from there. \
The report shows what the bank holds, and **Save Ticket Bank** keeps it for the workflow \
*regions_to_image*. A bank belongs to the model it was collected on.""",
        {
            "model": kit.loader,
            "collect": Node(
                "CollectTickets", {**wish, **kit.size, "save_as": "collecting"}, MODEL, (360, 620)
            ),
            "report": Node("TicketBankReport", {}, links, (400, 700)),
            "save": Node("SaveTicketBank", {"name": "my_bank"}, links, (300, 240)),
        },
        (
            (Group("Model", BLUE, ("model",)),),
            (Group("1. Collect tickets", GOLD, ("collect",)),),
            (Group("2. Look at them", GOLD, ("report",)),),
            (Group("3. Keep it", GREEN, ("save",)),),
        ),
        680,
        0.75,
    )


def regions_to_image(kit: Kit) -> Example:
    return Example(
        f"""## Draw where things shall be

{kit.about} {kit.about_bank} Drag the boxes in **Ticket Regions**, or draw others; change the prompt \
accordingly and run. **Ticket Latent from Regions** builds the noise, and shows the cells of each region, \
how well they fit, and the noise.""",
        {
            "model": kit.loader,
            "bank": Node("LoadTicketBank", {"name": kit.bank}, {}, (340, 150)),
            "editor": _editor("bank", kit, sun=TOP_LEFT, car=BOTTOM_RIGHT),
            "layout": Node(
                "TicketLatentFromRegions",
                {"seed": 7},
                {"bank": ("bank", 0), "regions": ("editor", 0), **SIZE_OF_EDITOR, **MODEL},
                (360, 1010),
            ),
            **_prompts("a sun and a car"),
            "sampler": _with_noise(kit, "layout"),
            **_picture("tickets", "sampler", "With tickets", "tickets/regions", 310),
        },
        (
            (Group("Model, bank and prompts", BLUE, ("model", "bank", "prompt", "negative")),),
            (Group("1. Draw regions", GOLD, ("editor",)),),
            (Group("2. Build the noise", GOLD, ("layout",)),),
            (Group("3. Draw with it", GREEN, ("sampler", "tickets image", "tickets saved")),),
        ),
        950,
        0.75,
    )


def masks_to_image(kit: Kit) -> Example:
    side, half = kit.side, kit.side // 2
    wide = {"width": side - side // 8, "height": side // 4}
    parts = {
        "empty": Node("SolidMask", {"value": 0.0, **kit.size}, {}, (300, 0), "Nothing"),
        "bar": Node("SolidMask", {"value": 1.0, **wide}, {}, (300, 0), "A bar"),
        "tower": Node(
            "SolidMask", {"value": 1.0, "width": side // 4, "height": half}, {}, (300, 0), "An upright bar"
        ),
        "low": Node(
            "MaskComposite",
            {"x": side // 16, "y": side - side // 4 - side // 16, "operation": "add"},
            {"destination": ("empty", 0), "source": ("bar", 0)},
            (300, 0),
            "The bar at the bottom",
        ),
        "high": Node(
            "MaskComposite",
            {"x": side - side // 4 - side // 16, "y": side // 8, "operation": "add"},
            {"destination": ("empty", 0), "source": ("tower", 0)},
            (300, 0),
            "The other at the top right",
        ),
    }
    return Example(
        f"""## Masks of any shape

{kit.about} {kit.about_bank} The two masks are made of bars, so that nothing need be loaded. Put your own \
in their place: *Load Image*, painted with its *Open in MaskEditor*, or what a detector found. Masks of \
any size are spread over the whole image; one mask for each image of a batch works, too.""",
        {
            "model": kit.loader,
            "bank": Node("LoadTicketBank", {"name": kit.bank}, {}, (340, 150)),
            **parts,
            "first": Node(
                "TicketRegionFromMask",
                {"category": "car"},
                {"mask": ("low", 0)},
                (320, 0),
                "The car's region",
            ),
            "second": Node(
                "TicketRegionFromMask",
                {"category": "tree"},
                {"mask": ("high", 0), "regions": ("first", 0)},
                (320, 150),
                "The tree's region",
            ),
            "layout": Node(
                "TicketLatentFromRegions",
                {"seed": 7, **kit.size},
                {"bank": ("bank", 0), "regions": ("second", 0), **MODEL},
                (360, 1010),
            ),
            **_prompts("a car and a tree"),
            "sampler": _with_noise(kit, "layout"),
            **_picture("tickets", "sampler", "With tickets", "tickets/masks", 310),
        },
        (
            (Group("Model, bank and prompts", BLUE, ("model", "bank", "prompt", "negative")),),
            (Group("1. Masks: yours, instead of these", GOLD, tuple(parts)),),
            (Group("2. What each mask is for", GOLD, ("first", "second")),),
            (Group("3. Build the noise", GOLD, ("layout",)),),
            (Group("4. Draw with it", GREEN, ("sampler", "tickets image", "tickets saved")),),
        ),
        900,
        0.62,
    )


def block_swap(kit: Kit) -> Example:
    arranged = Node(
        "ArrangeNoiseByRegions",
        {"seed": 7, "layer": kit.layer},
        {**MODEL, "regions": ("editor", 0), **SIZE_OF_EDITOR},
        (360, 800),
    )
    return Example(
        f"""## No bank at all: a seed's own noise, rearranged

{kit.about} **Arrange Noise by Regions** looks at the noise of the seed and exchanges blocks of it, until \
those that lean towards a castle lie in the castle's box. Nothing is collected, and the noise stays \
exactly Gaussian, as **Noise Report** shows. The plain KSampler draws from the same seed's noise as it \
was.""",
        {
            "model": kit.loader,
            "editor": _editor(None, kit, castle=RIGHT, tree=LEFT),
            "arranged": arranged,
            **_prompts(),
            "sampler": _with_noise(kit, "arranged"),
            **_picture("arranged", "sampler", "Rearranged", "tickets/block_swap"),
            "plain sampler": _plain(kit, ("arranged", 2)),
            **_picture("plain", "plain sampler", "As it was", "tickets/block_swap_plain"),
            "report": Node(
                "NoiseReport",
                {"block": kit.block},
                {"noise": ("arranged", 0), "latent_image": ("arranged", 2)},
                (380, 460),
            ),
        },
        (
            (INPUTS,),
            (Group("1. Draw regions", GOLD, ("editor",)), Group("Still Gaussian", GREY, ("report",))),
            (Group("2. Rearrange the noise", GOLD, ("arranged",)),),
            (
                Group("3. Draw with it", GREEN, ("sampler",)),
                Group("For comparison: as it was", GREY, ("plain sampler",)),
            ),
            (
                Group("Rearranged", GREEN, ("arranged image", "arranged saved")),
                Group("As it was", GREY, ("plain image", "plain saved")),
            ),
        ),
        920,
        0.6,
    )


def cutoff_side_by_side(kit: Kit) -> Example:
    sampling = _sampling(kit, "dpmpp_2m", "karras")
    empty: Link = ("latent", 0)
    half = {**sampling, "cutoff": "share of steps", "cutoff.guided": 0.5, "after_cutoff": "conditional"}

    def stitched(first: Link, second: Link) -> Node:
        return Node("ImageStitch", {}, {"image1": first, "image2": second}, (420, 0))

    return Example(
        f"""## The same picture in less time

{kit.about} Left: stock KSampler, guided in all steps. In the middle: **Guidance Cutoff KSampler**, guided \
in half of the steps; each later step runs the model once instead of twice. Right: **Guidance Cutoff**, a \
patch of the model for any sampler node, here *adaptive*: it ends when guidance changes the picture \
little. The sampler and the report tell what was saved.""",
        {
            "model": kit.loader,
            **_prompts(width=260),
            "latent": Node("EmptyLatentImage", kit.size, {}, (260, 0)),
            "cutoff": Node(
                "GuidanceCutoff",
                {"cutoff": "adaptive", "cutoff.similarity": kit.similarity},
                {"model": ("model", 0)},
                (290, 200),
            ),
            "patched": Node("KSampler", sampling, _drawn("cutoff", empty), (290, 330)),
            "report": Node(
                "GuidanceCutoffReport", {}, {"latent": ("patched", 0), "model": ("cutoff", 0)}, (290, 200)
            ),
            "patched image": Node(
                "VAEDecode", {}, {"samples": ("report", 0), "vae": ("model", 2)}, (290, 50), "Decode"
            ),
            "full": Node("KSampler", sampling, _drawn("model", empty), (290, 280)),
            "full image": Node(
                "VAEDecode", {}, {"samples": ("full", 0), "vae": ("model", 2)}, (290, 50), "Decode"
            ),
            "half": Node("GuidanceCutoffKSampler", half, _drawn("model", empty), (290, 500)),
            "half image": Node(
                "VAEDecode", {}, {"samples": ("half", 0), "vae": ("model", 2)}, (290, 50), "Decode"
            ),
            "two": stitched(("full image", 0), ("half image", 0)),
            "three": stitched(("two", 0), ("patched image", 0)),
            "saved": Node(
                "SaveImage",
                {"filename_prefix": "cutoff/full_half_adaptive"},
                {"images": ("three", 0)},
                (420, 260),
                "Full, half, adaptive",
            ),
        },
        (
            (Group("Model and prompts", BLUE, ("model", "prompt", "negative", "latent")),),
            (Group("Guided in all steps", GREY, ("full", "full image")),),
            (Group("Guided in half of them", GREEN, ("half", "half image")),),
            (Group("As a patch, adaptive", GREEN, ("cutoff", "patched", "report", "patched image")),),
            (Group("Side by side", BLUE, ("two", "three", "saved")),),
        ),
        760,
        0.61,
    )


EXAMPLES = {
    make.__name__: make
    for make in (
        first_picture,
        collect_and_save_a_bank,
        regions_to_image,
        masks_to_image,
        block_swap,
        cutoff_side_by_side,
    )
}
