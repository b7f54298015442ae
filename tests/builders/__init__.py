"""Builders: data, options and processes that several test files use."""
