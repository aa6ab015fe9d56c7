"""Initial noise as ComfyUI has it: NOISE and LATENT, ours and other nodes'."""
