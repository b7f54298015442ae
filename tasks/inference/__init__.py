"""Inference: a finished model, from its file to its answers."""
