"""The layout as the documents tell it is the one that is there."""

from __future__ import annotations

import ast
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from tests.paths import ROOT

PACKAGES = ("schemas", "topology", "streams", "jobs", "dashboard")
DOCUMENTS = [
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "adr").glob("*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docker").iterdir() if path.is_file()),
]
TOP = "|".join((*PACKAGES, "tests", "benchmarks", "docker", "docs", r"\.ci"))
PATH = re.compile(rf"`((?:{TOP})/[^`\s]*)`")
MODULE = re.compile(rf"(?<![\w./-])((?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+)(?![\w(/]|\.\w)")
FILE_ENDS = (".md", ".png", ".svg", ".py", ".yaml")
"""A dotted name that ends so is a file, not a module."""


def folders() -> list[Path]:
    """Every folder of the packages that holds Python, or folders that do."""
    found = {
        folder
        for package in PACKAGES
        for module in (ROOT / package).rglob("*.py")
        for folder in module.relative_to(ROOT).parents
        if folder.name
    }
    return sorted(found)


def table_of_folders() -> list[str]:
    """The first column of the table in `docs/architecture.md`, a name for each folder."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def layers() -> list[list[str]]:
    """The folders of `streams/` as the import contracts order them, the lowest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layered] = [c for c in contracts["contracts"] if c["type"] == "layers"]
    return [layer.split(" | ") for layer in reversed(layered["layers"])]


def module_exists(dotted: str) -> bool:
    """Whether there is such a module, or a name of that kind in one."""
    *parts, last = dotted.split(".")
    place = ROOT.joinpath(*parts)
    if (place / last).is_dir() or (place / f"{last}.py").is_file():
        return True
    source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return source.is_file() and last in _names(ast.parse(source.read_text()))


def _names(tree: ast.Module) -> set[str]:
    """What a module defines at its top."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_the_table_of_folders_names_those_that_are_there() -> None:
    there = {
        f"{folder}/" for folder in folders() if len(folder.parts) == 1 and folder.name != "streams"
    }
    there |= {f"{folder}/" for folder in folders() if folder.parent.name == "streams"}
    there |= {
        str(module.relative_to(ROOT))
        for module in (ROOT / "streams").glob("*.py")
        if module.name != "__init__.py"
    }
    listed = table_of_folders()
    assert sorted(listed) == sorted(there)


def test_the_table_of_folders_is_in_the_order_of_the_import_contracts() -> None:
    height = {name: at for at, layer in enumerate(layers()) for name in layer}
    names = [Path(name).stem for name in table_of_folders() if name.startswith("streams/")]
    assert sorted(names) == sorted(height)
    assert all(height[above] <= height[below] for above, below in pairwise(names))


@pytest.mark.parametrize("folder", folders(), ids=str)
def test_a_folder_says_what_lives_there(folder: Path) -> None:
    source = ROOT / folder / "__init__.py"
    assert source.is_file()
    assert ast.get_docstring(ast.parse(source.read_text()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_is_there(document: Path) -> None:
    # A block with the name of a file is what a guide makes: it has a test of its own.
    text = re.sub(
        r"^```\w+ \S+\n.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE
    )
    paths = {path for path in PATH.findall(text) if not any(mark in path for mark in "*<{…")}
    missing = {path for path in paths if not (ROOT / path).exists()}
    modules = {name for name in MODULE.findall(text) if not name.endswith(FILE_ENDS)}
    missing |= {name for name in modules if not module_exists(name)}
    assert not missing
