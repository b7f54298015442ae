"""Run: the verbs of a recipe. Each one runs a stage and returns the reference to its output.

In: a root, the machines, and, for a recipe, its campaign. Out: outputs. Arguments come in one
order: inputs, options (an object, or its fields as keywords), and the rest by keyword.

    run = Run(open_store("out"), Inline())
    teacher = run.train(run.shard("labelled/", labelled=True), model="resnet18")

Here the stages are called as they are. The engine's run makes a Prefect task of each call.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from flows.campaign.image_run import ImageRun, options_of
from flows.campaign.options import ApprovalOptions
from infra.devices import gpu_count
from tasks import tables
from tasks.agreement import CommitteeOptions, agreement
from tasks.contract import OnProgress, Output
from tasks.evaluate import (
    Choice,
    EvaluateOptions,
    PredictOptions,
    check_better_than_chance,
    evaluate,
    predict,
)
from tasks.inference.release import release_models
from tasks.options import Length
from tasks.report import ReportOptions, Story, report
from tasks.score import ScoreOptions, score
from tasks.topk import TopkOptions, describe_dropped, topk
from tasks.train import ObjectiveOptions, SupervisedOptions, Training, TrainOptions, train
from tasks.train.job import InitHead

logger = logging.getLogger(__name__)

LISTED_CLASSES = 10


class Run(ImageRun):
    """The verbs."""

    _preloaded = False

    def train(
        self,
        data: Output,
        options: TrainOptions | None = None,
        *,
        classes: Sequence[str] | None = None,
        init: Output | None = None,
        init_head: InitHead = "keep",
        objective: ObjectiveOptions | None = None,
        objective_inputs: Mapping[str, Output] = {},
        role: str = "train",
        **fields: Any,
    ) -> Output:
        """Train a network on lessons, or on labelled images, which are gathered first.

        `objective` is what it is trained to do, without one to tell the classes apart, and
        `objective_inputs` are the data sets and models that this draws from beside `data`.
        """
        chosen = options_of(TrainOptions, options, fields)
        lessons = self.gather(data, classes=classes) if data.stage == "shard" else data
        self._preload()
        if gpu_count():
            # The workers hold the networks that they have looked at images with.
            self.executor.everywhere(release_models)
        work = partial(
            train,
            self.store,
            lessons,
            chosen,
            classes=classes,
            init=init,
            init_head=init_head,
            objective=objective or SupervisedOptions(),
            objective_inputs=objective_inputs,
        )
        return self._run_stage("train", role, work)

    def fine_tune(
        self,
        model: Output,
        data: Output,
        training: Training | None = None,
        *,
        classes: Sequence[str] | None = None,
        head: InitHead = "keep",
        from_projection: bool = False,
        size: int = 0,
        role: str = "fine_tune",
        **fields: Any,
    ) -> Output:
        """Go on with the network of a model, on other data.

        Other classes need a new `head`. `from_projection` goes on behind the first layer of the
        projection head that contrastive training leaves; `size` is another side of the images.
        """
        chosen = options_of(Training, training, fields)
        options = TrainOptions.model_validate(model.options)
        options = options.continued(chosen, from_projection=from_projection, size=size)
        return self.train(data, options, classes=classes, init=model, init_head=head, role=role)

    def fit_head(
        self,
        model: Output,
        data: Output,
        *,
        classes: Sequence[str] | None = None,
        role: str = "linear",
    ) -> Output:
        """Fit a linear head to the frozen features of a model: linear evaluation."""
        nothing = Training(length=Length(amount=0, unit="steps"))
        return self.fine_tune(model, data, nothing, classes=classes, head="linear", role=role)

    def score(
        self,
        images: Output,
        teacher: Output | Sequence[Output],
        options: ScoreOptions | None = None,
        *,
        role: str = "score",
        **fields: Any,
    ) -> Output:
        """Let the teacher score every image, or several teachers, whose logits are averaged."""
        chosen = options_of(ScoreOptions, options, fields)
        work = partial(score, self.store, images, teacher, chosen, executor=self.executor)
        return self._run_stage("score", role, work)

    def check_teacher(
        self,
        teacher: Output,
        images: Output,
        options: ApprovalOptions,
        *,
        batch_size: int,
        role: str = "teacher_check",
    ) -> Output:
        """Ask the teacher about labelled images. Raises ProtegeError when it only guesses.

        The images should be those that it has not learned from.
        """
        predict_options = PredictOptions(batch_size=batch_size)

        def work(on_progress: OnProgress) -> Output:
            answers = predict(
                self.store,
                teacher,
                images,
                predict_options,
                executor=self.executor,
                on_progress=on_progress,
            )
            stop = options.teacher_at_chance == "stop"
            check_better_than_chance(answers, "teacher", stop=stop)
            return answers

        return self._run_stage("predictions", role, work)

    def topk(
        self,
        scores: Output,
        options: TopkOptions | None = None,
        *,
        exclude: Mapping[str, Output] | None = None,
        known_scores: Mapping[str, Output] = {},
        role: str = "topk",
        **fields: Any,
    ) -> Output:
        """Choose the best images of every class.

        `exclude` are images, or their signatures, whose near-duplicates may not be chosen, and
        `known_scores` scores of these by the same teacher, where crops of them may not either.
        """
        chosen = options_of(TopkOptions, options, fields)
        signatures = {}
        if chosen.drop_near_duplicates:
            signatures = {name: self.signed(name, out) for name, out in (exclude or {}).items()}

        def work(on_progress: OnProgress) -> Output:
            output = topk(
                self.store,
                scores,
                chosen,
                exclude=signatures,
                known_scores=known_scores,
                executor=self.executor,
                on_progress=on_progress,
            )
            _log_classes(output, chosen)
            return output

        return self._run_stage("topk", role, work)

    def agreement(
        self,
        images: Output,
        chosen: Output,
        members: Mapping[str, Output],
        options: CommitteeOptions | None = None,
        *,
        role: str = "agreement",
        **fields: Any,
    ) -> Output:
        """Let the members of a committee say how right the choice of each class is."""
        asked = options_of(CommitteeOptions, options, fields)
        work = partial(agreement, self.store, images, chosen, members, asked)
        return self._run_stage("agreement", role, work)

    def evaluate(
        self,
        test: Output | Mapping[str, Output],
        models: Mapping[str, Output],
        options: EvaluateOptions | None = None,
        *,
        compare: tuple[str, str] | None = None,
        choice: Choice | None = None,
        role: str = "evaluate",
        **fields: Any,
    ) -> Output:
        """Measure models on one or several test sets, and the choice that they learned from.

        `compare` names two of the models: the gain is that of the first over the second.
        """
        chosen = options_of(EvaluateOptions, options, fields)
        work = partial(
            evaluate,
            self.store,
            test,
            models,
            chosen,
            compare=compare,
            choice=choice,
            executor=self.executor,
        )
        return self._run_stage("evaluate", role, work)

    def report(
        self, options: ReportOptions | None = None, *, story: Story | None = None, **fields: Any
    ) -> Output:
        """Write the page of this run's campaign, or the page of another story."""
        # Imported here: the story is made of the figures, which know what a run is.
        from flows.campaign.summary import story_of

        chosen = options_of(ReportOptions, options, fields)
        page_story = story or story_of(self.store, self.campaign)
        return self._run_stage("report", "report", partial(report, self.store, page_story, chosen))

    def _preload(self) -> None:
        """Load what comes after a training while it runs, for then this process only waits."""
        if not self._preloaded:
            self._preloaded = True
            self.executor.on_gpus().preload("tasks.inference.model")
            page = "tasks.report.page"
            threading.Thread(
                target=import_module, args=(page,), name="preload", daemon=True
            ).start()


def _log_classes(chosen: Output, options: TopkOptions) -> None:
    """Say what was dropped, and which classes are short."""
    rows = chosen.table(tables.table_name(tables.CLASSES)).to_pylist()
    for line in describe_dropped(rows):
        logger.info(line)
    short = [row for row in rows if row["kept"] < options.k and not options.rules.across_classes]
    if short:
        names = ", ".join(f"{row['name']} ({row['kept']})" for row in short[:LISTED_CLASSES])
        logger.warning("%s classes have fewer than %s images: %s", len(short), options.k, names)
