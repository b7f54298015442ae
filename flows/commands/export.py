"""The command `export`: a model as files for other software.

protege export billion-scale-1f3a0b2c-000 --out student            ONNX, of the campaign's student
protege export out/train/3f2a... --format hf --out student-hf      for the Hugging Face hub
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.arguments import EXAMPLES, Root
from flows.commands.named_model import ModelName, NamedModel, find_model
from infra.settings import Settings

if TYPE_CHECKING:
    from tasks.export import Origin

app = typer.Typer()


class FormatName(StrEnum):
    """The formats of tasks/export, which are not loaded to print the help."""

    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"
    TIMM = "timm"
    HF = "hf"


@app.command(
    epilog=EXAMPLES + "protege export billion-scale-1f3a0b2c-000 --out student\n  "
    "protege export out/train/3f2a90cc --format hf --out student-hf"
)
def export(
    model: ModelName,
    out: Annotated[str, typer.Option(help="Local folder, new or empty, for the files.")],
    format_name: Annotated[
        FormatName,
        typer.Option("--format", help="ONNX, torch.export, timm, or the Hugging Face hub."),
    ] = FormatName.ONNX,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an earlier export.")] = False,
    root: Root = "",
) -> None:
    """Write a model as files that other software reads without protege.

    The files are read back, compared with the network, and published when both agree.
    """
    from tasks.export import export as export_model
    from tasks.inference.model import open_model

    found = find_model(model, root or Settings().root)
    opened = open_model(found.address)
    exported = export_model(opened, out, format_name, origin=_origin(found), replace=replace)
    for line in exported.lines:
        typer.echo(line)


def _origin(model: NamedModel) -> "Origin":
    """Where the model comes from, with the figures of its campaign."""
    from flows.recipes import recipe
    from tasks.export import Origin

    campaign = model.campaign
    if campaign is None:
        return Origin(model.address)
    known = recipe(campaign.recipe)
    return Origin(
        address=model.address,
        campaign=campaign.id,
        recipe=known.name,
        method=known.about,
        top1=campaign.summary.get(f"{known.result}_top1"),
        test_images=campaign.summary.get("test_images"),
    )
