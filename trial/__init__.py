"""Trying noises out: the cases, the verdict on an image, what is kept of it, the figures. No ComfyUI."""
