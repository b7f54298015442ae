"""Plan: what a campaign will take, before anything runs, and what is doubtful about it."""

from collections.abc import Iterator
from dataclasses import replace

from flows.simclr_v2.options import SimclrV2
from tasks.estimate import Estimate
from tasks.train.estimate import estimate_training

FEW_STEPS = 200
FEW_NEGATIVES = 128


def plan(
    options: SimclrV2, labelled_images: int, classes: int, pile_images: int | None
) -> Estimate:
    """Every training, in the order in which they run; the images of a pile may not be counted."""
    unlabelled = pile_images if options.pile.source else labelled_images
    labels = options.gather.count_labelled(labelled_images, classes)
    fine_tune = options.pretrain.continued(options.fine_tune)
    estimate = estimate_training("pretrained", options.pretrain, unlabelled, num_views=2)
    estimate += estimate_training("teacher", fine_tune, labels)
    estimate += estimate_distillation(options, unlabelled)
    estimate += estimate_training("baseline", options.baseline_training, labels)
    return replace(estimate, doubts=tuple(_doubts(options, estimate, unlabelled)))


def estimate_distillation(options: SimclrV2, unlabelled: int | None) -> Estimate:
    """The trainings that learn from the teacher, on so many images of the pile."""
    estimate = Estimate()
    if options.self_distillation.length.amount:
        estimate += estimate_training("self_distilled", options.self_distilled, unlabelled)
    return estimate + estimate_training("student", options.student, unlabelled)


def _doubts(options: SimclrV2, estimate: Estimate, unlabelled: int | None) -> Iterator[str]:
    is_known = unlabelled is not None or options.pretrain.length.unit != "epochs"
    for work in estimate.works:
        if is_known and work.role == "pretrained" and work.units < FEW_STEPS:
            yield (
                f"pretrain: {work.units:,} steps without labels teach next to nothing; raise "
                "pretrain.length, or take billion-scale, which needs no such training"
            )
    batch_size = options.pretrain.batch_size
    if batch_size < FEW_NEGATIVES:
        yield (
            f"pretrain.batch_size is {batch_size}: each view is compared with the others of its "
            f"batch alone, and {FEW_NEGATIVES} or more teach it better"
        )
    if unlabelled is not None and batch_size > unlabelled:
        yield (
            f"pretrain.batch_size ({batch_size:,}) is more than the {unlabelled:,} unlabelled "
            "images, so that an image meets itself as another one: lower it"
        )
