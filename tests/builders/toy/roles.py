"""Roles of the recipe `toy`."""

from tasks.report import Role

MODELS = (Role("teacher", "Teacher"), Role("student", "Student"))
