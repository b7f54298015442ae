"""Before: what a run checks before any work.

In: a recipe and its options. Out: listings, or a ProtegeError: a fault that a listing shows, or a
training that has no chance on this machine.
"""

from collections.abc import Mapping

from flows.campaign.check import check
from flows.campaign.machine import check_machine, needs_look, with_costs
from flows.campaign.options import RecipeOptions
from flows.campaign.survey import Sources, SourceSize, doubts_of, pile_size
from flows.campaign.workers import check_workers
from flows.recipes import Recipe
from flows.terminal import note
from tasks.shard.sources import Listing

# The memory of a step hardly depends on them; a length in epochs does, and is not looked at.
ROUGH_IMAGES, ROUGH_CLASSES = 10_000, 100


def check_before_work(recipe: Recipe, options: RecipeOptions) -> Mapping[str, Listing]:
    """Check the labelled sources, what the options name, and the machine. Raises ProtegeError.

    Returns the listings that it made, so that pinning need not list again.
    """
    sources = Sources(options)
    labelled = check(recipe, sources).get(recipe.labelled)
    if labelled is not None and not options.may_be_too_large:
        _check_trainings(recipe, sources, labelled)
    for doubt in doubts_of(sources.counted):
        note(f"doubtful: {doubt}")
    return sources.listings


def _check_trainings(recipe: Recipe, sources: Sources, labelled: SourceSize) -> None:
    options = sources.options
    if labelled.classes is None:
        check_uncounted(recipe, options)
        return
    num_classes = len(labelled.classes)
    estimate = recipe.plan(options, labelled.images, num_classes)
    if needs_look(estimate):
        # Memory first, which is calculated: what cannot run at all need not be measured.
        check_machine(recipe, with_costs(estimate, num_classes, every=False, measure=False))
        # Only the size of the pile says how long a training on what is chosen from it is.
        pile_images = pile_size(sources.sizes(whole=True), options)
        estimate = recipe.plan(options, labelled.images, num_classes, pile_images)
    for doubt in estimate.doubts:
        note(f"doubtful: {doubt}")
    costed = with_costs(estimate, num_classes, every=False)
    check_machine(recipe, costed)
    check_workers(options, costed)


def check_uncounted(recipe: Recipe, options: RecipeOptions) -> None:
    """Check the memory alone, where images and classes are not counted. Raises ProtegeError."""
    estimate = recipe.plan(options, ROUGH_IMAGES, ROUGH_CLASSES)
    check_machine(recipe, with_costs(estimate, ROUGH_CLASSES, every=False, measure=False))
