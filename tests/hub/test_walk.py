"""The whole walk: train, push, load by id in a fresh process, and get the same numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from dpo_lite.export.run import merge_run
from dpo_lite.jobs import train as job
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.choosing import true_token_logps
from dpo_lite.recipe import ModelSection, validate_recipe
from dpo_lite.training.loaded import load_trained
from tests.fake_hub import READ, WRITE, Repo
from tests.model.small_models import random_examples

EXAMPLES = random_examples(3, 2)
STRANGER = """
import json, sys, torch
from peft import AutoPeftModelForCausalLM
model = AutoPeftModelForCausalLM.from_pretrained("me/demo").eval()
found = []
for prompt, answer in json.loads(sys.argv[1]):
    ids = torch.tensor([prompt + answer])
    with torch.no_grad():
        logps = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    found += logps.gather(-1, torch.tensor(answer)[:, None]).squeeze(-1).tolist()
print(json.dumps(found))
"""


@pytest.fixture
def trained(tiny_base, tmp_path, hub, client):
    """A run whose recipe publishes it at the end, over a base that this Hub has, too."""
    files = {p.name: p.read_bytes() for p in Path(tiny_base).iterdir()}
    hub.repos["some/base"] = Repo(private=False, files=files)
    for split, numbers in {"train": range(16), "test": range(16, 20)}.items():
        rows = [{"prompt": f"cat {i}?", "chosen": "it sat", "rejected": "it ran"} for i in numbers]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    values = {
        "model": {"base": tiny_base, "quantization": "none"},
        "data": {"train": str(tmp_path / "train.jsonl"), "eval": str(tmp_path / "test.jsonl")},
        "train": {"lr": 1e-2, "batch_size": 8, "max_steps": 3},
        "eval": {"generate": 1, "max_new_tokens": 2},
        "run": {"folder": str(tmp_path / "runs"), "name": "demo-1"},
        "hub": {"repo": "me/demo", "push": "end", "base_id": "some/base"},
    }
    return job.start(validate_recipe(values, "test"), "demo", Console(quiet=True))


@pytest.mark.slow
def test_train_push_load(trained, hub, tmp_path, tiny_base):
    status = trained.status()
    assert status["state"] == "finished"
    assert status["published"] == f"{hub.url}/me/demo"
    _, _, model = load_trained(trained)
    with roles.policy(model):
        ours = true_token_logps(model.eval(), EXAMPLES)
    asked = [(e["prompt_ids"], a) for e in EXAMPLES for a in e["response_ids"]]
    stranger = subprocess.run(
        [sys.executable, "-c", STRANGER, json.dumps(asked)],
        capture_output=True,
        text=True,
        env=hub.environment(tmp_path / "stranger"),
        cwd=tmp_path,
    )
    assert stranger.returncode == 0, stranger.stderr[-2000:]
    theirs = torch.tensor(json.loads(stranger.stdout))
    assert (theirs - ours).abs().max() < 1e-4
    bare = true_token_logps(load_base(ModelSection(base=tiny_base, quantization="none")), EXAMPLES)
    assert (theirs - bare).abs().max() > 1e-2

    secrets = [WRITE.encode(), READ.encode()]
    for content in [*hub.repos["me/demo"].files.values(), *files_below(tmp_path)]:
        assert not any(secret in content for secret in secrets)
    for content in hub.repos["me/demo"].files.values():
        assert str(tmp_path).encode() not in content


def files_below(folder):
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_merge_a_run(trained, tmp_path):
    done = merge_run(trained, tmp_path / "merged", modelfile=True)
    assert done.change.per_token < 1e-5
    assert done.change.rows == 4
    assert done.change.prefers_chosen_before == done.change.prefers_chosen_after
    assert [line.split()[0] for line in done.commands] == ["python", "llama-quantize", "ollama"]
    names = {path.name for path in done.folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "Modelfile"} <= names
