"""WHAT: one plain-Python module for each stage, and the tables that they hand over."""
