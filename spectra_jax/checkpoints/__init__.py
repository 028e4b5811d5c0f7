"""Checkpoints: found by the name of a model, read, written, and loaded into a network."""
