"""Whatever stands on the command line ends in one sentence and an exit code, never a traceback."""

import os

import pytest

from dpo_lite.cli import main
from dpo_lite.files import write_text
from dpo_lite.recipe import load_recipe, to_yaml
from dpo_lite.runs.folder import create_run

NAMES = [
    "missing",
    "n" * 300,
    "a/" * 3000,
    "[/red]",
    "file",
    "folder",
    "loop",
    "binary",
    "half",
    "runs/half",
    "dangling",
    "folder-of-recipe",
    "linked-loop",
    "..",
    "",
    "a\0b",
    "~",
]
# {} is the name; commands that need torch to get so far are not among these.
PLACES = [
    "runs show {}",
    "runs stop {}",
    "runs delete --yes {}",
    "runs rename {} new",
    "runs rename half {}",
    "runs --runs {}",
    "runs show missing --runs {}",
    "eval {}",
    "eval missing --runs {}",
    "compare {}",
    "compare missing --with {}",
    "score {} data.jsonl",
    "best-of {}",
    "draw {} --reward x --out pairs.jsonl",
    "push {}",
    "push missing --repo {}",
    "merge {} out",
    "merge missing {}",
    "train {}",
    "train --resume {}",
    "train quickstart train.loss=x run.folder={}",
    "check {}",
    "plan {}",
    "sweep {} train.beta=0.1,0.2 --dry-run",
    "sweep quickstart train.beta=0.1,{} --dry-run",
    "sweep quickstart train.beta=0.1,0.2 --dry-run --name {}",
    "recipes cp {}",
    "recipes cp quickstart {}",
    "recipes diff {}",
    "votes --runs {}",
    "votes export {}",
    "{}",
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of oddities: what is a file, a folder, a loop, half of something."""
    (tmp_path / "runs" / "half").mkdir(parents=True)
    (tmp_path / "runs" / "half" / "recipe.yaml").write_text("[")
    (tmp_path / "runs" / "dangling").symlink_to("nowhere")
    (tmp_path / "runs" / "linked-loop").symlink_to("linked-loop")
    (tmp_path / "folder-of-recipe" / "recipe.yaml").mkdir(parents=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "binary").write_bytes(b"\xff\0\xfe" * 40)
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


def ended(arguments, capsys):
    """The exit code and what was said; any other exception is the test's failure."""
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return exit.value.code or 0, capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_every_name_at_every_place(place, home, capsys):
    for name in NAMES:
        arguments = [word.replace("{}", name) for word in place.split(" ")]
        code, said = ended(arguments, capsys)
        assert code in (0, 1, 2), arguments
        assert "Traceback" not in said.err
        assert len(said.err) < 7000, arguments
        if code:
            assert said.err.strip() or said.out.strip(), arguments


NUMBERS = ["-1", "1e400", "nan", "inf", "x", "", "9" * 40, "9" * 5000, "1e-400", "0x10", "²"]
OPTIONS = [
    *(f"compare missing --{o}" for o in ("temperature", "top-p", "top-k", "repetition-penalty")),
    *(f"compare missing --{o}" for o in ("seed", "max-new-tokens")),
    *(f"best-of missing --{o}" for o in ("n", "temperature", "top-p", "max-new-tokens", "seed")),
    *(f"draw missing --reward x --out o.jsonl --{o}" for o in ("n", "prompts", "margin", "seed")),
    "draw missing --reward x --out o.jsonl --max-new-tokens",
    "score missing data.jsonl --show",
    "runs show missing --lines",
    "data missing.jsonl --examples",
    "ui --port",
]


@pytest.mark.parametrize("option", OPTIONS)
def test_numbers_out_of_range(option, home, capsys):
    for number in NUMBERS:
        if number == "1e-400" and option.rpartition("--")[2] in ("temperature", "margin"):
            continue  # it is 0, which these take
        code, said = ended([*option.split(" "), number], capsys)
        assert code == 2, (option, number)
        assert "Traceback" not in said.err


def test_a_linked_run_is_deleted_and_not_what_it_leads_to(home, capsys):
    elsewhere = home / "folder"
    (elsewhere / "recipe.yaml").write_text("model: {base: x}\ndata: {train: y}\n")
    (home / "runs" / "link").symlink_to(elsewhere)
    code, _ = ended(["runs", "delete", "--yes", "link"], capsys)
    assert code == 0
    assert not os.path.lexists(home / "runs" / "link")
    assert (elsewhere / "recipe.yaml").is_file()


def test_a_file_that_cannot_be_read(home, capsys, monkeypatch):
    import pathlib

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    (home / "mine.yaml").write_text("model: {base: x}\ndata: {train: y}\n")
    monkeypatch.setattr(pathlib.Path, "read_text", refused)
    code, said = ended(["train", "mine.yaml"], capsys)
    assert code == 1
    assert "cannot be read" in said.err


def test_words_that_are_no_utf8_and_a_terminal_without_the_letters(home, monkeypatch):
    """A word is refused as one sentence; a letter that the terminal has none for is no end."""
    import io
    import sys

    out, aside = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", aside)
    for words, code in ((["runs", "show", "caf\udce9"], 1), (["recipes"], 0)):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert (end.value.code or 0) == code
    out.flush()
    aside.flush()
    assert "is not in UTF-8" in " ".join(aside.buffer.getvalue().decode().split())
    assert b"quickstart" in out.buffer.getvalue()


def test_a_terminal_obeys_nothing_that_logs_and_names_say(home, capsys):
    """ESC ] 52 writes into the clipboard, ESC [ 2 J clears the screen; 9B is ESC [ in one."""
    name, line = "bad\x1b[2Jname", "a \x1b]52;c;aGk=\x07 line \x9b2J of a log"
    run = create_run(home / "runs", None, "one")
    write_text(run.recipe_file, to_yaml(load_recipe("quickstart")))
    run.log(line)
    run.update_status(state="failed", error=line, doing=line)
    run.path.rename(run.path.with_name(name))
    for words in (["runs"], ["runs", "show", name], ["runs", "show", "\x1b[3m"]):
        _, said = ended(words, capsys)
        told = said.out + said.err
        assert "[2J" in told
        assert not {"\x1b", "\x07", "\x9b"} & set(told)
