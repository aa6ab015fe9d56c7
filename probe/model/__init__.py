"""The MODEL: its identity, its memory, what a part of its forward costs."""
