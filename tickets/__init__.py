"""The method in plain torch: noise, scores, banks, regions, selection. Never imports ComfyUI."""

VERSION = "0.1.0"
