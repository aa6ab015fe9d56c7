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
        (360, 840),
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
*models/ticket_banks/collecting.safetensors* while it runs: cancel, and the next run resumes from there. \
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
        f"""## Draw where to place things

{kit.about} {kit.about_bank} Drag the boxes in **Ticket Regions**, or draw others; change the prompt \
accordingly and run. **Ticket Latent from Regions** builds the noise, and shows the cells of each region, \
how well they fit, and the noise.""",
        {
            "model": kit.loader,
            "bank": Node("LoadTicketBank", {"name": kit.bank}, {}, (340, 150)),
            "editor": editor(kit, sun=TOP_LEFT, car=BOTTOM_RIGHT),
            "layout": Node(
                "TicketLatentFromRegions",
                {"seed": 7},
                {"bank": ("bank", 0), "regions": ("editor", 0), **MODEL},
                (360, 840),
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
                {"seed": 7},
                {"bank": ("bank", 0), "regions": ("second", 0), **MODEL},
                (360, 840),
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
        900,
        0.62,
    )


def block_swap(kit: Kit) -> Example:
    arranged = Node(
        "ArrangeNoiseByRegions",
        {"seed": 7, "layer": kit.layer},
        {**MODEL, "regions": ("editor", 0)},
        (360, 760),
    )
    return Example(
        f"""## No bank at all: a seed's own noise, rearranged

{kit.about} **Arrange Noise by Regions** looks at the noise of the seed and exchanges blocks of it, until \
those that lean towards a castle lie in the castle's box. Nothing is collected, and the noise stays \
exactly Gaussian, as **Noise Report** shows. The plain KSampler draws from the same seed's noise as it \
was.""",
        {
            "model": kit.loader,
            "editor": editor(kit, castle=RIGHT, tree=LEFT),
            "arranged": arranged,
            **prompts(),
            "sampler": with_noise(kit, "arranged"),
            **picture("arranged", "sampler", "Rearranged", "tickets/block_swap"),
            "plain sampler": plain(kit, ("arranged", 2)),
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
        920,
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
        f"""## Keep this picture, but try the left third again

{kit.about} The picture of one seed, then twice the same with another left third. **Redraw Noise in Region** \
redraws that part of the noise and keeps the rest, so that the picture stays closer to what it was than with \
another seed; another seed there is another try.

**Pick Best Noise** makes 12 such tries. It looks at the first step of each; the third of them that fits the \
boxes best takes the first steps of the run and is looked at again. For these to be the run's own, its \
sampler, sigmas and both prompts are connected. Together this costs about as much as one more picture.""",
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
        930,
        0.6,
    )
