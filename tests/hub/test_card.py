"""The card says the run's facts, and huggingface_hub can read it."""

import pytest
from huggingface_hub import ModelCard

from dpo_lite.files import write_json
from dpo_lite.hub import card, card_metadata
from dpo_lite.hub.licence import base_licence
from dpo_lite.hub.push import preview
from dpo_lite.names import is_public, plain_name
from tests.hub.conftest import MANIFEST, RESULTS


def read(run, **options) -> ModelCard:
    return ModelCard(preview(run, repo="me/demo", **options).card)


def test_the_metadata(run):
    data = read(run).data
    assert data.base_model == "some/base"
    assert data.base_model_relation == "adapter"
    assert (data.library_name, data.pipeline_tag) == ("peft", "text-generation")
    assert data.datasets == ["some/pairs"]
    assert {"dpo", "lora"} <= set(data.tags)
    scores = {result.metric_type: result.metric_value for result in data.eval_results}
    assert scores == {"accuracy": 0.75, "rewards/margins": 1.1, "loss": 0.48}
    assert data.eval_results[0].dataset_type == "some/pairs"
    found = {result.metric_type: result.metric_args for result in data.eval_results}
    assert found["accuracy"] == {"n": 48, "interval_95": [0.6122, 0.8508]}
    assert found["loss"] is None


FACTS = (
    "β = 0.1",
    "−log σ(r_chosen − r_rejected)",
    "arXiv:2305.18290",
    "base, adapters off",
    "f00d",
    "1,234 examples",
    "a" * 40,
    "rank 16, alpha 32",
    "5e-06, cosine",
    "16 examples per update",
    "| held out | test 50 |",
    "| test | reward accuracy, of 48 (2 ties left out) | – | 75% (61–85%) |",
    "In brackets the 95 % interval (Wilson).",
    "torch 2.13.0",
    "curves.png",
    'AutoPeftModelForCausalLM.from_pretrained("me/demo"',
    "## Limits",
)


@pytest.mark.parametrize("fact", FACTS)
def test_the_card_says(run, fact):
    assert fact in read(run).text


def test_a_base_is_a_link_where_it_is_on_the_hub():
    assert card._model("some/base") == "[some/base](https://huggingface.co/some/base)"
    assert "](" not in card._model("builtin:myths")


def test_results_of_a_run_that_kept_no_numbers(run):
    """What was scored then were the first rows of each set, and of how many stands nowhere."""
    old = {name: m | {"counts": {}} for name, m in RESULTS["sets"].items()}
    write_json(run.path / "results.json", {"sets": old})
    data = {key: value for key, value in MANIFEST["data"].items() if key != "drawn_from"}
    write_json(run.path / "manifest.json", MANIFEST | {"data": data})
    text = read(run).text
    assert "| test | reward accuracy | – | 75% |" in text
    assert "| held out | test 50 |" in text
    assert "Wilson" not in text


@pytest.mark.parametrize(
    ("drawn_from", "count", "words"),
    [
        ({"test": 148}, 4, "test 4 of 148, drawn by the seed"),
        ({}, 3, "test 3"),
        (None, 148, "test 4, the first of 148"),  # of a run before rows were drawn
        (None, 3, "test 3"),
    ],
)
def test_what_the_results_are_of(make_run, drawn_from, count, words):
    run = make_run(eval={"limit": 4})
    data = MANIFEST["data"] | {"held_out": {"test": count}, "drawn_from": drawn_from}
    if drawn_from is None:
        del data["drawn_from"]
    write_json(run.path / "manifest.json", MANIFEST | {"data": data})
    assert f"| held out | {words} |" in read(run).text


@pytest.mark.slow
def test_a_checkpoints_rates_have_their_numbers(run):
    folder = run.checkpoints / "checkpoint-2"
    folder.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (folder / name).write_bytes((run.adapter / name).read_bytes())
    (folder / "trainer_state.json").write_text("{}")
    measured = {"eval_test_rewards/accuracies": 0.75, "eval_test_pairs": 8, "eval_test_loss": 0.5}
    run.append("metrics.jsonl", {"step": 2} | measured)
    text = read(run, checkpoint="2").text
    assert "| eval_test_rewards/accuracies | 75.0% (6 of 8, 41–93%) |" in text
    assert "| eval_test_loss | 0.5 |" in text
    assert "In brackets" in text


def test_a_published_class_is_named_whose_names_the_adapter_has(run):
    classes = {"answers": "SeenForConditionalGeneration", "scalar": None}
    write_json(run.path / "manifest.json", MANIFEST | {"loads_as": classes})
    text = read(run).text
    assert "import AutoTokenizer, SeenForConditionalGeneration" in text
    assert 'SeenForConditionalGeneration.from_pretrained("some/base"' in text
    assert 'PeftModel.from_pretrained(base, "me/demo")' in text
    assert "AutoPeft" not in text


def test_what_a_model_wrote_stays_text(run):
    nasty = "```\n# a heading <img src=x>\n````"
    for when in ("before", "after"):
        run.append("samples.jsonl", {"when": when, "set": "p", "prompt": nasty, "answer": nasty})
    text = read(run).text
    assert f"`````text\n{nasty}\n`````" in text


def test_data_of_ones_own_are_named_by_their_file(make_run):
    found = read(make_run(data={"train": "/home/somebody/pairs.jsonl"}))
    assert found.data.datasets is None
    assert "pairs.jsonl (a file of the author)" in found.text
    assert "/home" not in found.text


@pytest.mark.parametrize("base", ["builtin:myths", "./a folder"])
def test_what_is_no_id_of_the_hub_has_no_licence_and_is_not_asked_for(base):
    assert base_licence(base) == {}


def test_a_base_that_cannot_be_asked_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    waits = []
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", waits.append)
    assert base_licence("some/base") == {}
    assert not waits


def test_the_licence_of_the_base(run, monkeypatch, tmp_path):
    cached = tmp_path / "README.md"
    cached.write_text("---\nlicense: other\nlicense_name: llama3.2\nfoo: [\n---\n")
    monkeypatch.setattr("dpo_lite.hub.licence._card", lambda base: cached)
    assert base_licence("some/base") == {}  # its metadata cannot be read: nothing is claimed
    cached.write_text("---\nlicense: other\nlicense_name: llama3.2\nlicense_link: LICENSE\n---\n")
    licence = {"license": "other", "license_name": "llama3.2", "license_link": "LICENSE"}
    assert base_licence("some/base") == licence
    monkeypatch.setattr(card_metadata, "base_licence", base_licence)
    assert read(run).data.license_name == "llama3.2"


def test_a_quantised_copy_names_its_base(make_run):
    run = make_run(model={"base": "lab/base-bnb-4bit"})
    write_json(run.path / "manifest.json", MANIFEST | {"quantised_from": "some/base"})
    found = read(run)
    assert found.data.base_model == "some/base"
    assert "quantised copy [lab/base-bnb-4bit]" in found.text
    assert 'AutoTokenizer.from_pretrained("lab/base-bnb-4bit")' in found.text


def test_public_names(tmp_path):
    assert is_public("Qwen/Qwen3-4B")
    assert is_public("HuggingFaceH4/ultrafeedback_binarized:train_prefs")
    assert is_public("some/pairs@main:config:train")
    private = [
        "builtin:myths",
        str(tmp_path),
        "./base",
        "~/x",
        "C:\\data\\x",
        "a/b/c",
        "data/p.jsonl",
    ]
    assert not any(map(is_public, [*private, f"{tmp_path}:train", "p.csv.gz"]))


def test_names_of_one_model():
    names = ["unsloth/Llama-3.2-1B-bnb-4bit", "meta-llama/Llama-3.2-1B", "/models/llama-3.2-1b/"]
    assert {plain_name(name) for name in names} == {"llama-3.2-1b"}
    assert plain_name("Qwen/Qwen3-4B") != plain_name("Qwen/Qwen3-8B")
