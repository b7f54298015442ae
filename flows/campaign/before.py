"""Before: what a run checks before any work.

In: a recipe and its options. Out: nothing, or a ProtegeError: a fault that a listing shows, or a
training that has no chance on this machine.
"""

from flows.campaign.check import check
from flows.campaign.machine import check_machine, needs_look, with_costs
from flows.campaign.options import RecipeOptions
from flows.campaign.survey import pile_size
from flows.recipes import Recipe
from flows.terminal import note

# The memory of a step hardly depends on them; a length in epochs does, and is not looked at.
ROUGH_IMAGES, ROUGH_CLASSES = 10_000, 100


def check_before_work(recipe: Recipe, options: RecipeOptions) -> None:
    """Check the labelled sources, what the options name, and the machine. Raises ProtegeError."""
    sizes = check(recipe, options)
    labelled = sizes.get(recipe.labelled)
    if labelled is None or options.may_be_too_large:
        return
    if labelled.classes is None:
        check_uncounted(recipe, options)
        return
    num_classes = len(labelled.classes)
    estimate = recipe.plan(options, labelled.images, num_classes)
    if needs_look(estimate):
        # Memory first, which is calculated: what cannot run at all need not be measured.
        check_machine(recipe, with_costs(estimate, num_classes, every=False, measure=False))
        # Only the size of the pile says how long a training on what is chosen from it is.
        pile_images = pile_size(check(recipe, options, whole=True), options)
        estimate = recipe.plan(options, labelled.images, num_classes, pile_images)
    for doubt in estimate.doubts:
        note(f"doubtful: {doubt}")
    check_machine(recipe, with_costs(estimate, num_classes, every=False))


def check_uncounted(recipe: Recipe, options: RecipeOptions) -> None:
    """Check the memory alone, where images and classes are not counted. Raises ProtegeError."""
    estimate = recipe.plan(options, ROUGH_IMAGES, ROUGH_CLASSES)
    check_machine(recipe, with_costs(estimate, ROUGH_CLASSES, every=False, measure=False))
