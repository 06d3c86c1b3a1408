"""docs/contributing.rst says what the tree says: its files, names, wings and make targets."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "contributing.rst").read_text()
LITERALS = sorted(set(re.findall(r"``([^`]+)``", TEXT)))
PLACES = {"taskqueue", "tests", "docs", "debian", "etc", "bench", "examples", ".ci"}
PATHS = [literal for literal in LITERALS if re.fullmatch(r"[\w./-]+", literal) and literal.split("/")[0] in PLACES]
FILES = [path for path in PATHS if "/" in path]
NAMED = sorted(set(re.findall(r"``(\w+)``\s+of\s+``([\w./]+)``", TEXT)))
TARGETS = sorted(
    set(re.findall(r"make ([a-z][a-z-]*)", " ".join(each for each in LITERALS if each.startswith("make "))))
)


def wings_of_the_test() -> dict[str, set[str]]:
    """`WINGS` of test_layers, read without importing it; the package itself is `.` on the page."""
    tree = ast.parse((ROOT / "tests" / "unit" / "test_layers.py").read_text())
    (table,) = (
        node.value for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "WINGS"
    )
    assert table is not None
    text = ast.unparse(table).replace("set()", "None").replace("''", "'.'")
    return {wing: allowed or set() for wing, allowed in ast.literal_eval(text).items()}


def wings_of_the_page() -> dict[str, set[str]]:
    """The first and the third column of the table of wings."""
    table = TEXT.partition(".. list-table:: The wings")[2].partition("\nRules that")[0]
    rows = [
        re.split(r"^     -", row, flags=re.MULTILINE) for row in re.split(r"^   \* -", table, flags=re.MULTILINE)[2:]
    ]
    return {
        found[0]: set(re.findall(r"``([^`]+)``", row[2]))
        for row in rows
        if (found := re.findall(r"``([^`]+)``", row[0]))
    }


def names_in(path: Path) -> set[str]:
    """Classes, functions and constants of a file, or of all files of a directory, and methods."""
    files = path.rglob("*.py") if path.is_dir() else [path]
    found: set[str] = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(target.id for target in targets if isinstance(target, ast.Name))
    return found


def test_the_patterns_find_what_is_on_the_page() -> None:
    assert len(FILES) > 40 and len(NAMED) > 30 and len(TARGETS) > 8


@pytest.mark.parametrize("path", FILES)
def test_a_file_that_it_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("name", "path"), NAMED)
def test_a_name_is_where_it_says(name: str, path: str) -> None:
    assert name in names_in(ROOT / path)


@pytest.mark.parametrize("target", TARGETS)
def test_a_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_its_table_is_the_table_of_wings() -> None:
    assert wings_of_the_page() == wings_of_the_test()
    assert list(wings_of_the_page()) == list(wings_of_the_test()), "from the ground up"


def test_other_documents_lead_to_it() -> None:
    assert "docs/contributing.rst" in (ROOT / "README.rst").read_text()
