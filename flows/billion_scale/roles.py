"""Roles: the outputs of the recipe, its models in the order in which one would compare them."""

from tasks.report import Role

ROLES = (
    Role("labelled", "Labelled images", "labelled set"),
    Role("pile", "Unlabelled images"),
    Role("test", "Test images", "test set"),
    Role("copies", "Test images that are copies of labelled ones"),
    Role("labelled_lessons", "The labelled images as a training set", "labelled set"),
    Role("score", "The teacher's scores of the pile", "scores"),
    Role("topk", "Images chosen for each class", "choice"),
    Role("member_{n}", "Member {n} of the committee", "member {n} of the committee", always=False),
    Role("agreement", "What a committee says of the choice", "agreement", always=False),
    Role("gather", "The chosen images as a training set", "training set"),
    Role("teacher", "Teacher"),
    Role("teacher_check", "The teacher's answers on images that it has not learned from"),
    Role("supervised", "Baseline before fine-tuning", "baseline before fine-tuning"),
    Role("baseline", "Baseline, labels only", training_title="Baseline, fine-tuned on the labels"),
    Role(
        "pretrained",
        "Student before fine-tuning",
        "student before fine-tuning",
        training_title="Student on the chosen images",
    ),
    Role(
        "student", "Student after fine-tuning", training_title="Student, fine-tuned on the labels"
    ),
    Role("evaluate", "Measures of the models and of the choice", "measures"),
)
