"""Roles: the models of the recipe, in the order in which one would compare them."""

from tasks.report import Role

MODELS = (
    Role("teacher", "Teacher"),
    Role("baseline", "Baseline, labels only", "Baseline"),
    Role("pretrained", "Student before fine-tuning", "Student on the chosen images"),
    Role("student", "Student after fine-tuning", "Student, fine-tuned on the labels"),
)
