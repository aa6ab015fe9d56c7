"""Example workflows that place things."""

from __future__ import annotations

from example_parts import (
    BLUE,
    BOTTOM_RIGHT,
    GOLD,
    GREEN,
    GREY,
    INPUTS,
    LEFT,
    MODEL,
    RIGHT,
    TOP_LEFT,
    Example,
    Group,
    Kit,
    editor,
    picture,
    plain,
    prompts,
    with_noise,
)
from page_graph import Link, Node

STEPS = 20
LEFT_THIRD, TOWARDS_RIGHT = [0, 0.3125, 0.34375, 0.6875], [0.46875, 0.15625, 0.875, 0.5625]


def first_picture(kit: Kit) -> Example:
    layout = Node(
        "TicketLatentFromRegions",
        {"seed": 7},
        {"bank": ("collect", 0), "regions": ("editor", 0), **MODEL},
        (360, 880),
    )
    collect = {"categories": "castle\ntree", "noises": kit.noises, "seed": 1, "layer": kit.layer}
    return Example(
        f"""## A castle *there*

You get one prompt drawn twice: with its objects in the boxes, and from a plain seed. {kit.first} Then drag \
the boxes in **Ticket Regions**. For other things, change the names of the boxes, the categories in \
**Collect Tickets** and the prompt alike.""",
        {
            "model": kit.loader,
            "collect": Node("CollectTickets", {**collect, **kit.size}, MODEL, (360, 600)),
            "layout": layout,
            **prompts(),
            "sampler": with_noise(kit, "layout"),
            **picture("tickets", "sampler", "With tickets", "tickets/castle_and_tree"),
            "plain sampler": plain(kit, ("layout", 2)),
            **picture("plain", "plain sampler", "Without tickets", "tickets/castle_and_tree_plain"),
            "editor": editor(kit, castle=RIGHT, tree=LEFT),
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
        0.6,
    )


def collect_and_save_a_bank(kit: Kit) -> Example:
    wish = {"categories": "castle\ntree\nsun\ncar", "noises": kit.noises, "seed": 1, "layer": kit.layer}
    links: dict[str, Link] = {"bank": ("collect", 0)}
    return Example(
        f"""## Collect a bank once, use it for every picture

You get a bank of tickets: the small blocks of noise that start a thing. {kit.first} Write one thing per \
line in **Collect Tickets**; a cancelled run resumes. More noises make better tickets. Then open \
*regions_to_image*. A bank belongs to its model.""",
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
        0.75,
    )


def regions_to_image(kit: Kit) -> Example:
    return Example(
        f"""## Draw where to place things

You get a picture with each object in its box. {kit.first} {kit.about_bank} Drag the boxes in **Ticket \
Regions**, or draw new ones, and name the same things in the prompt. Then try another seed, or more \
candidates.""",
        {
            "model": kit.loader,
            "bank": Node("LoadTicketBank", {"name": kit.bank}, {}, (340, 150)),
            "editor": editor(kit, sun=TOP_LEFT, car=BOTTOM_RIGHT),
            "layout": Node(
                "TicketLatentFromRegions",
                {"seed": 7},
                {"bank": ("bank", 0), "regions": ("editor", 0), **MODEL},
                (360, 880),
            ),
            **prompts("a sun and a car"),
            "sampler": with_noise(kit, "layout"),
            **picture("tickets", "sampler", "With tickets", "tickets/regions", 310),
        },
        (
            (Group("Model, bank and prompts", BLUE, ("model", "bank", "prompt", "negative")),),
            (Group("1. Draw regions", GOLD, ("editor",)),),
            (Group("2. Build the noise", GOLD, ("layout",)),),
            (Group("3. Draw with it", GREEN, ("sampler", "tickets image", "tickets saved")),),
        ),
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

You get each object where its mask is. {kit.first} {kit.about_bank} Then replace the bars with masks of \
your own: *Load Image* with *Open in MaskEditor*, or a detector's. Any size works; so does one mask per \
image of a batch.""",
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
                {"seed": 7},
                {"bank": ("bank", 0), "regions": ("second", 0), **MODEL},
                (360, 880),
            ),
            **prompts("a car and a tree"),
            "sampler": with_noise(kit, "layout"),
            **picture("tickets", "sampler", "With tickets", "tickets/masks", 310),
        },
        (
            (Group("Model, bank and prompts", BLUE, ("model", "bank", "prompt", "negative")),),
            (Group("1. Masks: yours, instead of these", GOLD, tuple(parts)),),
            (Group("2. What each mask is for", GOLD, ("first", "second")),),
            (Group("3. Build the noise", GOLD, ("layout",)),),
            (Group("4. Draw with it", GREEN, ("sampler", "tickets image", "tickets saved")),),
        ),
        0.62,
    )


def block_swap(kit: Kit) -> Example:
    seed = 12
    arranged = Node(
        "ArrangeNoiseByRegions",
        {"seed": seed, "layer": kit.layer},
        {**MODEL, "regions": ("editor", 0)},
        (360, 760),
    )
    return Example(
        f"""## No bank: rearrange the noise of a seed

You get one seed drawn twice: with its blocks of noise moved to the boxes they suit, and as it was. \
{kit.first} Drag the boxes in **Ticket Regions**. Nothing is collected, and the noise stays Gaussian, as \
**Noise Report** shows. Then try other seeds.""",
        {
            "model": kit.loader,
            "editor": editor(kit, castle=RIGHT, tree=LEFT),
            "arranged": arranged,
            **prompts(),
            "sampler": with_noise(kit, "arranged", seed),
            **picture("arranged", "sampler", "Rearranged", "tickets/block_swap"),
            "plain sampler": plain(kit, ("arranged", 2), seed),
            **picture("plain", "plain sampler", "As it was", "tickets/block_swap_plain"),
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
        0.6,
    )


def try_the_left_third_again(kit: Kit) -> Example:
    """One run, its noise with a part drawn anew, and the best of many such noises, all sampled alike."""
    run: dict[str, Link] = {"guider": ("guider", 0), "sampler": ("sampler", 0), "sigmas": ("sigmas", 0)}
    how = {"look": "after steps", "look.steps": STEPS, "look.cfg": kit.cfg}
    same: dict[str, Link] = {
        "look.sampler": ("sampler", 0),
        "look.sigmas": ("sigmas", 0),
        "look.positive": ("prompt", 0),
        "look.negative": ("negative", 0),
    }

    def drawn(noise: str) -> Node:
        links: dict[str, Link] = {**run, "noise": (noise, 0), "latent_image": ("latent", 0)}
        return Node("SamplerCustomAdvanced", {}, links, (300, 0))

    return Example(
        f"""## Keep the picture, try its left third again

You get a picture, the same with a new left third, and the best of 12 such tries. {kit.first} Set the part \
and the seed in **Redraw Noise in Region**. Then move the boxes for **Pick Best Noise**: its looks \
cost about one more picture.""",
        {
            "model": kit.loader,
            **prompts(),
            "latent": Node("EmptyLatentImage", kit.size, {}, (300, 0)),
            "noise": Node("RandomNoise", {"noise_seed": 23}, {}, (300, 0), "The picture's seed"),
            "sampler": Node("KSamplerSelect", {"sampler_name": "dpmpp_2m"}, {}, (300, 0)),
            "sigmas": Node(
                "BasicScheduler", {"scheduler": "normal", "steps": STEPS}, {"model": ("model", 0)}, (300, 0)
            ),
            "guider": Node(
                "CFGGuider",
                {"cfg": kit.cfg},
                {"model": ("model", 0), "positive": ("prompt", 0), "negative": ("negative", 0)},
                (300, 0),
            ),
            "plain sampler": drawn("noise"),
            **picture("plain", "plain sampler", "As it was", "tickets/left_third"),
            "redraw": Node(
                "RedrawNoiseInRegion",
                {"seed": 4},
                {"noise": ("noise", 0), "latent_image": ("latent", 0)},
                (320, 580),
            ),
            "redrawn sampler": drawn("redraw"),
            **picture("redrawn", "redrawn sampler", "Left third again", "tickets/left_third_again"),
            "editor": editor(kit, castle=TOWARDS_RIGHT, tree=LEFT_THIRD),
            "best": Node(
                "PickBestNoise",
                {"layer": kit.layer, "candidates": 12, **how},
                {**MODEL, "regions": ("editor", 0), "noise": ("redraw", 0), **same},
                (360, 1080),
            ),
            "best sampler": drawn("best"),
            **picture("best", "best sampler", "Best of 12", "tickets/left_third_best"),
        },
        (
            (Group("Model, prompts and size", BLUE, ("model", "prompt", "negative", "latent")),),
            (
                Group("The run", BLUE, ("noise", "sampler", "sigmas", "guider")),
                Group("1. A picture", GREY, ("plain sampler", "plain image", "plain saved")),
            ),
            (
                Group("2. Its left third again", GOLD, ("redraw",)),
                Group("3. What belongs where", GOLD, ("editor",)),
            ),
            (Group("4. The best of 12", GOLD, ("best",)),),
            (
                Group("Left third again", GREEN, ("redrawn sampler", "redrawn image", "redrawn saved")),
                Group("The best of 12", GREEN, ("best sampler", "best image", "best saved")),
            ),
        ),
        0.6,
    )
