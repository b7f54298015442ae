"""single: every stage by itself, for those who want one output and not a campaign.

Inputs are addresses of outputs (`<root>/<stage>/<fingerprint>`, as the log of a run, the report and
`protege show` tell them). An output that is there already is taken, as in a recipe.

    prefect deployment run topk/single --param scores=s3://bucket/out/score/3f2a90cc11d0ab42
"""

from typing import Any

from prefect import flow, get_run_logger

from flows.campaign.run import machines
from flows.engine import stages
from infra.errors import ProtegeError
from tasks.campaigns import find
from tasks.contract import Output, output_at
from tasks.evaluate import EvaluateOptions
from tasks.gather import GatherOptions
from tasks.report import ReportOptions, Story
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions, class_names
from tasks.shard.recheck import recheck_rejects as try_again
from tasks.topk import TopkOptions
from tasks.train import TrainOptions


@flow(name="shard", persist_result=False)
@stages.readable
def shard(options: ShardOptions = ShardOptions(), root: str = "") -> str:
    """Pin an image source as numbered shards.

    Args:
        options: The source, and how it is read.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    with machines(root) as run:
        return stages.shard(run, "shard", options).uri


@flow(name="train", persist_result=False)
@stages.readable
def train(
    data: str = "", options: TrainOptions = TrainOptions(), init: str = "", root: str = ""
) -> str:
    """Train one network.

    Args:
        data: Address of an output of shard, with classes, or of gather.
        options: The network, its length and its learning rate.
        init: Address of an output of train to start from; empty starts anew.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    images = output_at(data, "shard", "gather")
    start = output_at(init, "train") if init else None
    with machines(root) as run:
        return stages.train(run, "train", options, images, _classes(images, start), start).uri


@flow(name="score", persist_result=False)
@stages.readable
def score(
    images: str = "", teacher: str = "", options: ScoreOptions = ScoreOptions(), root: str = ""
) -> str:
    """Let a teacher look at every image of every shard.

    Args:
        images: Address of an output of shard.
        teacher: Address of an output of train.
        options: How the teacher scores.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    pile, model = output_at(images, "shard"), output_at(teacher, "train")
    with machines(root) as run:
        return stages.score(run, "score", options, pile, model).uri


@flow(name="signature", persist_result=False)
@stages.readable
def signature(images: str = "", root: str = "") -> str:
    """Make the signatures of images, so that their copies in a pile are found.

    Args:
        images: Address of an output of shard.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    known = output_at(images, "shard")
    with machines(root) as run:
        return stages.signature(run, "signature", known).uri


@flow(name="topk", persist_result=False)
@stages.readable
def topk(
    scores: str = "",
    labelled: str = "",
    test: str = "",
    options: TopkOptions = TopkOptions(),
    root: str = "",
) -> str:
    """Choose the best images of every class.

    Args:
        scores: Address of an output of score.
        labelled: Address of an output of signature whose copies are left out; may be empty.
        test: The same of the images for testing.
        options: How many are chosen, and how.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    found = output_at(scores, "score")
    addresses = {"labelled": labelled, "test": test}
    known = {role: output_at(place, "signature") for role, place in addresses.items() if place}
    with machines(root) as run:
        return stages.topk(run, "topk", options, found, known).uri


@flow(name="gather", persist_result=False)
@stages.readable
def gather(
    images: str = "", chosen: str = "", options: GatherOptions = GatherOptions(), root: str = ""
) -> str:
    """Collect the chosen images into training shards.

    Args:
        images: Address of the output of shard that they were chosen from.
        chosen: Address of an output of topk.
        options: How they become lessons.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    pile, found = output_at(images, "shard"), output_at(chosen, "topk")
    with machines(root) as run:
        return stages.gather(run, "gather", options, pile, found).uri


@flow(name="evaluate", persist_result=False)
@stages.readable
def evaluate(
    test: str = "",
    student: str = "",
    baseline: str = "",
    options: EvaluateOptions = EvaluateOptions(),
    root: str = "",
) -> str:
    """Measure a model, and its gain over another.

    Args:
        test: Address of an output of shard, with classes.
        student: Address of an output of train.
        baseline: Address of an output of train to compare with, image by image; may be empty.
        options: What is measured.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    images = output_at(test, "shard")
    models = {"student": output_at(student, "train")}
    if baseline:
        models["baseline"] = output_at(baseline, "train")
    with machines(root) as run:
        compare = ("student", "baseline") if baseline else None
        return stages.evaluate(run, "evaluate", options, images, models, compare, None).uri


@flow(name="report", persist_result=False)
@stages.readable
def report(campaign: str = "", options: ReportOptions = ReportOptions(), root: str = "") -> str:
    """Write the page of a finished campaign anew, with other options.

    Args:
        campaign: Name of the campaign.
        options: How the page looks.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    with machines(root) as run:
        found = find(run.store, campaign)
        if found is None:
            raise ProtegeError(f"{run.store.uri} has no campaign {campaign!r}")
        made = {
            role: Output(**one) for role, one in found.outputs.items() if one["stage"] != "report"
        }
        again = f"protege resume {campaign} --root {run.store.uri}"
        page = stages.report(run, "report", options, Story(found.recipe, campaign, again, made))
        stages.link(page)
        return page.uri


@flow(name="recheck-rejects", persist_result=False)
@stages.readable
def recheck_rejects(images: str = "", root: str = "") -> dict[str, Any]:
    """Look once more at the files that could not be used, and add those that now can.

    Args:
        images: Address of an output of shard.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    with machines(root) as run:
        found = output_at(images, "shard")
        lines = try_again(run.store, found).lines()
        for line in lines:
            get_run_logger().info(line)
        options = ShardOptions.model_validate(found.body["options"])
        return {"images": stages.shard(run, "shard", options).uri, "rechecked": lines}


def _classes(images: Output, init: Output | None) -> list[str]:
    """The classes of a training: those of its start, of its lessons, or of its images."""
    for known in (init, images):
        if known is not None and "classes" in known.body["extra"]:
            classes: list[str] = known.body["extra"]["classes"]
            return classes
    return class_names(images, images)
