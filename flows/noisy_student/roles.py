"""Roles: the outputs of the recipe, its models in the order in which one would compare them.

A name with `{n}` is that of an output of each generation.
"""

from tasks.report import Role

ROLES = (
    Role("labelled", "Labelled images", "labelled set"),
    Role("pile", "Unlabelled images"),
    Role("test", "Test images", "test set"),
    Role("audit", "Held-out images", "held-out set", always=False),
    Role("copies", "Test images that are copies of labelled ones"),
    Role("labelled_lessons", "The labelled images as a training set", "labelled set"),
    Role("supervised", "Baseline at the size of its training", "baseline before fine-tuning"),
    Role("baseline", "Baseline, labels only", "baseline", "Baseline, fine-tuned at its last size"),
    Role("teacher", "Teacher", "teacher", "First teacher, on the labels"),
    Role("teacher_check", "The teacher's answers on images that it has not learned from"),
    Role("filter", "Filter", always=False),
    Role("filter_score", "The filter's scores of the pile", "scores of the filter", always=False),
    Role("score_{n}", "The teacher's scores, generation {n}", "scores of generation {n}"),
    Role("topk_{n}", "Images kept, generation {n}", "choice of generation {n}"),
    Role("member_{n}", "Member {n} of the committee", "member {n} of the committee", always=False),
    Role(
        "agreement_{n}",
        "What the committee says of the choice, generation {n}",
        "agreement of generation {n}",
        always=False,
    ),
    Role("gather_{n}", "Pseudo-labelled images, generation {n}", "training set {n}"),
    Role("student_{n}", "Student of generation {n}", "student of generation {n}"),
    Role("evaluate_{n}", "Measures of generation {n}"),
    Role("audit_{n}", "Generation {n} on held-out images"),
    Role("student", "Student", "student", "Student, fine-tuned at its last size"),
    Role("evaluate", "Measures of the models", "measures"),
)
