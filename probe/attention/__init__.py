"""Reading cross-attention: layers, tokens, first-step evaluations."""
