"""Driver of a whole recipe in one process, which kills itself with SIGKILL at a given write.

    python -m tests.faults.recipe_driver RECIPE ROOT PICTURES [FOLDER WRITE]

It runs the recipe as a campaign, without Prefect and without a cluster; its trainings run in
processes of their own, as ever.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from flows.campaign.find import find_campaign, sources_of
from flows.campaign.options import RecipeOptions
from flows.campaign.run import Run
from flows.recipes import recipe
from infra.executors import Inline
from infra.store import open_store
from tests.builders.noisy import tiny_noisy
from tests.builders.semi import tiny_semi
from tests.builders.simclr import tiny_simclr
from tests.faults.driver import die_in

TINY: dict[str, Callable[[Path], RecipeOptions]] = {
    "semi-weakly": tiny_semi,
    "simclr-v2": tiny_simclr,
    "noisy-student": tiny_noisy,
}


def run_recipe(name: str, root_uri: str, pictures: Path) -> None:
    """Run, or go on with, the campaign of the recipe at its smallest."""
    root, options = open_store(root_uri), TINY[name](pictures).resolved()
    campaign = find_campaign(root, name, options, sources_of(options))
    recipe(name).run(Run(root, Inline(), campaign=campaign), options)


if __name__ == "__main__":
    name, root_uri, pictures = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if len(sys.argv) > 4:
        die_in(f"{open_store(root_uri).uri}/{sys.argv[4]}", int(sys.argv[5]))
    run_recipe(name, root_uri, pictures)
