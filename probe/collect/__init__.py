"""Noises x prompts -> a bank."""
