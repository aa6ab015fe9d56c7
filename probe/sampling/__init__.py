"""Runs of a sampler: guidance cut off, attention watched."""
