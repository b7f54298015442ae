"""Roles: the outputs of the recipe, its models in the order in which one would compare them."""

from tasks.report import Role

ROLES = (
    Role("labelled", "Labelled images", "labelled set"),
    Role("pile", "Unlabelled images", always=False),
    Role("test", "Test images", "test set"),
    Role("copies", "Test images that are copies of labelled ones"),
    Role("labelled_lessons", "The labelled images as a training set", "labelled set"),
    Role("pile_lessons", "The unlabelled images as a training set", "pile"),
    Role(
        "pretrained",
        "Pre-trained network",
        training_title="Contrastive pre-training, without labels",
    ),
    Role("linear", "Linear head on its features", "linear head"),
    Role("baseline", "Baseline, labels only", "baseline"),
    Role("teacher", "Teacher, fine-tuned", "teacher", "Teacher, fine-tuned on the labels"),
    Role("teacher_check", "The teacher's answers on images that it has not learned from"),
    Role(
        "self_distilled",
        "Teacher, self-distilled",
        "self-distilled teacher",
        "Teacher, distilled to itself on the pile",
        always=False,
    ),
    Role("student", "Student, distilled", "student", "Student, distilled on the pile"),
    Role("evaluate", "Measures of the models", "measures"),
)
