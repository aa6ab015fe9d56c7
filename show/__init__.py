"""Pictures and charts, float32 images [height, width, 3] in 0..1. Never imports ComfyUI."""
