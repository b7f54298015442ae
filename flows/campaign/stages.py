"""Stages: the one table of what can be run by itself.

In: nothing. Out: `STAGES`, a record for each stage: what it takes, as addresses of outputs, and how
a run calls it. The flows of single stages, their forms and their deployments are made from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flows.campaign.run import Run
from tasks.contract import Output
from tasks.evaluate import EvaluateOptions
from tasks.gather import GatherOptions
from tasks.options import Options
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions
from tasks.tags import TagOptions
from tasks.topk import TopkOptions
from tasks.train import TrainOptions

Given = Mapping[str, Output]  # the inputs that were given, by name


@dataclass(frozen=True)
class Input:
    """An input of a stage: the stages whose outputs it may be, and a sentence of help."""

    name: str
    stages: tuple[str, ...]
    help: str
    optional: bool = False


@dataclass(frozen=True)
class Stage:
    """A stage as somebody runs it by itself. `options` are its default; `help` explains them."""

    name: str
    about: str
    inputs: tuple[Input, ...]
    call: Callable[[Run, Given, Options], Output]
    options: Options | None = None
    help: str = ""


def _shard(run: Run, _given: Given, options: Options) -> Output:
    assert isinstance(options, ShardOptions)
    return run.shard(options=options)


def _train(run: Run, given: Given, options: Options) -> Output:
    assert isinstance(options, TrainOptions)
    return run.train(given["data"], options, init=given.get("init"))


def _score(run: Run, given: Given, options: Options) -> Output:
    assert isinstance(options, ScoreOptions)
    return run.score(given["images"], given["teacher"], options)


def _signature(run: Run, given: Given, _options: Options) -> Output:
    return run.signature(given["images"])


def _topk(run: Run, given: Given, options: Options) -> Output:
    assert isinstance(options, TopkOptions)
    known = ("labelled", "test")
    exclude = {name: given[name] for name in known if name in given}
    known_scores = {name: given[f"{name}_scores"] for name in known if f"{name}_scores" in given}
    return run.topk(given["scores"], options, exclude=exclude, known_scores=known_scores)


def _tags(run: Run, given: Given, options: Options) -> Output:
    assert isinstance(options, TagOptions)
    return run.tags(given["images"], options)


def _gather(run: Run, given: Given, options: Options) -> Output:
    assert isinstance(options, GatherOptions)
    scores = given.get("scores")
    return run.gather(given["images"], given.get("chosen"), options, scores=scores)


def _evaluate(run: Run, given: Given, options: Options) -> Output:
    assert isinstance(options, EvaluateOptions)
    models = {name: given[name] for name in ("model", "baseline") if name in given}
    compare = ("model", "baseline") if "baseline" in models else None
    return run.evaluate(given["test"], models, options, compare=compare)


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "shard",
            "Pin an image source as numbered shards.",
            (),
            _shard,
            ShardOptions(),
            "The source, and how it is read.",
        ),
        Stage(
            "train",
            "Train one network.",
            (
                Input(
                    "data",
                    ("shard", "gather"),
                    "Address of an output of shard, with classes, or of gather.",
                ),
                Input(
                    "init",
                    ("train",),
                    "Address of an output of train to start from; empty starts anew.",
                    optional=True,
                ),
            ),
            _train,
            TrainOptions(),
            "The network, its length and its learning rate.",
        ),
        Stage(
            "score",
            "Let a teacher score every image of every shard.",
            (
                Input("images", ("shard",), "Address of an output of shard."),
                Input("teacher", ("train",), "Address of an output of train."),
            ),
            _score,
            ScoreOptions(),
            "How the teacher scores.",
        ),
        Stage(
            "signature",
            "Make the signatures of images, so that their near-duplicates in a pile are found.",
            (Input("images", ("shard",), "Address of an output of shard."),),
            _signature,
        ),
        Stage(
            "topk",
            "Choose the best images of every class.",
            (
                Input("scores", ("score",), "Address of an output of score."),
                Input(
                    "labelled",
                    ("signature",),
                    "Address of an output of signature whose near-duplicates are dropped; may be "
                    "empty.",
                    optional=True,
                ),
                Input(
                    "test",
                    ("signature",),
                    "The same of the images for testing; may be empty.",
                    optional=True,
                ),
                Input(
                    "labelled_scores",
                    ("score",),
                    "Address of an output of score of the labelled images, for options.drop_crops.",
                    optional=True,
                ),
                Input(
                    "test_scores",
                    ("score",),
                    "The same of the images for testing; may be empty.",
                    optional=True,
                ),
            ),
            _topk,
            TopkOptions(),
            "How many are chosen, and how.",
        ),
        Stage(
            "tags",
            "Say which classes the tags of images teach.",
            (Input("images", ("shard",), "Address of an output of shard, of images with tags."),),
            _tags,
            TagOptions(),
            "Which tag means which class, and how often the images of rare classes are taken.",
        ),
        Stage(
            "gather",
            "Collect the chosen images, or all labelled ones, into a shuffled training set.",
            (
                Input(
                    "images",
                    ("shard",),
                    "Address of the output of shard that they lie in.",
                ),
                Input(
                    "chosen",
                    ("topk", "tags"),
                    "Address of an output of topk or tags; empty takes all images, which must be "
                    "labelled.",
                    optional=True,
                ),
                Input(
                    "scores",
                    ("score",),
                    "Address of an output of score, of which options.pseudo_labels=soft are made.",
                    optional=True,
                ),
            ),
            _gather,
            GatherOptions(),
            "How they become lessons.",
        ),
        Stage(
            "evaluate",
            "Measure a model, and its gain over another.",
            (
                Input("test", ("shard",), "Address of an output of shard, with classes."),
                Input("model", ("train",), "Address of an output of train."),
                Input(
                    "baseline",
                    ("train",),
                    "Address of an output of train to compare with, image by image; may be empty.",
                    optional=True,
                ),
            ),
            _evaluate,
            EvaluateOptions(),
            "What is measured.",
        ),
    )
}
