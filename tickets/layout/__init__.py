"""From regions to noise: which cells belong to what, which tickets go there."""
