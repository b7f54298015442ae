"""Linear: a head that is fitted to frozen features, in seconds on a CPU.

In: a network, and the images and classes of a training set. Out: the weights and biases of its
head; nothing else of the network changes. It is multinomial logistic regression on features whose
mean is 0 and deviation 1, by L-BFGS, with the L2 penalty that does best in cross-validation: the
linear evaluation of "Big self-supervised models are strong semi-supervised learners" (Chen et al.
2020, section 3), fitted to the end instead of by steps.

    fit = fit_linear(model, samples, on_images=print)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from infra.devices import memory_limit
from infra.errors import ProtegeError
from tasks.images import Limits, Pixels, decode
from tasks.inference.model import Model
from tasks.inference.pipeline import run_pipeline
from tasks.train.data import Samples, Targets, cannot_learn_from

PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)  # each starts from the weights of the one before
ONLY_PENALTY = 0.1  # where too few images can be held out to compare
FOLDS = 5
MAX_COMPARED = 5_000  # images of the cross-validation: more would hardly change the choice
BATCH_SIZE, DECODE_THREADS = 64, 2
MAX_ITERATIONS = 200
MEMORY_SHARE = 0.25  # of the machine's: features, and as much again while they are fitted


@dataclass(frozen=True)
class HeadFit:
    """A fitted head: weights (C, D) and biases (C,) for features as the network gives them.

    `loss` is the cross-entropy of the images that it was fitted to; `accuracy`, from 0 to 1, that
    of images held out in cross-validation, None where there were too few.
    """

    weight_CD: Tensor
    bias_C: Tensor
    penalty: float
    loss: float
    accuracy: float | None

    @property
    def measurements(self) -> dict[str, float]:
        """What the history keeps."""
        held_out = {} if self.accuracy is None else {"held_out_accuracy": self.accuracy}
        return {"cross_entropy": self.loss, "penalty": self.penalty, **held_out}

    def apply(self, head: nn.Linear) -> None:
        """Make it the head of a network."""
        with torch.no_grad():
            head.weight.copy_(self.weight_CD)
            head.bias.copy_(self.bias_C)


def fit_linear(model: Model, samples: Samples, on_images: Callable[[int], None]) -> HeadFit:
    """Fit the head of a model to a training set. `on_images` gets the number of images so far.

    Raises ProtegeError for images that cannot be used, and for more than the memory can hold.
    """
    model.network.eval()
    features_ND, targets = frozen_features(model, samples, on_images)
    fit = fit_head(features_ND, targets, len(model.description.classes))
    fit.apply(model.network.head)
    return fit


def frozen_features(
    model: Model, samples: Samples, on_images: Callable[[int], None]
) -> tuple[Tensor, Targets]:
    """Features (N, D) of all images, not augmented, and their targets. Raises ProtegeError."""
    _check_memory(model, sum(samples.part_rows))
    targets: list[Targets] = []

    def read_images() -> Iterator[bytes]:
        for number in range(len(samples.part_rows)):
            part = samples.read_part(number)
            targets.append(part.targets)
            yield from part.images

    def decode_square(data: bytes) -> Pixels:
        return model.description.inputs.square(decode(data, Limits()))

    features = []
    for batch in run_pipeline(
        read_images(),
        decode_square,
        lambda pixels_BHWC, _: model.features(pixels_BHWC),
        size=model.description.inputs.size,
        batch_size=BATCH_SIZE,
        decode_threads=DECODE_THREADS,
        device=model.device,
    ):
        for problem in batch.problems.values():
            raise ProtegeError(cannot_learn_from(samples.uri, "an image", problem)) from problem
        features.append(batch.outputs_BC.cpu())
        on_images(batch.first + len(batch.outputs_BC))
    return torch.cat(features), Targets.join(targets, samples.part_rows)


def fit_head(features_ND: Tensor, targets: Targets, num_classes: int) -> HeadFit:
    """The head with the smallest cross-entropy on these images, and a small penalty."""
    mean_D, std_D = features_ND.mean(dim=0), features_ND.std(dim=0, correction=0)
    scale_D = torch.where(std_D > 0, 1 / std_D.clamp_min(1e-12), torch.zeros_like(std_D)).double()
    problem = _Problem((features_ND.double() - mean_D) * scale_D, targets, num_classes)
    penalty, accuracy = _choose_penalty(problem)
    weight_CD, bias_C = problem.solve([penalty])[-1]
    loss = float(problem.loss(weight_CD, bias_C))
    # Back to features as the network gives them.
    weight_CD = weight_CD * scale_D
    bias_C = bias_C - weight_CD @ mean_D.double()
    return HeadFit(weight_CD.float(), bias_C.float(), penalty, loss, accuracy)


class _Problem:
    """Logistic regression of N images: features (N, D) and weighted classes as P pairs."""

    def __init__(self, features_ND: Tensor, targets: Targets, num_classes: int) -> None:
        self._features_ND, self._num_classes = features_ND, num_classes
        self._targets = targets
        self._rows_P = torch.from_numpy(targets.rows_P)
        self._classes_P = torch.from_numpy(targets.classes_P)
        self._weights_P = torch.from_numpy(targets.weights_P).double()

    @property
    def first_classes(self) -> npt.NDArray[np.int64]:
        """The first class of each image; -1 without one."""
        classes_N = np.full(len(self._features_ND), -1)
        classes_N[self._targets.rows_P[::-1]] = self._targets.classes_P[::-1]
        return classes_N

    def part(self, rows: npt.NDArray[np.int64]) -> "_Problem":
        """The same of some images."""
        targets = Targets.stack([self._targets.take(row) for row in rows])
        return _Problem(self._features_ND[torch.from_numpy(rows)], targets, self._num_classes)

    def loss(self, weight_CD: Tensor, bias_C: Tensor) -> Tensor:
        """Mean cross-entropy."""
        log_probabilities_NC = torch.log_softmax(self._logits(weight_CD, bias_C), dim=1)
        picked_P = log_probabilities_NC[self._rows_P, self._classes_P]
        return -(picked_P * self._weights_P).sum() / len(self._features_ND)

    def correct(self, weight_CD: Tensor, bias_C: Tensor) -> int:
        """How many images get their class."""
        best_N = self._logits(weight_CD, bias_C).argmax(dim=1).numpy()
        return int((best_N == self.first_classes).sum())

    def solve(self, penalties: list[float]) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of each penalty, from zeros."""
        width = self._features_ND.shape[1]
        weight_CD = torch.zeros(self._num_classes, width, dtype=torch.float64, requires_grad=True)
        bias_C = torch.zeros(self._num_classes, dtype=torch.float64, requires_grad=True)
        solutions = []
        for penalty in penalties:
            self._minimise(weight_CD, bias_C, penalty)
            solutions.append((weight_CD.detach().clone(), bias_C.detach().clone()))
        return solutions

    def _minimise(self, weight_CD: Tensor, bias_C: Tensor, penalty: float) -> None:
        optimizer = torch.optim.LBFGS(
            [weight_CD, bias_C],
            max_iter=MAX_ITERATIONS,
            tolerance_grad=1e-6,
            tolerance_change=1e-9,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            optimizer.zero_grad()
            loss = self.loss(weight_CD, bias_C) + penalty / 2 * weight_CD.square().sum()
            loss.backward()
            return float(loss.detach())

        optimizer.step(closure)

    def _logits(self, weight_CD: Tensor, bias_C: Tensor) -> Tensor:
        return self._features_ND @ weight_CD.T + bias_C


def _choose_penalty(problem: _Problem) -> tuple[float, float | None]:
    """The penalty with the smallest cross-entropy on images held out, and the accuracy there."""
    folds = _folds(problem.first_classes)
    if len(folds) < 2:
        return ONLY_PENALTY, None
    losses, correct = np.zeros(len(PENALTIES)), np.zeros(len(PENALTIES))
    for number, fold in enumerate(folds):
        rest = np.sort(np.concatenate([*folds[:number], *folds[number + 1 :]]))
        held_out = problem.part(fold)
        for index, solution in enumerate(problem.part(rest).solve(list(PENALTIES))):
            losses[index] += float(held_out.loss(*solution)) * len(fold)
            correct[index] += held_out.correct(*solution)
    best = int(losses.argmin())
    return PENALTIES[best], float(correct[best] / sum(len(fold) for fold in folds))


def _folds(classes_N: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Rows in folds, each of which has its share of every class."""
    by_class = np.argsort(classes_N, kind="stable")
    by_class = by_class[:: -(-len(by_class) // MAX_COMPARED)]
    largest = int(np.bincount(classes_N[by_class] + 1).max(initial=0))
    count = min(FOLDS, largest)
    return [np.sort(by_class[number::count]) for number in range(count)] if count > 1 else []


def _check_memory(model: Model, images: int) -> None:
    needed = images * model.network.head.in_features * 8 * 2
    if needed > MEMORY_SHARE * memory_limit():
        raise ProtegeError(
            f"a linear head of {images:,} images needs {needed / 2**30:.1f} GiB of memory for "
            "their features, more than a quarter of this machine's: train a new head by steps "
            "(options.start.head=new), or give fewer labelled images"
        )
