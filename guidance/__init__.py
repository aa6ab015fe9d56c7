"""The second paper in plain torch (Yi et al. 2024): when guidance ends, what a run did. No ComfyUI."""
