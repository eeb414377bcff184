"""The tests that docs/security.md names are there, and none of them waits to be asked for."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/security.md").read_text())
APART = {"long", "browser", "gpu", "real"}


def marks(nodes):
    """The marks among decorators, or in what ``pytestmark`` is."""
    return {n.attr for node in nodes for n in ast.walk(node) if isinstance(n, ast.Attribute)}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_runs_always(file, name):
    tree = ast.parse((ROOT / file).read_text())
    of_all = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and [*map(ast.unparse, node.targets)] == ["pytestmark"]
    ]
    (test,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
    assert not marks([*of_all, *test.decorator_list]) & APART


def test_every_line_of_the_table_names_one():
    assert len(NAMED) > 15
    table = (ROOT / "docs/security.md").read_text().partition("## What holds it")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert all("::test_" in row for row in rows)
