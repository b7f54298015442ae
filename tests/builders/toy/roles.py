"""Roles of the recipe `toy`."""

from tasks.report import Role

ROLES = (
    Role("images", "Images"),
    Role("images_lessons", "Images, shuffled"),
    Role("teacher", "Teacher"),
    Role("student", "Student"),
    Role("score", "Scores"),
)
