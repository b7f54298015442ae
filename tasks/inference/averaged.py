"""Averaged: several models that answer as one, with the mean of their logits.

In: outputs of `train` with the same classes and inputs. Out: a model; its embeddings are those of
the first.

    model = load_average((teacher, second_teacher))
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from infra.errors import ProtegeError
from models.precision import Precision
from tasks.contract import Output
from tasks.images import Pixels
from tasks.inference.model import CACHED_MODELS, Change, Model, load_model


@dataclass(frozen=True)
class Averaged(Model):
    """A model with others beside it."""

    others: tuple[Model, ...] = ()

    def logits_of(
        self,
        features_BD: Tensor,
        pixels_BHWC: Pixels | Tensor,
        precision: Precision,
        change: Change | None,
    ) -> Tensor:
        own_BC = super().logits_of(features_BD, pixels_BHWC, precision, change)
        others = [other.logits(pixels_BHWC, precision, change=change) for other in self.others]
        return torch.stack([own_BC, *others]).mean(dim=0)


@functools.lru_cache(maxsize=CACHED_MODELS)
def load_average(outputs: tuple[Output, ...]) -> Model:
    """The models of these trainings as one. Raises ProtegeError when they do not fit together."""
    first, *others = (load_model(output) for output in outputs)
    for output, other in zip(outputs[1:], others, strict=True):
        found, expected = other.description, first.description
        if (found.classes, found.inputs) != (expected.classes, expected.inputs):
            raise ProtegeError(
                f"the logits of {output.uri} and of {outputs[0].uri} cannot be averaged: they have "
                "other classes, or look at images of another size. Train them alike"
            )
    return Averaged(first.network, first.description, first.device, others=tuple(others))
