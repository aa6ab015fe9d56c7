"""The best of several noises, or a better one: fit, candidates, block swap."""
