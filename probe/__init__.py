"""Where the method meets ComfyUI: the only package that touches ModelPatcher, samplers and CLIP."""
