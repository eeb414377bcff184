"""Exactly what may go up, without this machine's paths, or a refusal with its reason."""

import json

import pytest

from dpo_lite.errors import UserError
from dpo_lite.hub.staging import TOKENIZER, checked_repo, stage
from dpo_lite.recipe import parse_yaml, validate_recipe
from tests.hub.conftest import write_adapter

LISTED = [
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "curves.png",
    "metrics.json",
    "recipe.yaml",
    "replay.json",
]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "staged"
    path.mkdir()
    return path


def test_exactly_the_listed_files(run, folder, tmp_path):
    staged = stage(run, folder, repo="me/demo")
    assert [name for name, _ in staged.files] == LISTED
    assert [p.name for p in sorted(folder.iterdir())] == LISTED
    assert staged.private
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "some/base"
    assert config["revision"] == "a" * 40
    for path in folder.iterdir():
        assert str(tmp_path) not in path.read_bytes().decode(errors="replace"), path.name


def test_a_tokenizer_goes_up_where_the_run_saved_its_own(run, folder):
    (run.adapter / "tokenizer.json").write_text("{}")
    (run.adapter / "chat_template.jinja").write_text("{{ messages }}")
    staged = stage(run, folder, repo="me/demo")
    names = {name for name, _ in staged.files}
    assert names & set(TOKENIZER) == {"tokenizer.json", "chat_template.jinja"}
    assert 'AutoTokenizer.from_pretrained("me/demo")' in staged.card


def test_the_published_recipe_names_no_path(make_run, folder, tmp_path):
    pairs = tmp_path / "private" / "pairs.jsonl"
    run = make_run(
        model={"base": str(tmp_path), "adapter": str(tmp_path / "runs/sft-1/adapter")},
        data={
            "train": [str(pairs), {"source": "some/pairs:train", "weight": 1}],
            "eval": [f"{tmp_path}/held-out:test"],
        },
        run={"folder": str(tmp_path / "runs")},
    )
    staged = stage(run, folder, repo="me/demo", base_id="some/base")
    text = (folder / "recipe.yaml").read_text()
    assert str(tmp_path) not in text + staged.card
    values = parse_yaml(text, "recipe")
    assert values["data"]["train"][0] == "pairs.jsonl"
    assert values["data"]["train"][1]["source"] == "some/pairs:train"
    assert values["data"]["eval"] == ["held-out:test"]
    assert values["model"] | {"base": "some/base", "adapter": "sft-1/adapter"} == values["model"]
    assert values["run"]["folder"] == "runs"
    validate_recipe(values, "the published recipe")
    assert len(staged.notes) == 3
    assert "# data.train: a path on this machine, published as pairs.jsonl" in text
    assert json.loads((folder / "adapter_config.json").read_text())["revision"] is None


@pytest.mark.slow
def test_a_checkpoint_of_an_unfinished_run(make_run, folder):
    run = make_run(state="stopped")
    for step in (1, 2):
        checkpoint = run.checkpoints / f"checkpoint-{step}"
        write_adapter(checkpoint, "/elsewhere")
        (checkpoint / "trainer_state.json").write_text("{}")
    (run.path / "curves.png").unlink()
    staged = stage(run, folder, repo="me/demo", checkpoint="1")
    assert [name for name, _ in staged.files] == LISTED
    assert json.loads((folder / "metrics.json").read_text())["training"]["loss"] == 0.69
    assert "the state after 1 updates" in staged.card
    assert "after 2 updates" in stage(run, folder, repo="me/demo", checkpoint="last").card
    with pytest.raises(UserError, match="no checkpoint 7; there are 1, 2"):
        stage(run, folder, repo="me/demo", checkpoint="7")


@pytest.mark.parametrize(
    ("state", "sections", "options", "message"),
    [
        ("stopped", {}, {}, "is stopped, not finished.*--checkpoint last"),
        ("failed", {}, {"checkpoint": "last"}, "has no checkpoint yet"),
        ("finished", {"model": {"base": "builtin:myths"}}, {}, "is not on the Hub.*--base-id"),
        ("finished", {"model": {"base": "/models/llama"}}, {}, "is not on the Hub"),
        ("finished", {}, {"base_id": "./llama"}, "is not on the Hub"),
        ("finished", {}, {"repo": None}, "Where to"),
    ],
)
def test_refusals(make_run, folder, state, sections, options, message):
    with pytest.raises(UserError, match=message):
        stage(make_run(state=state, **sections), folder, **({"repo": "me/demo"} | options))


def test_a_token_in_the_samples_stops_it(run, folder):
    secret = "hf_" + "x" * 34
    run.append("samples.jsonl", {"when": "before", "set": "p", "prompt": secret, "answer": "a"})
    run.append("samples.jsonl", {"when": "after", "set": "p", "prompt": secret, "answer": "b"})
    with pytest.raises(UserError, match="reads as a Hub token") as caught:
        stage(run, folder, repo="me/demo")
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["demo", "a/b/c", "me/", "/demo", "me/de mo", "me/a--b", "me/a..b", "me/x.git", "../x"]
)
def test_invalid_names_of_a_repository(name):
    with pytest.raises(UserError, match="--repo"):
        checked_repo(name)


def test_names_that_are_too_long():
    with pytest.raises(UserError, match="over 96 characters"):
        checked_repo("me/" + "x" * 94)
