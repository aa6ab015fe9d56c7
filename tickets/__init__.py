"""The first paper in plain torch (Mao et al. 2024): noise, scores, banks, layouts. Never imports ComfyUI."""

VERSION = "1.0.0"
