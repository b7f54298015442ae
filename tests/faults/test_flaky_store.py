"""A campaign on a store that answers with errors, resets, stalls and old listings: same tables."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.campaign import tables_of
from tests.builders.flaky_s3 import KINDS, FlakyS3
from tests.faults.driver import run_campaign


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> dict[str, str]:
    """The tables of a campaign that nothing happened to, by path."""
    root = tmp_path_factory.mktemp("undisturbed")
    run_campaign(str(root), pictures)
    return tables_of(str(root))


@pytest.mark.parametrize("seed", [0])
def test_campaign_on_a_flaky_store_makes_the_same_tables(
    s3: str, tmp_path: Path, pictures: Path, undisturbed: dict[str, str], seed: int
) -> None:
    root = f"{s3}/{tmp_path.name}-{seed}"
    command = [sys.executable, "-m", "tests.faults.driver", root, str(pictures)]
    with FlakyS3(os.environ["AWS_ENDPOINT_URL"], seed) as flaky:
        # A lease whose answer was lost belongs to nobody until it ends.
        here = {"AWS_ENDPOINT_URL": flaky.address, "PROTEGE_LEASE__SECONDS": "3"}
        subprocess.run(command, check=True, env={**os.environ, **here})
    assert set(flaky.faults) == set(KINDS), "every kind of fault has happened"
    assert tables_of(root) == undisturbed
