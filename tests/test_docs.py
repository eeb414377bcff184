"""README and docs do what they say: each command of theirs runs, in their order, as it is written.

In one folder, with the names that the texts use (pairs.jsonl, my.yaml, my-1), against a Hub on this
machine that has a small Qwen/Qwen3-4B. The shipped recipes stand there under their own names with a
few updates: what a command does is tried here, what comes of it elsewhere.
"""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dpo_lite.recipe import library, validate_recipe
from tests.fake_hub import FakeHub, Repo

ROOT = Path(__file__).parents[1]
# In the order in which a reader meets them: a later one uses runs of an earlier one.
DOCUMENTS = ["README.md", *(f"docs/{n}.md" for n in "recipes data-formats concepts rlhf".split())]
DOCUMENTS += ["docs/evaluation.md"]
DOCUMENTS += [*(f"docs/{n}.md" for n in "python publishing web-page".split()), "CONTRIBUTING.md"]
SHORT = {
    "train": {"max_steps": 3, "batch_size": 4},
    "eval": {"limit": 3, "generate": 1, "max_new_tokens": 4},
}
SHORT_PPO = {"max_new_tokens": 4, "passes": 1, "minibatch": 4}

# A process that takes commands and runs them one after the other, torch imported once.
WORKER = """
import contextlib, io, json, os, sys, traceback
from dpo_lite.cli import main
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever writes to the stream itself is no answer
for line in sys.stdin:
    kind, code, said = json.loads(line), 0, io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            exec(kind["python"], {}) if "python" in kind else main(kind["arguments"])
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            code = 1
            traceback.print_exc()
    print(json.dumps([code, said.getvalue()]), file=answers, flush=True)
"""


def blocks(document: str) -> list[tuple[str, str]]:
    """Language and text of each code block, fenced or indented behind a blank line."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = [(m.start(), m[1], m[2]) for m in re.finditer(r"(?ms)^```(\w*)\n(.*?)^```", text)]
    rest = re.sub(r"(?ms)^```.*?^```", lambda m: re.sub(r"[^\n]", " ", m[0]), text)
    for m in re.finditer(r"(?m)(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+", rest):
        found.append((m.start(), "", re.sub(r"(?m)^ {4}", "", m[0])))
    return [(language, body) for _, language, body in sorted(found)]


def commands(body: str) -> list[list[str]]:
    """The command lines of a block, comments left out, `&&` as two."""
    parts = [part.strip() for line in body.splitlines() for part in line.split(" && ")]
    return [shlex.split(part, comments=True) for part in parts if part and not part.startswith("#")]


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_base):
    """The folder, the Hub and the process; gives a function that runs a command there."""
    folder = tmp_path_factory.mktemp("desk")
    prepare(folder)
    with FakeHub() as hub:
        files = {path.name: path.read_bytes() for path in Path(tiny_base).iterdir()}
        config = json.loads(files["config.json"]) | {"max_position_embeddings": 4096}
        files["config.json"] = json.dumps(config).encode()
        hub.repos["Qwen/Qwen3-4B"] = Repo(private=False, files=files)
        environment = hub.environment(folder / "home") | {
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "100",
            "DPO_LITE_CACHE": str(folder / "cache"),
        }
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def ask(**what) -> tuple[int, str]:
            worker.stdin.write(json.dumps(what) + "\n")
            worker.stdin.flush()
            return tuple(json.loads(worker.stdout.readline()))

        yield ask
        worker.stdin.close()
        worker.wait()


def prepare(folder: Path) -> None:
    """What a reader of the documents has at hand."""
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    for entry in library.shipped():
        values = yaml.safe_load(entry.path.read_text(encoding="utf-8"))
        for section, keys in SHORT.items():
            values[section] = (values.get(section) or {}) | keys
        values["train"].pop("epochs", None)
        if entry.recipe.task == "ppo":
            values["ppo"] = (values.get("ppo") or {}) | SHORT_PPO
        if entry.recipe.task == "rlhf":
            values["rlhf"] |= {"ppo_betas": [1.0], "dpo_betas": [0.1], "answers": 1}
            values["train"].pop("max_steps")
            for step in ("sft", "reward", "ppo", "dpo"):
                values["rlhf"][step] = {"train": {"max_steps": 3}, "eval": {"limit": 2}}
            values["rlhf"]["ppo"]["ppo"] = SHORT_PPO
        text = library.with_origin(yaml.safe_dump(values, sort_keys=False), entry.name)
        for place in ("recipes", "my-recipes"):
            (folder / place).mkdir(exist_ok=True)
            (folder / place / entry.path.name).write_text(text)
    rows = [
        {"prompt": f"cat {i}?", "chosen": f"it sat {i}", "rejected": "it ran off"}
        for i in range(80)
    ]
    for name in ("pairs.jsonl", "my-pairs.jsonl"):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "judge.py").write_text(_judge())
    shutil.copy(ROOT / "README.md", folder)


def _judge() -> str:
    """The reward function as docs/rlhf.md shows it."""
    (body,) = [body for _, body in blocks("docs/rlhf.md") if "# judge.py" in body]
    return "".join(line + "\n" for line in body.splitlines() if not line.startswith("dpo-lite"))


# What is not ours to run, and what is tried in tests of its own.
ELSEWHERE = {
    "better": "what it says",
    "loss": "a formula",
    "max_π": "a formula",
    "z₀": "a formula",
    "git": "the address is the reader's",
    "cd": "the folder of the checkout",
    "pip": "the tests' own environment was made by it",
    "hf": "asks for a token",
    "pre-commit": "asks the network for its hooks",
    ".": "the environment",
}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_of_a_document_runs(document, desk):
    for language, body in blocks(document):
        if language == "python":
            code, said = desk(python=body)
            assert code == 0, f"{body}\n{said}"
        elif language == "yaml":
            least = {"model": {"base": "builtin:myths"}, "data": {"train": "builtin:myths"}}
            values = least | yaml.safe_load(body)
            validate_recipe(values, document)
        elif language == "" and "def " not in body:
            for words in commands(body):
                run(words, desk)


def run(words: list[str], desk) -> None:
    if words[:3] == ["python", "-m", "dpo_lite"]:
        arguments = words[3:]
    elif words[0] == "dpo-lite":
        arguments = words[1:]
    elif words[0] == "python":
        assert words[1] in ("-m", "app.py"), words  # pytest, venv; the page, whose tests start it
        return
    else:
        assert words[0] in ELSEWHERE, words
        return
    if arguments[0] in ("ui", "judge") or {"--blind", "gguf", "model", "votes"} & {*arguments[1:]}:
        # Serves until it is stopped, or asks: a person, a server; or wants a published tokenizer.
        arguments = [arguments[0], "--help"]
    if "--suite" in arguments and not any("forgetting" in word for word in arguments):
        arguments = [arguments[0], "--help"]  # the tasks' data are on the Hub
    if "--resume" in arguments:
        stop_early(desk)
    code, said = desk(arguments=arguments)
    assert code == 0, f"dpo-lite {shlex.join(arguments)}\n{said}"
    assert "Traceback" not in said


def stop_early(desk) -> None:
    """A run that was stopped before its last update, as Ctrl-C leaves it."""
    code, said = desk(
        python="import json, pathlib\n"
        "path = pathlib.Path('runs/my-1/status.json')\n"
        "path.write_text(json.dumps(json.loads(path.read_text()) | {'state': 'stopped'}))"
    )
    assert code == 0, said


def test_the_first_table_is_what_the_recipes_say():
    """Of each recipe the card, and the hours within what the row says."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| (\d+ GB) \| (`.*`) \| (\d+) to (\d+) (h|min) on a (.+) \|$", text)
    shipped = {entry.name: entry for entry in library.shipped()}
    told = set()
    for card, names, low, high, unit, name_of_card in rows:
        times = []
        for name in re.findall(r"`([^`]+)`", names):
            assert shipped[name].card == card, name
            found = re.match(rf"(\d+) to (\d+) {unit} on a {name_of_card} ", shipped[name].time)
            times += [int(found[1]), int(found[2])]
            told.add(name)
        assert (min(times), max(times)) == (int(low), int(high)), card
    assert told == {name for name, entry in shipped.items() if "GB" in entry.card[:5]}


def test_blocks_of_both_kinds_are_found():
    assert any("train.beta=0.03,0.1,0.3" in body for _, body in blocks("docs/concepts.md"))
    assert commands("a b  # c\n# d\ne && f 'g h'\n") == [["a", "b"], ["e"], ["f", "g h"]]


# --- docs/security.md names the tests that hold it; none of them waits to be asked for ------------

HELD_BY = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/security.md").read_text())
APART = {"long", "browser", "gpu", "real"}


def marks(nodes):
    """The marks among decorators, or in what ``pytestmark`` is."""
    return {n.attr for node in nodes for n in ast.walk(node) if isinstance(n, ast.Attribute)}


@pytest.mark.parametrize(("file", "name"), HELD_BY)
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
    assert len(HELD_BY) > 15
    table = (ROOT / "docs/security.md").read_text().partition("## What holds it")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert all("::test_" in row for row in rows)
