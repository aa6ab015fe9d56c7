"""What a prompt's [EOS] tokens carry, changed: the context's end tokens replaced (Yi et al. 2024, section 5).

A text encoder of CLIP reads a prompt in chunks of 77 tokens: start, the words, [EOS], padding. It is
causal: [EOS] and the padding behind it have seen all words of their chunk, the words only those before
them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

CHUNK = 77


def replace_end(
    context: torch.Tensor,
    starts: Sequence[int],
    end: torch.Tensor | None,
    end_starts: Sequence[int] = (),
    amount: float = 1.0,
) -> torch.Tensor:
    """A context [1, 77 * chunks, width] whose end tokens are another's, in their order.

    starts: where [EOS] stands in each chunk. end: the other context [1, 77 * chunks, width], with its own
    end_starts; None: zeros. A chunk takes those of the other's chunk of the same number, or of its last
    one; where the other has fewer end tokens, its last is repeated. amount: 0 leaves the context, 1
    replaces, between blends.
    """
    result = context.clone()
    for number, start in enumerate(starts):
        mine = slice(number * CHUNK + start, (number + 1) * CHUNK)
        wanted = torch.zeros_like(context[:, mine])
        if end is not None:
            other = min(number, len(end_starts) - 1)
            theirs = end[:, other * CHUNK + end_starts[other] : (other + 1) * CHUNK]
            index = torch.arange(wanted.shape[1]).clamp(max=theirs.shape[1] - 1)
            wanted = theirs[:, index].to(context)
        result[:, mine] = wanted if amount == 1 else torch.lerp(context[:, mine], wanted, amount)
    return result
