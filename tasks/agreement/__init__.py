"""agreement: how right the choice of each class is, as a committee says without labels of the pile.

In: images, a choice of them, and members: networks that have each learned from another share of the
labelled images. Out: `votes`, how many members give each sampled image the class that it was chosen
for, and `precision`, an estimate for each class: the share of its sampled images that *all* members
give it.

What one network takes for a class, because it has seen nothing like it or has learned a shortcut,
others that have learned from other images take for different things; what is of the class, most
take for it. Networks that were trained apart disagree about as often as they are wrong ("Assessing
generalization of SGD via disagreement", Jiang et al. 2022). docs/precision.md has how far the
estimate was from what was measured, and where it fails.

    precision = agreement(root, pile, chosen, {"member_1": first, "member_2": second})
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from infra.store import Store
from tasks import contract, tables
from tasks.agreement.options import AskOptions, CommitteeOptions
from tasks.contract import (
    Made,
    OnProgress,
    Output,
    RowCounts,
    Session,
    Target,
    make_output,
    silent,
)
from tasks.evaluate import wilson
from tasks.images import IMAGES_VERSION
from tasks.sampling import sample_classes
from tasks.topk import read_chosen

STAGE = "agreement"
VERSION = 1
PRECISION = "precision.parquet"
DEVIATIONS = 2.0  # of the sample
# Of the method: with it, nine of ten classes of the bench lay within (docs/precision.md).
MARGIN = 0.15

__all__ = ["PRECISION", "STAGE", "CommitteeOptions", "agreement", "read_precision"]


@dataclass(frozen=True)
class AgreementJob:
    """What the stage is given."""

    options: CommitteeOptions
    images: Output
    chosen: Output
    members: Mapping[str, Output]


def agreement(
    root: Store,
    images: Output,
    chosen: Output,
    members: Mapping[str, Output],
    options: CommitteeOptions = CommitteeOptions(),
    *,
    on_progress: OnProgress = silent,
) -> Output:
    """Ask the members, or take the output that is there.

    Raises ProtegeError without members, and for members of other classes than the choice.
    """
    if not members:
        raise ProtegeError("a committee needs a member: set options.members")
    for name, member in members.items():
        if member.classes != chosen.classes:
            raise ProtegeError(f"{name} of the committee has other classes than {chosen.uri}")
    inputs = {"images": images, "chosen": chosen, **members}
    content = {"images_version": IMAGES_VERSION}
    target = Target(root, STAGE, VERSION, AskOptions.of(options), inputs, content=content)
    job = AgreementJob(options, images, chosen, members)
    return make_output(target, functools.partial(_make, job), on_progress)


def read_precision(output: Output) -> pa.Table:
    """The `precision` table: a row for each class."""
    return contract.read_part(output.store, PRECISION, tables.PRECISION)


def _make(job: AgreementJob, session: Session) -> Made:
    chosen = read_chosen(job.chosen).select(["label", "rank", "image_id"])
    sampled = chosen.take(pa.array(sample_classes(chosen["label"].to_numpy(), job.options.sample)))
    ids_N, labels_N = sampled["image_id"].to_numpy(), sampled["label"].to_numpy()
    agrees_MN = np.zeros((len(job.members), len(ids_N)), bool)
    for number, member in enumerate(job.members.values()):
        session.on_progress(number, len(job.members), "")
        agrees_MN[number] = _answers(job, member, ids_N) == labels_N
    session.on_progress(len(job.members), len(job.members), "")
    votes = sampled.append_column("votes", pa.array(agrees_MN.sum(axis=0), pa.int32()))
    counts = RowCounts(len(votes), len(votes), 0)
    name = contract.part_name(0)
    parts = [
        contract.write_part(session.store, name, votes.cast(tables.VOTES), counts),
        contract.write_part(
            session.store,
            PRECISION,
            _estimate(job.chosen.classes, labels_N, np.asarray(agrees_MN.all(axis=0))),
            RowCounts(0, 0, 0),
        ),
    ]
    return Made(parts, {"classes": job.chosen.classes, "members": len(job.members)})


def _estimate(
    classes: list[str], labels_N: npt.NDArray[np.int32], unanimous_N: npt.NDArray[np.bool_]
) -> pa.Table:
    """The share that all members agree on, with its interval, for each class."""
    rows = []
    for label, name in enumerate(classes):
        own = unanimous_N[labels_N == label]
        row = {"label": label, "name": name, "sampled": len(own), "unanimous": int(own.sum())}
        if len(own):
            share = float(own.mean())
            low, high = wilson(share, len(own), DEVIATIONS)
            row |= {"estimate": share, "low": max(0, low - MARGIN), "high": min(1, high + MARGIN)}
        rows.append(row)
    return pa.Table.from_pylist(rows, tables.PRECISION)


def _answers(
    job: AgreementJob, member: Output, ids_N: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The class that a member gives each of these images."""
    from tasks.inference.chosen import ask_about
    from tasks.inference.model import load_model

    if not len(ids_N):
        return np.empty(0, np.int64)
    model = load_model(member)
    answers_N1 = ask_about(
        job.images,
        ids_N,
        model,
        lambda pixels_BHWC, _num_images: model.logits(pixels_BHWC).argmax(dim=1, keepdim=True),
        job.options.batch_size,
    )
    return answers_N1[:, 0]
