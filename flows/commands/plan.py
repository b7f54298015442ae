"""The command `plan`: what a campaign will take, before anything runs.

protege plan billion-scale --config mine.yaml      sizes, steps, memory, time, and what is doubtful
protege plan billion-scale --yaml > mine.yaml      all options, with their help as comments
"""

from collections.abc import Iterator
from typing import Annotated

import typer

from flows.campaign.options import RecipeOptions
from flows.campaign.survey import (
    Sources,
    SourceSize,
    doubts_of,
    pile_size,
    show_bytes,
)
from flows.commands.arguments import (
    EXAMPLES,
    Config,
    Preset,
    RecipeName,
    Root,
    Seed,
    Sets,
    recipe_options,
)
from flows.recipes import Recipe
from flows.recipes import recipe as recipe_of
from infra.settings import Settings
from infra.store import open_store

IMAGENET_IMAGES, IMAGENET_CLASSES = 1_281_167, 1_000

app = typer.Typer()


@app.command(epilog=EXAMPLES + "protege plan billion-scale --preset imagenet-yfcc")
def plan(
    recipe: RecipeName,
    preset: Preset = "",
    config: Config = None,
    sets: Sets = [],  # noqa: B006  typer reads the default once and copies it
    seed: Seed = None,
    root: Root = "",
    images: Annotated[int, typer.Option(help="Labelled images, where they are not counted.")] = 0,
    classes: Annotated[int, typer.Option(help="Classes, where they are not known.")] = 0,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print all options as YAML, with their help.")
    ] = False,
) -> None:
    """Check the options and the sources, and print what they amount to: steps, memory, time."""
    options = recipe_options(recipe, preset, config, sets, seed)
    if as_yaml:
        from flows.commands.yaml_help import options_yaml

        typer.echo(options_yaml(options), nl=False)
        return
    for line in _lines(recipe_of(recipe), options, root, images, classes):
        typer.echo(line)


def _lines(
    recipe: Recipe, options: RecipeOptions, root: str, images: int, classes: int
) -> Iterator[str]:
    """What was found, what it will take, and what is doubtful. Raises ProtegeError like `run`."""
    from flows.campaign.before import check_uncounted
    from flows.campaign.check import check
    from flows.campaign.find import sources_of
    from flows.campaign.machine import check_machine, lines_of, with_costs
    from flows.campaign.workers import check_workers, worker_lines

    given = all(source.source for source in sources_of(options).values())
    sizes = check(recipe, Sources(options), whole=True) if given else {}
    for role, size in sizes.items():
        yield f"{role}: {size}"
    yield from (f"doubtful: {doubt}" for doubt in doubts_of(sizes))
    if not given:
        yield (
            "sources are not given, so nothing is looked at: figures are for "
            f"{images or IMAGENET_IMAGES:,} labelled images of {classes or IMAGENET_CLASSES:,} "
            "classes, as ImageNet has them; set --images and --classes, or the sources"
        )
    labelled = sizes.get(recipe.labelled)
    num_images = images or (labelled.images if labelled else IMAGENET_IMAGES)
    num_classes = classes or (len(labelled.classes or ()) if labelled else IMAGENET_CLASSES)
    if not (num_images and num_classes):
        yield "give --images and --classes: the labelled images lie in files that were not counted"
        if not options.may_be_too_large:
            check_uncounted(recipe, options)
        return
    estimate = recipe.plan(options, num_images, num_classes, pile_size(sizes, options))
    if given:
        estimate = with_costs(estimate, num_classes, every=True)
    yield from lines_of(recipe, estimate, recipe.label_of)
    yield from worker_lines(options, estimate)
    yield from _outputs(sizes, root)
    yield from (f"doubtful: {doubt}" for doubt in estimate.doubts)
    if not options.may_be_too_large:
        check_machine(recipe, estimate)
        check_workers(options, estimate)


def _outputs(sizes: dict[str, SourceSize], root: str) -> Iterator[str]:
    place = open_store(root or Settings().root).uri
    if not sizes:
        yield f"outputs: {place}"
        return
    copied = sum(size.size_bytes for size in sizes.values())
    yield f"outputs: {place}, up to about {show_bytes(2 * copied)}: the images and the lessons"
