"""A prompt's EOS and padding in the context, replaced by those of another (Yi et al. 2024, section 5).

A text encoder of CLIP reads a prompt in chunks, usually of 77 tokens: BOS, the words, EOS, padding. It is
causal: EOS and the padding behind it have seen all words of their chunk, the words only those before them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

Span = tuple[int, int]


def replace_eos(
    context: torch.Tensor,
    spans: Sequence[Span],
    other: torch.Tensor | None,
    other_spans: Sequence[Span] = (),
    amount: float = 1.0,
) -> torch.Tensor:
    """A context [1, tokens, width] whose EOS and padding are another's, in their order.

    spans: for each chunk the position of its EOS and where the chunk stops. other: the other context, with
    spans of its own; None: zeros. A chunk takes those of the other's chunk of the same number, or of its last
    one; where the other has fewer, its last token is repeated. amount: 0 leaves the context, 1 replaces,
    between blends.
    """
    result = context.clone()
    for number, (eos, stop) in enumerate(spans):
        wanted = torch.zeros_like(context[:, eos:stop])
        if other is not None:
            first, end = other_spans[min(number, len(other_spans) - 1)]
            index = torch.arange(first, first + stop - eos).clamp(max=end - 1)
            wanted = other[:, index].to(context)
        result[:, eos:stop] = wanted if amount == 1 else torch.lerp(context[:, eos:stop], wanted, amount)
    return result
