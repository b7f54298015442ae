"""Verbs of images: those that pin them, look for copies, and make training sets of them.

In: sources, and outputs of `shard` and `topk`. Out: outputs of `shard`, `signature`, `leakage`,
`tags` and `gather`. `flows/campaign/run.py` adds the verbs of models.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from flows.campaign.options import ApprovalOptions
from flows.campaign.stage_run import StageRun
from infra.errors import ProtegeError
from tasks.contract import OnProgress, Output
from tasks.duplicates.leakage import check_leakage, leakage
from tasks.duplicates.signature import signature
from tasks.gather import GatherOptions, Share, gather
from tasks.options import Options, problems
from tasks.shard import ShardOptions, class_names, shard
from tasks.tags import TagOptions, tags

OptionsType = TypeVar("OptionsType", bound=Options)


class ImageRun(StageRun):
    """The verbs of images."""

    def shard(
        self,
        source: str | Path = "",
        options: ShardOptions | None = None,
        *,
        role: str = "shard",
        **fields: Any,
    ) -> Output:
        """Pin a source as numbered shards; in a campaign, as the campaign has pinned it."""
        fields = {**fields, "source": str(source)} if source else fields
        chosen = options_of(ShardOptions, options, fields)
        snapshot = self._campaign.snapshots.get(role) if self._campaign else None

        work = partial(shard, self.store, chosen, snapshot=snapshot, executor=self.executor)
        return self._run_stage("shard", role, work)

    def classes(self, labelled: Output, test: Output) -> list[str]:
        """The names of the classes, after a check of both sources. Raises ProtegeError.

        From now on the campaign keeps to the snapshots of its sources, for they are sound.
        """
        names = class_names(labelled, test)
        if self._campaign is not None:
            self._save(pinned=True)
        return names

    def signature(self, images: Output, *, role: str = "signature") -> Output:
        """Make the signatures of images, by which their near-duplicates are found."""
        work = partial(signature, self.store, images, executor=self.executor)
        return self._run_stage("signature", role, work)

    def check_copies(
        self,
        labelled: Output,
        test: Output,
        signatures: Mapping[str, Output],
        options: ApprovalOptions,
        *,
        role: str = "copies",
    ) -> Output:
        """List the test images that are copies of labelled ones. Raises ProtegeError for many."""

        def work(on_progress: OnProgress) -> Output:
            leaks = leakage(self.store, labelled, test, signatures, on_progress=on_progress)
            check_leakage(leaks, options.max_copies_percent, "approval.max_copies_percent")
            return leaks

        return self._run_stage("leakage", role, work)

    def tags(
        self,
        images: Output,
        options: TagOptions | None = None,
        *,
        role: str = "tags",
        **fields: Any,
    ) -> Output:
        """Say which classes the tags of images teach, and how often each image is taken."""
        chosen = options_of(TagOptions, options, fields)
        work = partial(tags, self.store, images, chosen, executor=self.executor)
        return self._run_stage("tags", role, work)

    def gather(
        self,
        images: Output,
        chosen: Output | None = None,
        options: GatherOptions | None = None,
        *,
        classes: Sequence[str] | None = None,
        scores: Output | None = None,
        dropped_classes: Sequence[str] = (),
        share: Share | None = None,
        role: str = "gather",
        **fields: Any,
    ) -> Output:
        """Collect the chosen images, or all labelled ones, into a shuffled training set.

        With `classes=[]`, all images without any class; with soft pseudo-labels, the chosen ones
        with their probabilities in `scores`. Chosen images of `dropped_classes` are not taken, of
        labelled images only a `share`.
        """
        gather_options = options_of(GatherOptions, options, fields)
        work = partial(
            gather,
            self.store,
            images,
            chosen,
            gather_options,
            classes=classes,
            scores=scores,
            dropped_classes=dropped_classes,
            share=share,
            executor=self.executor,
        )
        return self._run_stage("gather", role, work)

    def signed(self, name: str, output: Output) -> Output:
        """The signatures of images, which may have been made already."""
        if output.stage == "signature":
            return output
        return self.signature(output, role=f"{name}_signatures")


def options_of(
    kind: type[OptionsType], options: OptionsType | None, fields: Mapping[str, Any]
) -> OptionsType:
    """An object, or its fields as keywords, or both: the fields win. Raises ProtegeError."""
    values = {**(dict(options) if options is not None else {}), **fields}
    if options is not None and not fields:
        return options
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ProtegeError("; ".join(problems(error, kind))) from None
