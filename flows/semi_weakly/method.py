r"""semi-weakly: billion-scale with a teacher that has learned the pile's tags before the labels.

"Billion-scale semi-supervised learning for image classification" (Yalniz et al. 2019), section 5,
the semi-weakly supervised variant: train a teacher on the tags that people gave to the images of
the pile; give it a new head, and fine-tune it on the labels. From here on tags are ignored: it
ranks the pile, and a student learns as in billion-scale. Beside it, the student's network learns
from the labels alone, and from tags and labels without a teacher, to compare with.

    protege run semi-weakly --set labelled.source=... --set pile.source=... \
        --set tags.table=... --set test.source=...
"""

from collections.abc import Mapping

from flows.billion_scale.method import choose, learn, pin
from flows.campaign.run import Run
from flows.semi_weakly.options import SemiWeakly
from flows.semi_weakly.plan import estimate_tags
from tasks.contract import Output
from tasks.tags import LESSONS


def semi_weakly(run: Run, options: SemiWeakly) -> Mapping[str, Output]:
    """Run the method; returns its models by role."""
    ranking = options.ranking
    images = pin(run, ranking)

    # The teacher learns the tags, then, with a new head, the labels.
    tags = run.tags(images.pile, options.tags)
    num_lessons = tags.body["extra"][LESSONS]
    run.approve(options.approval, "tag_teacher", lambda: estimate_tags(options, num_lessons))
    tag_lessons = run.gather(images.pile, tags, options.gather.sharing, role="tag_lessons")
    tag_teacher = run.train(tag_lessons, options.tag_teacher, role="tag_teacher")
    teacher = run.fine_tune(
        tag_teacher,
        images.labels,
        options.teacher,
        classes=images.classes,
        head="new",
        role="teacher",
    )

    # From here on as without tags.
    chosen = choose(run, ranking, images, teacher)
    models = {"teacher": teacher, **learn(run, ranking, images, chosen)}

    # The same network on tags and labels, without a teacher: what the choice adds to the tags.
    if options.weakly.length.amount:
        tag_student = run.train(tag_lessons, options.tag_student, role="tag_student")
        models["weakly"] = run.fine_tune(
            tag_student,
            images.labels,
            options.teacher,
            classes=images.classes,
            head="new",
            role="weakly",
        )
    compare = ("student", "baseline")
    run.evaluate(images.test, models, options.evaluate, compare=compare, choice=chosen.choice)
    run.report(options.report)
    return models
