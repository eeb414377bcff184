"""The command line as a user meets it: help, faults, exit codes."""

import json
import os
import subprocess
import sys

import pytest
import typer


def run(*arguments, cwd=None):
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    return subprocess.run(
        [sys.executable, "-m", "dpo_lite", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": root, "COLUMNS": "120", "NO_COLOR": "1"},
    )


@pytest.fixture
def cli(monkeypatch):
    """Commands in this process, for what needs no torch."""
    from typer.testing import CliRunner

    from dpo_lite.cli import app

    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_every_command_has_help_with_an_example(cli):
    from dpo_lite.cli import app

    assert "Example:  dpo-lite train quickstart" in cli("train", "--help").output
    for name, command in every(typer.main.get_command(app)):
        bare = [p.name for p in command.params if not p.help and not p.hidden]
        assert not bare, f"{name}: no help for {bare}"
        if not name:
            continue
        assert "Example:" in command.help, name
        for paragraph in command.help.split("\n\n"):  # one of a single line is wrapped well
            lines = paragraph.splitlines()
            wide = [line for line in lines if len(line) > 78 and len(lines) > 1]
            assert not wide, f"{name}: on a terminal of 80 letters this breaks twice: {wide}"


def every(command, name=""):
    yield name, command
    for own, below in getattr(command, "commands", {}).items():
        yield from every(below, f"{name} {own}".strip())


def test_a_fault_is_one_sentence_without_a_traceback(tmp_path):
    result = run("train", "quickstart", "train.betta=1", cwd=tmp_path)
    assert result.returncode == 1
    assert "did you mean train.beta?" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in run("--debug", "train", "nothing", cwd=tmp_path).stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "nothing"],
        ["check", "quickstart", "train.loss=kto"],
        ["plan", "quickstart", "train.betta=1"],
        ["data", "missing.jsonl"],
        ["--help"],
    ],
    ids=" ".join,
)
def test_a_typo_is_told_before_torch_is_loaded(arguments, tmp_path):
    code = (
        "import sys\nfrom dpo_lite.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    print('torch' in sys.modules)"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_the_version(cli):
    from dpo_lite import __version__

    assert cli("--version").output == f"dpo-lite {__version__}\n"


def test_recipes_are_listed_and_copied(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = cli("recipes").output
    assert "quickstart" in listed
    assert "zephyr-7b" in listed
    assert max(map(len, listed.splitlines())) <= 80
    assert "train.beta" in cli("recipes", "keys").output
    assert cli("recipes", "cp", "quickstart", "mine.yaml").exit_code == 0
    assert "builtin:myths" in (tmp_path / "mine.yaml").read_text()
    assert "exists" in str(cli("recipes", "cp", "quickstart", "mine.yaml").exception)


PAIRS = [
    {"prompt": f"Are bats blind? {i}", "chosen": "Bats can see.", "rejected": "Bats are blind."}
    for i in range(50)
] + [{"prompt": "x", "chosen": "a", "rejected": "a"}]


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    return str(path)


@pytest.mark.parametrize(
    ("options", "unit", "response"),
    [
        ([], "characters", "Bats can see."),
        (["--model", "builtin:myths"], "tokens", "Bats can see.<|im_end|>"),
    ],
    ids=["without a base", "with a base"],
)
def test_the_data_doctor(cli, pairs, options, unit, response):
    report = json.loads(cli("data", pairs, *options, "--json").stdout)
    assert report["format"] == "triples"
    assert report["unit"] == unit
    assert report["kept"] + sum(report["evals"].values()) == 50
    assert report["dropped"]["responses identical"]["rows"] == [50]
    assert report["lengths"]["chosen"]["max"] > 0
    assert report["examples"][0]["responses"][0] == response


def test_the_data_doctor_for_people(cli, pairs):
    shown = cli("data", pairs, "data.limit=40").output
    assert "triples (prompt is text, chosen is " in shown
    assert "preferred Bats can see." in shown
    assert "dropped" not in shown  # the fault stands behind the first forty rows
    assert "responses identical" in cli("data", pairs).output


def test_the_data_doctor_of_prompts_alone(cli, pairs, tmp_path):
    shown = cli("data", pairs, "--model", "builtin:myths", "data.pairs=prompts").output
    assert "prompts to train on" in shown
    assert "none: the policy answers by itself" in shown
    assert "tokens of a prompt (data.max_length)" in shown
    for word in ("longer", "chosen  ", "coloured", "dropped"):  # equal answers are no fault
        assert word not in shown.replace("chosen is ", "")
    asked = tmp_path / "asked.jsonl"
    asked.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in PAIRS))
    assert "task: ppo answers them" in str(cli("data", str(asked)).exception)
    report = json.loads(cli("data", str(asked), "task=ppo", "--json").stdout)
    assert (report["format"], report["responses"]) == ("prompts", {"fewest": 0, "most": 0})
    assert report["chosen_longer"] is None
    assert set(report["lengths"]) == {"prompt"}


def test_the_data_doctor_of_a_recipe(cli, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("model: {base: builtin:myths}\ndata: {train: builtin:myths, limit: 20}\n")
    report = json.loads(cli("data", str(recipe), "--json").stdout)
    assert (report["rows"], set(report["evals"])) == (20, {"phrasings", "topics"})


def test_the_data_doctor_takes_a_recipes_name(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = json.loads(cli("data", "quickstart", "data.limit=20", "--json").stdout)
    assert (report["rows"], report["unit"]) == (20, "tokens")
    (tmp_path / "quickstart").mkdir()  # a folder of data of that name
    assert "quickstart" in str(cli("data", "quickstart").exception)


def test_faults_of_the_data_doctor(cli, pairs):
    fault = str(cli("data", pairs, "data.fromat=orca").exception)
    assert "did you mean data.format?" in fault
    assert "did you mean orca?" in str(cli("data", pairs, "data.format=orka").exception)
    missing = str(cli("data", pairs, "data.columns={q: prompt}").exception)
    assert "the prompt is never guessed" in missing


def test_runs_of_an_empty_folder(cli, tmp_path):
    assert "no runs in" in cli("runs", "--runs", str(tmp_path)).output


def test_missing_things(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "There is no run x" in str(cli("compare", "x").exception)
    assert "Which recipe" in str(cli("train").exception)
    assert "leave the recipe" in str(cli("train", "quickstart", "--resume", "x").exception)


@pytest.mark.slow
def test_a_plan_tells_times(cli):
    """On the card asked for; with a memory alone on cards that have it; with neither, why not."""
    assert "on a 3060" in cli("plan", "quickstart", "--gpu", "12GB").output
    unknown = cli("plan", "quickstart", "--gpu", "T4").output
    assert "an epoch takes" not in unknown
    assert "the speed of T4 in bf16 is not known" in unknown
    assert "Macs train on their CPU" in str(cli("plan", "quickstart", "--gpu", "m2 max").exception)


@pytest.mark.slow
def test_a_plan_for_a_card_that_is_not_here(cli):
    found = cli("plan", "quickstart", "--gpu", "3060")
    assert found.exit_code == 0
    assert "it fits" in found.output
    assert "usable on the card" in found.output
    assert "is no card that is known" in str(cli("plan", "quickstart", "--gpu", "abc").exception)
    much = ("train.batch_size=512", "train.token_budget=100000", "train.checkpointing=false")
    tight = cli("plan", "quickstart", *much, "--gpu", "1GB")
    assert tight.exit_code == 1
    assert "it does not fit" in tight.output


def test_a_blind_vote_in_the_terminal(cli, tmp_path, monkeypatch):
    """Shown without names, asked again after a slip, kept, revealed; q leaves it."""
    import typer

    from dpo_lite.cli import comparing
    from dpo_lite.compare.shared_base import ScoredAnswer
    from dpo_lite.compare.votes import read_votes

    typed = iter(["x", "b", "q"])
    monkeypatch.setattr(typer, "prompt", lambda text: next(typed))
    answers = [
        ScoredAnswer("reference", "f1", "no [b]", True, []),
        ScoredAnswer("demo", "f2", "yes", True, []),
    ]
    arguments = ("demo", "Is it?", answers, {"seed": 0}, str(tmp_path))
    with comparing.console.capture() as capture:
        assert comparing._vote(*arguments, shuffle=list.reverse)
        assert not comparing._vote(*arguments)
    shown = capture.get()
    assert shown.index("A  yes") < shown.index("B  no [b]") < shown.index("A was demo")
    assert "B was reference" in shown
    (vote,) = read_votes(tmp_path)
    assert (vote["verdict"], vote["columns"][1]["label"]) == ("B", "reference")

    shown = cli("votes", "--runs", str(tmp_path)).output
    assert "demo" in shown
    assert "0%" in shown
    assert "no votes in" in cli("votes", "--runs", str(tmp_path / "none")).output


def test_a_folder_that_cannot_be_written_is_one_sentence_before_anything_is_loaded(tmp_path):
    (tmp_path / "file").write_text("")
    for command in ("train", "check"):
        done = run(command, "quickstart", f"run.folder={tmp_path / 'file' / 'runs'}")
        assert done.returncode == 1
        assert "file/runs cannot be written (Not a directory)" in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr
        assert "device" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runs", "list"], "`dpo-lite runs` is for one process; start it without a launcher."),
        (["train", "quickstart", "--detach"], "leave it away under a launcher."),
    ],
)
def test_what_is_not_for_several_processes_is_told_once(arguments, words, monkeypatch, capsys):
    from dpo_lite.cli import main

    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, told in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 1
        assert capsys.readouterr().err.count(words) == told


def test_a_run_made_of_runs_is_not_for_several_processes(monkeypatch):
    from dpo_lite.cli.training import _runner
    from dpo_lite.errors import UserError
    from dpo_lite.recipe import load_recipe
    from dpo_lite.training import ranks

    recipe = load_recipe("rlhf-quickstart")
    assert _runner(recipe).__name__ == "dpo_lite.studies.rlhf"
    monkeypatch.setattr(ranks, "alone", lambda: False)
    with pytest.raises(UserError, match="task: rlhf is made of runs; start it without a launcher"):
        _runner(recipe)
