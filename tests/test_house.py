"""How the house is kept: the light stays light, all have a room, documents name no ghosts.

Which package may import which is written in pyproject.toml and checked by `lint-imports`.
"""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import dpo_lite
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.tasks import TASKS

ROOT = Path(__file__).parents[1]
PACKAGE = Path(dpo_lite.__file__).parent
PACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
LOOSE = set(
    "__init__.py __main__.py bounded.py errors.py files.py imports.py names.py py.typed quiet.py"
    " rates.py".split()
)
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
SOURCES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("", "benchmarks", "dpo_lite", "scripts", "tests")
    for path in (ROOT / folder).glob("**/*.py" if folder else "*.py")
]
YOURS = {"file.py"}  # files that a document's reader writes
# What must answer at once, and what shares a process with the page.
LIGHT = [
    "dpo_lite.cli",
    *sorted(f"dpo_lite.hub.{path.stem}" for path in PACKAGE.glob("hub/[a-z]*.py")),
    *sorted(f"dpo_lite.ui.{path.stem}" for path in PACKAGE.glob("ui/[a-z]*.py")),
]


@pytest.mark.slow
def test_help_waits_for_no_schema():
    """The schema of recipes takes longer than all the rest of what `--help` and `runs` load."""
    code = "import sys, dpo_lite.cli\nassert 'dpo_lite.recipe.schema' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_commands_hub_and_page_need_no_torch():
    code = (
        "import importlib, sys\n"
        f"for name in {LIGHT}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers', 'datasets', 'peft'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} imports {sorted(heavy)}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_no_file_lies_loose():
    found = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert found == LOOSE, "a file belongs into a package: docs/architecture.md says into which"


def test_tests_lie_where_their_package_does():
    rooms = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}
    beside = {"benchmarks", "theory", "shadow"}  # benchmarks/, scripts/theory/; a card for them all
    assert rooms <= {*PACKAGES, *beside}
    loose = {path.name for path in (ROOT / "tests").glob("test_*.py")}
    assert loose <= {
        Path(__file__).name,
        "test_docs.py",
        "test_site.py",
        *(f"test_{name}" for name in LOOSE),
    }


def test_the_architecture_names_every_package_and_each_of_its_files():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)/` (.*)$", text, re.MULTILINE))
    assert sorted(rows) == PACKAGES
    for package, row in rows.items():
        files = {path.name for path in PACKAGE.glob(f"{package}/[a-z]*.py")}
        assert set(re.findall(r"`(\w+\.py)`", row)) == files, package


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_is_there(document):
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", text)
    dead = [link for link in links if ":" not in link and not (document.parent / link).exists()]
    named = set(re.findall(r"[\w/.*-]*\w\.py\b", re.sub(r"\]\([^)]*\)", "]", text))) - YOURS
    dead += [name for name in named if not any(fnmatch(f"/{s}", f"*/{name}") for s in SOURCES)]
    dead += [name for name in re.findall(r"\bdpo_lite(?:\.\w+)+", text) if not _is_there(name)]
    assert dead == []


def _is_there(dotted: str) -> bool:
    """Whether it is a module or a package, or a name that a module has."""
    path = ROOT / dotted.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module, _, name = dotted.rpartition(".")
    file = (ROOT / module.replace(".", "/")).with_suffix(".py")
    return (
        file.is_file() and re.search(rf"\b{name}\b", file.read_text(encoding="utf-8")) is not None
    )


def test_nobody_asks_which_task_or_loss_it_is():
    """Who needs to know asks the task, the method or the loss for the fact behind the question."""
    names = {*TASKS, *LOSSES}
    asked = []
    for path in PACKAGE.glob("**/*.py"):
        if path.parent.name in ("tasks", "objectives"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and _ends_in(node.left) in ("task", "loss"):
                right = {constant.value for c in node.comparators for constant in _texts(c)}
                if right & names:
                    asked.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert asked == []


def _ends_in(node: ast.expr) -> str:
    """The last name of an expression: of ``a.task``, ``task`` and ``a["task"]`` it is task."""
    if isinstance(node, ast.Subscript):
        return str(getattr(node.slice, "value", ""))
    if isinstance(node, ast.Call):  # of recipe.get("task")
        return str(getattr(node.args[0], "value", "")) if node.args else ""
    return getattr(node, "attr", getattr(node, "id", ""))


def _texts(node: ast.expr) -> list[ast.Constant]:
    return [n for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
