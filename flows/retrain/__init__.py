"""Retrain: the recipe again over what is new, and the champion."""
