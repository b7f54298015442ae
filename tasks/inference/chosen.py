"""Chosen: what a network answers about images of a choice.

In: images, the ids that are asked about, and what is computed of a batch. Out: an answer for each
id, in their order; an image that was chosen for several classes is looked at once.

    labels_N1 = ask_about(images, ids_N, model, forward, batch_size=256)
"""

import numpy as np
import numpy.typing as npt

from infra.errors import ProtegeError
from tasks.contract import Output
from tasks.inference.model import Model
from tasks.inference.pipeline import Forward, run_pipeline
from tasks.shard import read_many


def ask_about(
    images: Output, ids_N: npt.NDArray[np.int64], model: Model, forward: Forward, batch_size: int
) -> npt.NDArray[np.int64]:
    """The answers (N, A), of at least one id. Raises ProtegeError for an image without any."""
    unique_ids, places_N = np.unique(ids_N, return_inverse=True)
    batches = run_pipeline(
        (data for _, data in read_many(images, unique_ids)),
        model.decode,
        forward,
        size=model.description.inputs.size,
        batch_size=batch_size,
        device=model.device,
    )
    answers = []
    for batch in batches:
        if batch.problems:
            row, problem = min(batch.problems.items())
            raise ProtegeError(f"chosen image {unique_ids[row]} cannot be used: {problem}")
        answers.append(batch.outputs_BC.cpu().numpy())
    answers_NA: npt.NDArray[np.int64] = np.concatenate(answers)[places_N]
    return answers_NA
