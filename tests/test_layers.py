"""Who imports whom: flows -> tasks -> models, infra; Prefect only in flows."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {
    "flows": {"flows", "tasks", "models", "infra"},
    "tasks": {"tasks", "models", "infra"},
    "models": {"models"},
    "infra": {"infra"},
}


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("folder", LAYERS)
def test_folder_imports_only_what_lies_below_it(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        ours = _imports(path) & set(LAYERS)
        assert ours <= LAYERS[folder], path


@pytest.mark.parametrize("folder", ["tasks", "models", "infra"])
def test_prefect_is_imported_only_in_flows(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert "prefect" not in _imports(path), path


def test_nothing_that_runs_by_default_imports_torchvision() -> None:
    for folder in LAYERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert "torchvision" not in _imports(path), path
