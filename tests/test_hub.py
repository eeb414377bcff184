"""What would be published, from the facts of a run; nothing here touches a network."""

import json

import pytest
from huggingface_hub import ModelCard

from dpo_lite.errors import UserError
from dpo_lite.hub import push, stage
from dpo_lite.model_id import is_public
from dpo_lite.recipe import to_yaml, validate_recipe
from dpo_lite.runs import Run, write_json, write_text

RESULTS = {
    "sets": {
        "test": {
            "likelihood": {"reference": 0.4, "policy": 0.8},
            "generation": {"reference": None, "policy": None},
            "rewards/accuracies": 0.75,
            "rewards/margins": 1.1,
            "loss": 0.48,
        }
    }
}


@pytest.fixture
def finished(tmp_path):
    """The files of a finished run, without the training."""
    run = Run(tmp_path / "demo-1")
    run.adapter.mkdir(parents=True)
    recipe = validate_recipe(
        {"model": {"base": "some/base"}, "data": {"train": "some/pairs:train"}}, "test"
    )
    write_text(run.recipe_file, to_yaml(recipe))
    write_json(run.path / "results.json", RESULTS)
    write_json(
        run.path / "manifest.json",
        {
            "dpo_lite": "0",
            "base_revision": "abc123",
            "reference": "base, adapters off",
            "quantization": "nf4",
            "data": {"fingerprint": "f00", "examples": 100},
        },
    )
    (run.path / "curves.png").write_bytes(b"png")
    (run.adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (run.adapter / "training_args.bin").write_bytes(b"may hold a token")
    (run.adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(tmp_path), "r": 16})
    )
    run.append("samples.jsonl", {"when": "before", "set": "p", "prompt": "Why?", "answer": "no"})
    run.append("samples.jsonl", {"when": "after", "set": "p", "prompt": "Why?", "answer": "yes"})
    run.update_status(state="finished")
    return run


def test_exactly_the_listed_files(finished, tmp_path):
    folder = tmp_path / "staged"
    folder.mkdir()
    staged = stage(finished, "me/demo", None, folder)
    assert [name for name, _ in staged.files] == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "curves.png",
        "metrics.json",
        "recipe.yaml",
    ]
    assert staged.private
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "some/base"
    assert config["revision"] == "abc123"
    for path in folder.iterdir():
        assert str(tmp_path) not in path.read_bytes().decode(errors="replace"), path.name


def test_the_card_says_the_facts(finished, tmp_path):
    folder = tmp_path / "staged"
    folder.mkdir()
    card = ModelCard(stage(finished, "me/demo", None, folder).card)
    assert card.data.base_model == "some/base"
    assert card.data.library_name == "peft"
    assert card.data.datasets == ["some/pairs"]
    for fact in ("beta 0.1", "base, adapters off", "f00", "75%", "before: no", "after: yes"):
        assert fact in card.text


def test_dry_run_needs_no_token(finished, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecretsecret")
    staged, url = push(finished, "me/demo", None, dry_run=True)
    assert url == ""
    assert "secret" not in staged.card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "stopped"}, "is stopped, not finished"),
        ({"base": "builtin:myths"}, "is not on the Hub"),
        ({"repo": None}, "Where to"),
    ],
)
def test_refusals(finished, change, message):
    if "state" in change:
        finished.update_status(state=change["state"])
    if "base" in change:
        text = finished.recipe_file.read_text().replace("some/base", change["base"])
        write_text(finished.recipe_file, text)
    with pytest.raises(UserError, match=message):
        push(finished, change.get("repo", "me/demo"), None, dry_run=True)


def test_nobody_logged_in(finished, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="hf auth login"):
        push(finished, "me/demo", None, dry_run=False)


def test_public_names(tmp_path):
    assert is_public("Qwen/Qwen3-4B")
    assert not is_public("builtin:myths")
    assert not is_public(str(tmp_path))
    assert not is_public("./base")
