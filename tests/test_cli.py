"""The command line: what people type, and one plain line when it is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.commands.run import INTERRUPTED
from flows.commands.server import DOWN
from infra.devices import gpu_count
from infra.store import Store
from tasks.shard import ShardOptions, shard
from tests.builders.models import model
from tests.builders.waiting import EVENT_SECONDS


def protege(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=EVENT_SECONDS,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


def refused(*arguments: str, **environment: str) -> str:
    """The message of a command that fails: no traceback, and a status that scripts can see."""
    done = protege(*arguments, **environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def test_recipes_are_listed_with_their_presets() -> None:
    listing = protege("recipes").stdout
    assert "billion-scale" in listing
    assert "--preset digits" in listing
    assert "--preset imagenet-yfcc" in listing


def test_plan_of_the_paper_prints_its_steps() -> None:
    text = protege("plan", "billion-scale", "--preset", "imagenet-yfcc").stdout
    assert "16,000,000 lessons" in text
    assert "651,042 steps of 1,536" in text
    assert "25,023 steps" in text


@pytest.mark.skipif(gpu_count() > 0, reason="a machine with a GPU has the defaults")
def test_options_without_a_preset_are_those_for_a_machine_without_a_gpu() -> None:
    done = protege("plan", "billion-scale")
    assert "the preset photos" in done.stderr
    assert "efficientnet_lite0 from efficientnet_lite0, a linear head" in done.stdout
    done = protege("plan", "billion-scale", "--preset", "default")
    assert "preset" not in done.stderr
    assert "teacher: resnet50, 90 epochs" in done.stdout


def test_every_command_helps() -> None:
    commands = "run plan recipes models resume show augmented export predict demo"
    for command in commands.split():
        done = protege(command, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout


def test_options_come_from_preset_file_environment_and_command_line(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("topk: {k: 11, seed: 11}\nstudent: {seed: 11, length: 30 epochs}\n")
    done = protege(
        *("plan", "billion-scale", "--preset", "digits", "--yaml", "--config", str(config)),
        *("--set", "student.seed=33"),
        PROTEGE_OPTION__STUDENT__SEED="22",
        PROTEGE_OPTION__TOPK__SEED="22",
    )
    values = yaml.safe_load(done.stdout)
    assert values["topk"]["k"] == 11  # the file over the preset
    assert values["topk"]["seed"] == 22  # the environment over the file
    assert values["student"]["seed"] == 33  # the command line over the environment
    assert values["student"]["length"] == {"amount": 30.0, "unit": "epochs"}
    assert values["teacher"]["model"] == "small_resnet_16"  # the rest is the preset's


def test_printed_options_are_a_config_file(tmp_path: Path) -> None:
    first = protege("plan", "billion-scale", "--preset", "digits", "--yaml").stdout
    (tmp_path / "all.yaml").write_text(first)
    again = protege("plan", "billion-scale", "--yaml", "--config", str(tmp_path / "all.yaml"))
    assert again.stdout == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "bilion-scale"], "did you mean 'billion-scale'?"),
        (
            ["plan", "billion-scale", "--preset", "digit"],
            "no preset 'digit'; there are: default, photos, small, digits",
        ),
        (["plan", "billion-scale", "--set", "topk.kk=3"], "topk.kk: no such option"),
        (["plan", "billion-scale", "--set", "studnt.seed=3"], "did you mean 'student'?"),
        (["plan", "billion-scale", "--set", "topk.k=0"], "greater than or equal to 1"),
        (["plan", "billion-scale", "--set", "student.model=resnet5O"], "mean 'resnet50' or"),
        (["plan", "billion-scale", "--set", "student.model=r2plus1d_18"], "takes videos"),
        (["plan", "billion-scale", "--set", "topk.k"], "section.field=value"),
        (["run", "billion-scale"], "no source was given"),
        (["show", "nowhere/at/all"], "there is nothing here"),
        (["resume", "billion-scale-1"], "has no campaign 'billion-scale-1'"),
    ],
)
def test_mistake_is_answered_in_one_line_with_the_remedy(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    text = refused(*arguments, PROTEGE_ROOT=str(tmp_path))
    # A note on the preset may come before it.
    [error] = [line for line in text.splitlines() if not line.startswith("no GPU here")]
    assert message in error


def test_yaml_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "list.yaml"
    config.write_text("- a\n- b\n")
    assert "must be a mapping" in refused("plan", "billion-scale", "--config", str(config))


def test_show_tells_schema_notes_rows_and_lineage(root: Store, pictures: Path) -> None:
    images = shard(root, ShardOptions(source=str(pictures / "pile")))
    table = protege("show", f"{images.uri}/part-00000.parquet").stdout
    assert "table images, 60 rows" in table
    assert "shard number in the high 32 bits" in table
    output = protege("show", images.uri).stdout
    assert f"shard {images.fingerprint}" in output
    weights = protege("show", f"{model(root).uri}/weights.safetensors").stdout
    assert "small_resnet_8" in weights
    assert "tensors" in weights


def test_package_of_a_user_that_hides_one_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "flows.start", "recipes"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=EVENT_SECONDS,
    )
    assert done.returncode == 1
    assert f"Python finds another one first: {tmp_path / 'tasks'}" in done.stderr
    assert "Traceback" not in done.stderr


def test_version_exit_codes_and_completion_can_be_found() -> None:
    assert protege("--version").stdout.startswith("protege 0.")
    text = protege("--help").stdout
    assert "Exit status: 0" in text
    assert "--install-completion" in text


def test_documents_name_the_exit_codes_that_there_are() -> None:
    repository = Path(__file__).parents[1]
    readme = " ".join((repository / "README.md").read_text().split())
    listed = readme.partition("The exit status is ")[2].partition(". ")[0]
    assert [int(word) for word in listed.split() if word.isdigit()] == [0, 1, 2, DOWN, INTERRUPTED]
    assert f"fails (exit code {DOWN})" in (repository / "docs" / "operate.md").read_text()
