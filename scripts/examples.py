"""The example workflows, each made for a `Kit`: any SD1.x checkpoint, or the demo model."""

from __future__ import annotations

from example_layouts import (
    block_swap,
    collect_and_save_a_bank,
    first_picture,
    masks_to_image,
    regions_to_image,
    try_the_left_third_again,
)
from example_parts import (
    BLUE,
    GOLD,
    GREEN,
    GREY,
    INPUTS,
    MODEL,
    Example,
    Group,
    Kit,
    picture,
    prompts,
    sampler_links,
    sampling,
)
from page_graph import Link, Node


def cutoff_side_by_side(kit: Kit) -> Example:
    how = sampling(kit, "dpmpp_2m", "karras", seed=4)
    empty: Link = ("latent", 0)
    half = {**how, "cutoff": "share of steps", "cutoff.guided": 0.5, "after_cutoff": "conditional"}

    def stitched(first: Link, second: Link) -> Node:
        return Node("ImageStitch", {}, {"image1": first, "image2": second}, (420, 0))

    return Example(
        f"""## The same picture in less time

You get one seed three times: guided in all steps, in half of them, and *adaptive*, until guidance changes \
little. {kit.first} An unguided step runs the model once, not twice. Then lower *guided* in **Guidance \
Cutoff KSampler** until you see the difference.""",
        {
            "model": kit.loader,
            **prompts(width=260),
            "latent": Node("EmptyLatentImage", kit.size, {}, (260, 0)),
            "cutoff": Node(
                "GuidanceCutoff",
                {"cutoff": "adaptive"},
                {"model": ("model", 0)},
                (290, 200),
            ),
            "patched": Node("KSampler", how, sampler_links("cutoff", empty), (290, 330)),
            "report": Node(
                "GuidanceCutoffReport", {}, {"latent": ("patched", 0), "model": ("cutoff", 0)}, (290, 200)
            ),
            "patched image": Node(
                "VAEDecode", {}, {"samples": ("report", 0), "vae": ("model", 2)}, (290, 50), "Decode"
            ),
            "full": Node("KSampler", how, sampler_links("model", empty), (290, 280)),
            "full image": Node(
                "VAEDecode", {}, {"samples": ("full", 0), "vae": ("model", 2)}, (290, 50), "Decode"
            ),
            "half": Node("GuidanceCutoffKSampler", half, sampler_links("model", empty), (290, 500)),
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
        0.61,
    )


def does_it_work_on_my_checkpoint(kit: Kit) -> Example:
    collect = {"categories": "castle\ntree\ncar\ncat", "noises": kit.noises, "seed": 1}
    collect["layer"] = kit.trial_layer
    links: dict[str, Link] = {**MODEL, "bank": ("collect", 0), "vae": ("model", 2)}
    return Example(
        f"""## Does it work on my checkpoint?

You get one sentence that says which noise puts objects in place here, and a chart. {kit.first} \
{kit.about_trial} A cancelled run resumes. Then replace castle, tree, car and cat with what you want to \
place.""",
        {
            "model": kit.loader,
            "collect": Node("CollectTickets", {**collect, **kit.size}, MODEL, (360, 600)),
            "trial": Node("LayoutTrial", {**kit.trial, "cfg": kit.cfg}, links, (760, 1000)),
            "picture": Node(
                "SaveImage",
                {"filename_prefix": "layout_trials/picture"},
                {"images": ("trial", 1)},
                (460, 840),
                "To keep and to show",
            ),
        },
        (
            (Group("Model", BLUE, ("model",)),),
            (Group("1. Collect tickets, once", GOLD, ("collect",)),),
            (Group("2. Try them", GREEN, ("trial",)),),
            (Group("3. What it says", GREEN, ("picture",)),),
        ),
        0.58,
    )


def attention_over_steps(kit: Kit) -> Example:
    how = sampling(kit, seed=5)
    watched: dict[str, Link] = {**sampler_links("watch", ("latent", 0)), "positive": ("watch", 1)}
    return Example(
        f"""## When the words act, and how long guidance matters

You get maps of where the model looks for each phrase, step by step, and a picture guided only as long as \
it matters. {kit.first} Write the prompt and its phrases in **Attention over Steps**. Then use the suggested \
share elsewhere.""",
        {
            "model": kit.loader,
            "watch": Node(
                "AttentionOverSteps",
                {"prompt": "a castle and a tree", "phrases": "castle\ntree"},
                MODEL,
                (340, 320),
            ),
            "negative": prompts()["negative"],
            "latent": Node("EmptyLatentImage", kit.size, {}, (340, 0)),
            "watched": Node("KSampler", how, watched, (320, 280), "Watched, guided in all steps"),
            "watched image": Node(
                "VAEDecode", {}, {"samples": ("watched", 0), "vae": ("model", 2)}, (320, 50), "Decode"
            ),
            "report": Node(
                "AttentionOverStepsReport",
                {},
                {"latent": ("watched", 0), "model": ("watch", 0), "image": ("watched image", 0)},
                (560, 560),
            ),
            "suggested": Node("SuggestGuidanceCutoff", {}, {"watched": ("report", 5)}, (560, 400)),
            "sampler": Node(
                "GuidanceCutoffKSampler",
                how,
                {
                    **sampler_links("model", ("latent", 0)),
                    "positive": ("watch", 1),
                    "cutoff.guided": ("suggested", 0),
                },
                (320, 500),
            ),
            **picture("cut", "sampler", "Guided as suggested", "tickets/suggested"),
            "watched saved": Node(
                "SaveImage",
                {"filename_prefix": "tickets/watched"},
                {"images": ("watched image", 0)},
                (320, 280),
                "Guided in all steps",
            ),
        },
        (
            (Group("Model and prompts", BLUE, ("model", "watch", "negative", "latent")),),
            (Group("1. Draw, and watch", GOLD, ("watched", "watched image", "watched saved")),),
            (Group("2. See", GOLD, ("report",)), Group("3. How long guidance matters", GOLD, ("suggested",))),
            (Group("4. Guide so long", GREEN, ("sampler", "cut image", "cut saved")),),
        ),
        0.62,
    )


def swap_end_tokens(kit: Kit) -> Example:
    def swapped(words: str, ends: str) -> Node:
        values = {"prompt": words, "end_prompt": ends}
        return Node("SwapEndTokens", values, {"clip": ("model", 1)}, (340, 420))

    def drawn(positive: Link) -> Node:
        links: dict[str, Link] = {**sampler_links("model", ("latent", 0)), "positive": positive}
        return Node("KSampler", sampling(kit, seed=12), links, (300, 280))

    nodes = {
        "model": kit.loader,
        **prompts("a castle"),
        "latent": Node("EmptyLatentImage", kit.size, {}, (340, 0)),
        "castle ends": swapped("a tree", "a castle"),
        "tree ends": swapped("a castle", "a tree"),
        "plain sampler": drawn(("prompt", 0)),
        **picture("plain", "plain sampler", "a castle", "tickets/castle"),
        "tree sampler": drawn(("tree ends", 0)),
        **picture("tree", "tree sampler", "Words a castle, end tokens a tree", "tickets/castle_tree"),
        "castle sampler": drawn(("castle ends", 0)),
        **picture("castle", "castle sampler", "Words a tree, end tokens a castle", "tickets/tree_castle"),
    }
    return Example(
        f"""## What the end of a prompt carries

You get a castle, then each prompt's words with the other's end tokens. {kit.first} Write both in **Swap End \
Tokens**. Which does the picture follow? In the paper, on Stable Diffusion, mostly the end tokens; the small \
demo model follows the words.""",
        nodes,
        (
            (INPUTS, Group("Size", BLUE, ("latent",))),
            (Group("Words of one, end of the other", GOLD, ("tree ends", "castle ends")),),
            (Group("A castle", GREY, ("plain sampler", "plain image", "plain saved")),),
            (Group("Words castle, end tree", GREEN, ("tree sampler", "tree image", "tree saved")),),
            (Group("Words tree, end castle", GREEN, ("castle sampler", "castle image", "castle saved")),),
        ),
        0.62,
    )


EXAMPLES = {
    make.__name__: make
    for make in (
        first_picture,
        collect_and_save_a_bank,
        regions_to_image,
        masks_to_image,
        block_swap,
        try_the_left_third_again,
        does_it_work_on_my_checkpoint,
        cutoff_side_by_side,
        attention_over_steps,
        swap_end_tokens,
    )
}
