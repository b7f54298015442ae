"""The contract: how every stage keeps its word.

A stage's output lies under `<root>/<stage>/<fingerprint>/`. Parts are Parquet files with names that
are fixed before work starts and that appear complete or not at all. The manifest is published last
and names the parts that belong to the output. What later stages read is the manifest, never a
listing.

identity.py   digests and fingerprints
parts.py      what a part is, and how it is read
part_draft.py a part while it is written
rejects.py    the rows that could not be used
part_writer.py  makes the part of one shard
manifest.py   the manifest, and `Output`, the reference to it
lineage.py    the chain of manifests behind an output
stage.py      an output is made once, by one run
shards.py     one job over many shards
batches.py    the shards that a worker makes one after the other
ranges.py     values of a part that are read alone
progress.py   how far a stage is
addresses.py  what a person types for an output
"""

from tasks.contract.addresses import output_at
from tasks.contract.batches import MAX_BATCH, MadePart, OneByOne
from tasks.contract.identity import (
    bytes_digest,
    canonical,
    digest_of,
    fingerprint_of,
    table_digest,
    versions,
)
from tasks.contract.lineage import Link, Node, walk
from tasks.contract.manifest import (
    Manifest,
    Output,
    find_output,
    output_of,
    part_names,
    publish,
    read_rows,
)
from tasks.contract.part_draft import PartDraft, write_part
from tasks.contract.part_writer import PartWriter
from tasks.contract.parts import (
    FOOTER,
    PartId,
    Reasons,
    Receipt,
    RowCounts,
    open_part,
    part_name,
    part_number,
    read_part,
    read_pieces,
    read_receipt,
    timed,
    unreadable,
)
from tasks.contract.progress import OnProgress, Stopwatch, silent, slowest
from tasks.contract.ranges import read_values, value_offsets
from tasks.contract.rejects import (
    check_reject_share,
    count_reasons,
    reject_reasons,
    write_rejects,
)
from tasks.contract.shards import (
    map_images,
    part_ids,
    run_shards,
    snapshot_manifest,
)
from tasks.contract.stage import Made, Session, Target, make_output

__all__ = [
    "FOOTER",
    "MAX_BATCH",
    "Link",
    "Made",
    "MadePart",
    "Manifest",
    "Node",
    "OnProgress",
    "OneByOne",
    "Output",
    "PartDraft",
    "PartId",
    "PartWriter",
    "Reasons",
    "Receipt",
    "RowCounts",
    "Session",
    "Stopwatch",
    "Target",
    "bytes_digest",
    "canonical",
    "check_reject_share",
    "count_reasons",
    "digest_of",
    "find_output",
    "fingerprint_of",
    "make_output",
    "map_images",
    "open_part",
    "output_at",
    "output_of",
    "part_ids",
    "part_name",
    "part_names",
    "part_number",
    "publish",
    "read_part",
    "read_pieces",
    "read_receipt",
    "read_rows",
    "read_values",
    "reject_reasons",
    "run_shards",
    "silent",
    "slowest",
    "snapshot_manifest",
    "table_digest",
    "timed",
    "unreadable",
    "value_offsets",
    "versions",
    "walk",
    "write_part",
    "write_rejects",
]
