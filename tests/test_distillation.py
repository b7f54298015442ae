"""Distillation: the teacher's answer to the same pixels, its temperature, and which it may be."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from infra.errors import ProtegeError
from infra.settings import Processes
from infra.store import Store
from tasks.contract import Output
from tasks.images import Inputs
from tasks.inference.weights import load_network
from tasks.options import Length
from tasks.train import DistillationOptions, train
from tasks.train.augment_options import Augment
from tasks.train.job import HISTORY
from tasks.train.objectives import Distillation, TensorBatch, make_objective
from tasks.train.options import TrainOptions
from tests.builders.batches import FirstPixels, batch_of
from tests.builders.trainings import ONE, SMALL, job

ONE_PROCESS = Processes(count=1, threads=1)
PLAIN = Inputs(size=16, resize=16, pixels="unit")
OPTIONS = TrainOptions(inputs=PLAIN, label_smoothing=0.2)
SHORT = SMALL.model_copy(update={"length": Length(amount=2, unit="steps")})
LOGITS_BC = torch.tensor([[0.1, 0.9, 0.2], [0.5, 0.4, 0.8]])


class Reversed(FirstPixels):
    """A teacher that thinks the opposite, and says whether it was asked rightly."""

    seen: ClassVar[list[Tensor]] = []

    def forward(self, images_BCHW: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.seen.append(images_BCHW)
        return 2 * super().forward(images_BCHW).flip(1)


def loss_of(
    chosen: DistillationOptions, batch: TensorBatch, options: TrainOptions = OPTIONS
) -> tuple[float, dict[str, float]]:
    objective = Distillation(options, 3, chosen, Reversed(), PLAIN)
    loss, measurements = objective.loss(FirstPixels(), {"train": batch})
    return float(loss), {name: float(value) for name, value in measurements.items()}


@pytest.mark.parametrize("tau_squared", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0])
def test_loss_is_a_mean_of_the_classes_and_the_teacher(alpha: float, tau_squared: bool) -> None:
    tau = 0.5
    chosen = DistillationOptions(temperature=tau, alpha=alpha, tau_squared=tau_squared)
    loss, measured = loss_of(chosen, batch_of(LOGITS_BC, [(0, 1, 1.0), (1, 0, 1.0)]))
    teacher_BC = (2 * LOGITS_BC.flip(1) / tau).softmax(1)
    taught = -(teacher_BC * (LOGITS_BC / tau).log_softmax(1)).sum(1).mean()
    taught = taught * (tau**2 if tau_squared else 1)
    smooth_BC = torch.tensor([[0, 1, 0], [1, 0, 0]]) * 0.8 + 0.2 / 3
    labelled = -(smooth_BC * LOGITS_BC.log_softmax(1)).sum(1).mean()
    assert loss == pytest.approx(float((1 - alpha) * labelled + alpha * taught), rel=1e-5)
    assert measured["distillation"] == pytest.approx(float(taught), rel=1e-5)
    assert measured["cross_entropy"] == pytest.approx(float(labelled), rel=1e-5)
    assert measured["agreement"] == 0.5, "both think that the first image is of the middle class"


def test_teacher_alone_needs_no_classes() -> None:
    with_classes, _ = loss_of(DistillationOptions(), batch_of(LOGITS_BC, [(0, 1, 1.0)]))
    without, _ = loss_of(DistillationOptions(), batch_of(LOGITS_BC, []))
    assert with_classes == without


def test_teacher_sees_the_mixed_pixels_of_the_student() -> None:
    seen = []

    class Recorder(FirstPixels):
        def forward(self, images_BCHW: Tensor) -> Tensor:
            seen.append(images_BCHW)
            return super().forward(images_BCHW)

    Reversed.seen.clear()
    torch.manual_seed(0)
    batch = replace(batch_of(LOGITS_BC, []), augment=Augment(mixup=1.0))
    Distillation(OPTIONS, 3, DistillationOptions(), Reversed(), PLAIN).loss(
        Recorder(), {"train": batch}
    )
    assert torch.equal(seen[0], Reversed.seen[0])
    assert not torch.equal(seen[0], batch.images_BCHW)


def test_student_is_trained_by_a_teacher__which_is_part_of_its_fingerprint(
    root: Store, lessons: Output
) -> None:
    teachers = [
        train(root, lessons, SHORT.model_copy(update={"seed": seed}), processes=ONE_PROCESS)
        for seed in (1, 2)
    ]
    chosen = DistillationOptions(temperature=2)
    students = [
        train(
            root,
            lessons,
            SHORT,
            objective=chosen,
            objective_inputs={"teacher": teacher},
            processes=ONE_PROCESS,
        )
        for teacher in teachers
    ]
    assert students[0].digest != students[1].digest
    assert students[0].uri != students[1].uri
    assert {node.role for node in students[0].lineage()} >= {"data", "teacher"}
    rows = pq.read_table(f"{students[0].uri}/{HISTORY}").to_pylist(maps_as_pydicts="strict")
    for row in rows:
        assert set(row["measurements"]) == {"distillation", "cross_entropy", "agreement"}
        assert row["loss"] == pytest.approx(row["measurements"]["distillation"])


def test_classes_of_the_teacher_are_matched_by_name(
    root: Store, lessons: Output, tmp_path: Path
) -> None:
    others = ("red", "blue", "green")
    teacher = train(root, lessons, SHORT, classes=others, processes=ONE_PROCESS)
    options = {"objective": "distillation", "models": {"teacher": teacher}}
    training = job(lessons, tmp_path / "a", SHORT).model_copy(update=options)
    objective = make_objective(training, ONE.device)
    assert isinstance(objective, Distillation)
    network, _ = load_network(teacher)
    images_BCHW = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        theirs_BC = network(images_BCHW)
        ours_BC = objective._ask_teacher(images_BCHW)
    torch.testing.assert_close(ours_BC, theirs_BC[:, [1, 2, 0]])


def test_teacher_that_does_not_fit_is_refused(root: Store, lessons: Output) -> None:
    def distil(options: TrainOptions, inputs: dict[str, Output]) -> None:
        chosen = DistillationOptions()
        train(
            root,
            lessons,
            options,
            objective=chosen,
            objective_inputs=inputs,
            processes=ONE_PROCESS,
        )

    with pytest.raises(ProtegeError, match="takes the objective_inputs teacher, and was given non"):
        distil(SHORT, {})
    with pytest.raises(ProtegeError, match="is an output of gather, and no model"):
        distil(SHORT, {"teacher": lessons})
    teacher = train(root, lessons, SHORT, processes=ONE_PROCESS)
    larger = SHORT.model_copy(update={"inputs": Inputs(size=24, resize=24, pixels="unit")})
    with pytest.raises(ProtegeError, match=r"with images of 16 pixels.*set options.inputs.size=16"):
        distil(larger, {"teacher": teacher})
    four = (*teacher.classes, "teal")
    other = train(root, lessons, SHORT, classes=four, processes=ONE_PROCESS)
    with pytest.raises(ProtegeError, match="only one of them knows 'teal'"):
        distil(SHORT, {"teacher": other})
