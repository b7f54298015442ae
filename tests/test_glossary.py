"""Words: those that were retired stay away, and the glossary is in order."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("flows", "tasks", "models", "infra")
# Identifiers that meant several things, or that the field has another word for.
RETIRED = {
    "told": "describe, log, notify: it meant eleven things",
    "sketch": "signature",
    "sketches": "signatures",
    "guard": "dedup",
    "contenders": "shortlist",
    "keeper": "supervisor",
    "tend": "ensure_running",
    "heard": "wait_for_server_on_exit, run_with_log_forwarding",
    "patience_seconds": "server.wait_seconds",
    "leave_out_copies": "drop_near_duplicates",
    "left_out": "dropped",
    "average_decay": "ema_decay",
    "drop_factor": "gamma",
    "hold_unless": "acquire",
    "SPEED": "NOT_IN_FINGERPRINT",
    "Held": "Handle",
    "Asked": "ServerConfig",
    "Pile": "CandidateBuffer",
    "updown": "lifecycle",
    "zoo": "registry",
}


def retired_in(text: str) -> set[str]:
    return {word for word in RETIRED if re.search(rf"(?<![\w.-]){word}(?![\w-])", text)}


@pytest.mark.parametrize("folder", PRODUCT)
def test_retired_words_stay_away(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        found = retired_in(path.read_text())
        assert not found, {f"{path}: {word}": RETIRED[word] for word in found}


def test_retired_words_stay_out_of_the_docs() -> None:
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        found = retired_in(path.read_text()) - {"told", "left_out", "heard"}
        assert not found, (path, found)


def test_told_stays_out_of_the_tests() -> None:
    paths = (path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))
    assert not [path for path in paths if "told" in retired_in(path.read_text())]


def test_a_retired_word_is_noticed() -> None:
    assert retired_in("def told(error): ...") == {"told"}
    assert not retired_in("controlled, untold_story")


def test_glossary_is_sorted_and_defines_a_word_once() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", text.partition("## Glossary")[2], re.M)
    words = [word for word in rows if word not in ("word",)]
    assert len(words) >= 40
    assert words == sorted(words, key=str.lower)
    assert len(set(words)) == len(words)
