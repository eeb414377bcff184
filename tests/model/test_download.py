"""Weights of a base come from the Hub with words on the way, and once."""

import json
import subprocess
import sys

import pytest

from dpo_lite.model import download
from dpo_lite.model.download import fetch_weights
from dpo_lite.recipe import ModelSection
from tests.fake_hub import FakeHub, Repo

FETCH = """
import json, sys
from dpo_lite.model import download
from dpo_lite.recipe import ModelSection
download.WORTH_TELLING = 1
told = []
for base in sys.argv[1:]:
    told.append([])
    download.fetch_weights(ModelSection(base=base), told[-1].append)
print(json.dumps(told))
"""


@pytest.mark.slow
def test_shards_are_told_one_by_one_and_fetched_once(tmp_path):
    """What the Hub does not have is left to the loading, which knows why."""
    index = {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}}
    shards, one = Repo(private=False), Repo(private=False)
    shards.files = {
        "model.safetensors.index.json": json.dumps(index).encode(),
        "m-1.safetensors": b"x" * 4000,
        "m-2.safetensors": b"y" * 2000,
    }
    one.files = {"model.safetensors": b"x" * 4000}
    bases = ["org/shards", "org/shards", "org/one", "org/one", "org/nothing"]
    with FakeHub() as hub:
        hub.repos |= {"org/shards": shards, "org/one": one}
        told = subprocess.run(
            [sys.executable, "-c", FETCH, *bases],
            env=hub.environment(tmp_path, None),
            capture_output=True,
            text=True,
            check=True,
        )
        first, again, single, single_again, nothing = json.loads(told.stdout)
        assert hub.seen("GET", "m-1.safetensors") == 1
    assert any(line.startswith("downloading org/shards, file 1 of 2: ") for line in first)
    assert any(line.startswith("downloading org/shards, file 2 of 2: ") for line in first)
    assert single[-1] == "downloading org/one: 0.00 of 0.00 GB"
    assert again == single_again == nothing == []


def test_a_folder_is_not_looked_for_on_the_hub(tiny_base, monkeypatch):
    monkeypatch.setattr(download, "huggingface_hub", None)
    fetch_weights(ModelSection(base=tiny_base), print)
    fetch_weights(ModelSection(base="builtin:myths"), print)
