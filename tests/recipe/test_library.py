"""One's own recipes: names, places, where they come from and how they differ."""

import json

import pytest
from typer.testing import CliRunner

from dpo_lite.cli import app
from dpo_lite.errors import UserError
from dpo_lite.recipe import RECIPES_FOLDER, find_recipe, library, load_recipe

QUICKSTART = (RECIPES_FOLDER / "quickstart.yaml").read_text()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_shipped_recipes_are_listed_smallest_card_first():
    entries = library.shipped()
    anywhere = [entry.name for entry in entries if entry.card.startswith("any")]
    assert anywhere[0] == entries[0].name == "quickstart"
    assert {"sft-quickstart", "reward-quickstart"} <= set(anywhere)
    sizes = [int(entry.card.split()[0]) for entry in entries[len(anywhere) :]]
    assert sizes == sorted(sizes)
    assert all(entry.purpose and entry.card and entry.time and entry.base for entry in entries)


def test_ones_own_is_saved_listed_and_found_by_name():
    path = library.save_own(QUICKSTART, "mine")
    assert path.read_text() == QUICKSTART
    assert find_recipe("mine") == path
    assert load_recipe("mine") == load_recipe("quickstart")
    assert [(entry.name, entry.own) for entry in library.own()] == [("mine", True)]
    with pytest.raises(UserError, match="did you mean mine"):
        find_recipe("mien")


def test_overwriting_is_asked_for():
    library.save_own(QUICKSTART, "mine")
    with pytest.raises(UserError, match="exists"):
        library.save_own("x: 1", "mine")
    assert library.save_own("x: 1", "mine", overwrite=True).read_text() == "x: 1\n"
    (broken,) = library.own()
    assert broken.recipe is None
    assert "x is no key" in broken.fault


@pytest.mark.parametrize("name", ["", "../x", "a/b", "/tmp/x", ".hidden", "-x", "a\n", "x" * 65])
def test_names_never_leave_the_folder(name, tmp_path):
    if name.strip() == "a":  # spaces around a name are no part of it
        assert library.own_path(name).name == "a.yaml"
        return
    with pytest.raises(UserError, match="is no name"):
        library.save_own("x: 1", name)
    assert list(tmp_path.iterdir()) == []


def test_a_shipped_name_stays_the_shipped_recipe():
    with pytest.raises(UserError, match="ships"):
        library.save_own(QUICKSTART, "quickstart")


def test_free_names_count_up():
    assert library.free_name("quickstart") == "my-quickstart"
    library.save_own(QUICKSTART, "my-quickstart")
    assert library.free_name("quickstart") == "my-quickstart-2"
    assert library.free_name("my-quickstart") == "my-quickstart-2"


def test_the_origin_stands_in_the_head():
    text = library.with_origin(QUICKSTART, "quickstart")
    assert library.origin(text) == "quickstart"
    assert library.with_origin(text, "quickstart") == text
    assert library.head(text)["purpose"] == library.head(QUICKSTART)["purpose"]
    assert library.origin(library.with_origin(text, "qwen3-4b")) == "qwen3-4b"
    assert library.origin("# from: ../../etc/passwd\n") == ""
    assert library.origin("# from: nothing-like-it\n") == ""
    assert library.origin("a: 1\n# from: quickstart\n") == ""
    text = 'eval: {prompts: ["one\u2028prompt"]}\n'
    assert library.with_origin(text, "quickstart") == "# from: quickstart\n" + text


def test_a_copy_names_itself():
    head = (
        "# For all\n#\n#   python -m dpo_lite train recipes/quickstart.yaml train.beta=1\n"
        "#   dpo-lite train quickstart\n#   python -m dpo_lite train recipes/sft-quickstart.yaml\n"
        "# quickstart is the first\n"
    )
    body = "\nrun: {name: quickstart}\n# dpo-lite train quickstart\n"
    assert library.renamed(head + body, "quickstart", "my-quickstart") == (
        "# For all\n#\n#   python -m dpo_lite train my-quickstart train.beta=1\n"
        "#   dpo-lite train my-quickstart\n"
        "#   python -m dpo_lite train recipes/sft-quickstart.yaml\n"
        "# quickstart is the first\n" + body
    )


def test_the_difference_names_keys_and_both_values():
    text = library.with_origin(QUICKSTART, "quickstart").replace("beta: 0.1", "beta: 0.3")
    library.save_own(text, "mine")
    assert library.compare_with_shipped("mine") == ("quickstart", [("train.beta", 0.1, 0.3)])
    library.save_own(QUICKSTART, "other")
    with pytest.raises(UserError, match="does not say"):
        library.compare_with_shipped("other")
    name, rows = library.compare_with_shipped("other", "qwen3-4b")
    assert name == "qwen3-4b"
    assert ("model.base", "Qwen/Qwen3-4B", "builtin:myths") in rows


def run(*words):
    result = CliRunner().invoke(app, ["recipes", *words])
    assert result.exit_code == 0, result.exception
    return result.output


def test_the_commands():
    assert "my-recipes/my-quickstart.yaml" in run("cp", "quickstart").replace("\n", "")
    run("cp", "quickstart", "named")
    run("cp", "quickstart", "a/folder/x.yaml")
    assert library.origin(find_recipe("a/folder/x.yaml").read_text()) == "quickstart"
    listed = json.loads(run("--json"))
    assert [entry["name"] for entry in listed[:3]] == ["named", "my-quickstart", "quickstart"]
    path = library.own_path("named")
    assert "train named" in path.read_text()
    assert "train a/folder/x.yaml" in find_recipe("a/folder/x.yaml").read_text()
    path.write_text(path.read_text().replace("beta: 0.1", "beta: 0.3"))
    assert "train.beta" in run("diff", "named")
    assert json.loads(run("diff", "named", "--json"))["keys"] == [
        {"key": "train.beta", "shipped": 0.1, "own": 0.3}
    ]
    assert "no key differs" in run("diff", "my-quickstart")
    run("cp", "quickstart", "gentle", "train.beta=0.3", "eval.prompts=[a, b]")
    gentle = load_recipe("gentle")
    assert gentle == load_recipe("quickstart", ["train.beta=0.3", "eval.prompts=[a, b]"])
    assert "# examples per update" in library.own_path("gentle").read_text()
    run("cp", "quickstart", "gentle", "--force")
    assert load_recipe("gentle") == load_recipe("quickstart")
    run("cp", "quickstart", "train.beta=0.7")
    assert load_recipe("my-quickstart-2").train.beta == 0.7
    failed = CliRunner().invoke(app, ["recipes", "cp", "quickstart", "x", "train.betta=1"])
    assert "did you mean train.beta" in str(failed.exception)
