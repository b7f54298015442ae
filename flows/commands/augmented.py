"""The command augmented: images beside what a training makes of them.

protege augmented protege-output/train/3f2a...                            as that training saw them
protege augmented protege-output/gather/5f0c... --set augment.colour=1    before any training
"""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.arguments import EXAMPLES
from infra.errors import ProtegeError

app = typer.Typer()


@app.command(
    epilog=EXAMPLES + "protege augmented protege-output/gather/5f0c... --set augment.colour=1"
)
def augmented(
    address: Annotated[
        str, typer.Argument(help="Address of an output of train, or of gather (lessons).")
    ],
    sets: Annotated[
        list[str],
        typer.Option("--set", help="field=value of a training, as augment.colour=1; may be many."),
    ] = [],  # noqa: B006  # typer reads it and never changes it
    file: Annotated[Path, typer.Option(help="The page to write.")] = Path("augmented.html"),
    images: Annotated[int, typer.Option(min=1, max=100, help="Images to show.")] = 8,
    versions: Annotated[int, typer.Option(min=1, max=100, help="Versions of each.")] = 6,
) -> None:
    """Write a page of images with their random changes, made as a training makes them.

    The options are those of the training at the address; of lessons alone, the defaults.
    """
    from flows.commands.config import set_options
    from flows.commands.describe import readable
    from tasks.augmented_page import augmented_html
    from tasks.contract import output_at
    from tasks.train import TrainOptions

    with readable(address):
        output = lessons = output_at(address, "train", "gather")
        options = TrainOptions()
        if output.stage == "train":
            options = TrainOptions.model_validate(output.options)
            link = output.body["inputs"]["data"]
            lessons = output_at(f"{output.root.uri}/{link['manifest']}", "gather")
    options = set_options(TrainOptions, options, sets)
    with readable(lessons.uri):
        page = augmented_html(lessons, options, num_images=images, num_versions=versions)
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ProtegeError(f"{file} cannot be written: {error.strerror}") from None
    typer.echo(file)
