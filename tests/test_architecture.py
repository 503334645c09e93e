"""The shape of the project, held: which way imports run, what needs Prefect, how long files are."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("flows", "tasks", "adapters", "data")
PREFECT_MODULES = {
    "tasks/steps.py",
    "tasks/reporting.py",
    "tasks/reviewing.py",
    "adapters/blocks.py",
    "adapters/limits.py",
}
LONGEST = 400
SOURCES = sorted(
    path
    for floor in FLOORS
    for path in (ROOT / floor).rglob("*.py")
    if "versions" not in path.parts
)


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_run_from_flows_to_tasks_to_adapters_to_data(path: Path) -> None:
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    above = FLOORS[:floor]
    assert [module for module in imported(path) if module.split(".")[0] in above] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_only_what_talks_to_prefect_imports_it(path: Path) -> None:
    uses = any(module.split(".")[0] == "prefect" for module in imported(path))
    assert not uses or name(path).startswith("flows/") or name(path) in PREFECT_MODULES


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_stays_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_module_imports_what_takes_seconds_before_it_is_used(path: Path) -> None:
    at_top = {
        module
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in imported_by(node)
    }
    assert at_top.isdisjoint({"great_expectations", "matplotlib", "matplotlib.pyplot"})


def imported_by(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    return [node.module or ""]
