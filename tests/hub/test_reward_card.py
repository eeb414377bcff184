"""The card of a reward model: what it is, how it is loaded, and what goes up with it."""

import re

import pytest
from huggingface_hub import ModelCard

from dpo_lite.files import write_json
from dpo_lite.hub.push import preview
from dpo_lite.objectives.calibration import reliability


@pytest.fixture
def run(make_run):
    run = make_run(task="reward")
    metrics = {"rewards/accuracies": 0.75, "rewards/margins": 1.1, "loss": 0.48}
    metrics["calibration"] = reliability([1.0, 2.0, 0.5, -0.7])
    metrics["counts"] = {"rewards/accuracies": {"successes": 3, "n": 4, "ties": 0}}
    write_json(run.path / "results.json", {"sets": {"test": metrics}})
    write_json(run.adapter / "reward.json", {"mean": -0.25, "responses": 100})
    (run.path / "samples.jsonl").unlink()
    return run


def test_the_metadata(run):
    data = ModelCard(preview(run, repo="me/demo").card).data
    assert data.pipeline_tag == "text-classification"
    assert {"reward-model", "lora"} <= set(data.tags)
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found["accuracy"] == 0.75
    assert found["expected_calibration_error"] == pytest.approx(0.2, abs=0.2)
    assert {result.task_type for result in data.eval_results} == {"text-classification"}


FACTS = (
    "−log σ(r_chosen − r_rejected)",
    "0.01 · (r_chosen + r_rejected)²",
    "-0.2500",
    "AutoModelForSequenceClassification",
    "| test | accuracy, of 4 | 75.0% (30–95%) |",
    "| test | calibration error |",
    "![calibration](calibration.png)",
)


@pytest.mark.parametrize("fact", FACTS)
def test_the_card_says(run, fact):
    assert fact in preview(run, repo="me/demo").card


def test_a_base_without_a_class_for_it_is_used_here(run):
    classes = {"answers": "SeenForConditionalGeneration", "scalar": None}
    write_json(run.path / "manifest.json", run.manifest() | {"loads_as": classes})
    text = preview(run, repo="me/demo").card
    assert "no class with a scalar head" in text
    assert "AutoModelForSequenceClassification" not in text


def test_the_card_speaks_of_no_policy(run):
    text = preview(run, repo="me/demo").card
    assert not re.search(r"implicit|π|answers differ|AutoPeftModelForCausalLM|\breference", text)


def test_what_goes_up(run):
    names = {name for name, _ in preview(run, repo="me/demo").files}
    assert {"reward.json", "calibration.png", "curves.png"} <= names
    assert "optimizer.pt" not in names


def test_a_checkpoint_has_no_mean_yet(run):
    folder = run.checkpoints / "checkpoint-2"
    folder.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (folder / name).write_bytes((run.adapter / name).read_bytes())
    (folder / "trainer_state.json").write_text("{}")
    staged = preview(run, repo="me/demo", checkpoint="2")
    names = {name for name, _ in staged.files}
    assert names.isdisjoint({"reward.json", "calibration.png"})
    assert "-0.25" not in staged.card
    assert "calibration" not in staged.card
