"""Flaky: the digits campaign on a store with bad days makes the same tables. `make bench-flaky`

    python -m tests.bench.flaky FOLDER [--seed 0]

The campaign of `protege demo` runs twice, each time in a process of its own with its own cluster,
and with its outputs on an S3 API on loopback: once undisturbed, and once behind a proxy that
disturbs one request in ten (tests/builders/flaky_s3.py). Prints one JSON line: the seconds of both,
how often each kind of fault was injected, and how many tables and weights are the same, byte for
byte. Ends with an error when one is not.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

from flows.demo.digits import write_digits
from tests.builders.campaign import tables_of
from tests.builders.flaky_s3 import KINDS, FlakyS3

BUCKET = "protege"
CAMPAIGN = """
import sys, protege
from flows.billion_scale import presets
protege.recipes.billion_scale(protege.open(sys.argv[1]), presets.digits(sys.argv[2], 0))
"""


def run_campaign(root: str, data: Path, environment: Mapping[str, str]) -> float:
    """The seconds of a campaign whose outputs are at this address."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", CAMPAIGN, root, str(data)],
        check=True,
        env={**os.environ, **environment},
    )
    return time.perf_counter() - began


def main(argv: Sequence[str] | None = None) -> None:
    """Run both, compare, and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="Of the faults.")
    given = parser.parse_args(argv)
    data = given.folder.absolute() / "digits"
    data.mkdir(parents=True, exist_ok=True)
    write_digits(data, seed=0)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would log every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    undisturbed, disturbed = f"s3://{BUCKET}/undisturbed", f"s3://{BUCKET}/disturbed"
    seconds = run_campaign(undisturbed, data, {})
    with FlakyS3(os.environ["AWS_ENDPOINT_URL"], given.seed) as flaky:
        # A lease whose answer was lost belongs to nobody until it ends.
        here = {"AWS_ENDPOINT_URL": flaky.address, "PROTEGE_LEASE__SECONDS": "10"}
        flaky_seconds = run_campaign(disturbed, data, here)
    expected, found = tables_of(undisturbed), tables_of(disturbed)
    server.stop()
    line = {
        "bench": "flaky",
        "seconds": [round(seconds, 1), round(flaky_seconds, 1)],
        "faults": {kind: flaky.faults[kind] for kind in KINDS},
        "tables": len(expected),
        "same": sum(found.get(name) == digest for name, digest in expected.items()),
    }
    print(json.dumps(line))
    if found != expected:
        raise SystemExit("the tables differ")


if __name__ == "__main__":
    main()
