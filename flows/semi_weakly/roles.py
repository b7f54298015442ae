"""Roles: the outputs of the recipe, its models in the order in which one would compare them."""

from flows.billion_scale.roles import ROLES as RANKING
from tasks.report import Role

# By the role that they come after.
OWN = {
    "copies": (
        Role("tags", "Classes that the tags teach", "tags"),
        Role("tag_lessons", "The tagged images as a training set", "tagged images"),
        Role(
            "tag_teacher",
            "Teacher before the labels",
            "teacher before the labels",
            training_title="Teacher on the tags",
        ),
    ),
    "baseline": (
        Role(
            "tag_student",
            "Student's network on the tags",
            "student's network on the tags",
            always=False,
        ),
        Role(
            "weakly",
            "Tags and labels, no teacher",
            "network of tags and labels",
            training_title="Student's network, from the tags to the labels",
            always=False,
        ),
    ),
}
ROLES = tuple(role for known in RANKING for role in (known, *OWN.get(known.name, ())))
