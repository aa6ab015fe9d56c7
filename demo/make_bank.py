"""Collects the bank that ships in ticket_banks/ on the demo model.

python demo/make_bank.py --comfyui DIR     (with the Python of that ComfyUI)
"""

from __future__ import annotations

import argparse

import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
start.comfyui(parser.parse_args().comfyui)
start.pack()

import model as model_module
import torch
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.tickets.bank.file import save_bank

PATH = start.ROOT / "ticket_banks" / "demo_model.safetensors"
CATEGORIES = ("castle", "tree", "sun", "car", "flower", "fish")

if __name__ == "__main__":
    with torch.inference_mode():
        model, clip, _ = model_module.load()
        bank = collect(model, clip, CollectRequest(CATEGORIES, 40, 0, 256, 256, "input 3"))
        save_bank(bank, PATH, half=True)
    print(f"{PATH} ({PATH.stat().st_size / 1e6:.1f} MB): {bank.describe()}")
