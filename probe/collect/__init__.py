"""Noises x prompts -> a bank, and which layer to collect at."""
