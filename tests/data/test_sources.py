"""Where rows come from: builtin data, files, folders, shards, saved data sets, the Hub."""

import json
import os

import pytest
from datasets import Dataset, DatasetDict

from dpo_lite.data import sources
from dpo_lite.data.sources import read_source
from dpo_lite.errors import UserError


def write(path, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def prompts(source):
    return [row["prompt"] for row in source.rows()]


def test_builtin():
    source = read_source("builtin:myths")
    assert source.split == "train"
    assert len(source.held_out_splits) == 2
    other = read_source(source.sibling(source.held_out_splits[0]))
    assert other.key != source.key
    with pytest.raises(UserError, match="the builtin data are builtin:myths"):
        read_source("builtin:mythos")


def test_a_file_is_one_split(tmp_path):
    write(tmp_path / "pairs.jsonl", [{"prompt": "a"}])
    source = read_source(str(tmp_path / "pairs.jsonl"))
    assert (prompts(source), source.held_out_splits) == (["a"], [])
    assert prompts(source) == ["a"]  # rows() starts anew each time


def test_a_folder_holds_a_file_per_split(tmp_path):
    write(tmp_path / "train.jsonl", [{"prompt": "a"}])
    write(tmp_path / "test.jsonl", [{"prompt": "b"}])
    (tmp_path / "README.md").write_text("hello")
    source = read_source(str(tmp_path))
    assert (prompts(source), source.held_out_splits) == (["a"], ["test"])
    assert prompts(read_source(f"{tmp_path}:test")) == ["b"]
    assert prompts(read_source(source.sibling("test"))) == ["b"]
    with pytest.raises(UserError, match="has no split tst; it has test, train"):
        read_source(f"{tmp_path}:tst")


def test_shards_of_a_downloaded_data_set(tmp_path):
    for number, text in enumerate("abc"):
        Dataset.from_dict({"prompt": [text]}).to_parquet(
            str(tmp_path / f"data/train_prefs-0000{number}-of-00003.parquet")
        )
    for name in ("test_prefs", "test_sft"):
        Dataset.from_dict({"prompt": ["d"]}).to_parquet(
            str(tmp_path / f"data/{name}-00000-of-00001.parquet")
        )
    source = read_source(str(tmp_path))
    assert source.split == "train_prefs"
    assert prompts(source) == ["a", "b", "c"]
    assert source.held_out_splits == ["test_prefs"]


def test_missing_shards_are_missed(tmp_path):
    for number in (0, 2):
        write(tmp_path / f"train-0000{number}-of-00003.jsonl", [{"prompt": "a"}])
    with pytest.raises(UserError, match="holds 2 of 3 files of train"):
        read_source(str(tmp_path))


def test_a_split_in_two_files_is_a_question(tmp_path):
    write(tmp_path / "train.jsonl", [{"prompt": "a"}])
    (tmp_path / "train.csv").write_text("prompt\nb\n")
    with pytest.raises(UserError, match="has train more than once"):
        read_source(str(tmp_path))


def test_which_split_is_asked_where_several_train(tmp_path):
    for name in ("train_prefs", "train_sft"):
        write(tmp_path / f"{name}.jsonl", [{"prompt": name}])
    with pytest.raises(UserError, match=r"several splits: train_prefs, train_sft; write .*:train"):
        read_source(str(tmp_path))


def test_a_folder_with_one_file_needs_no_split(tmp_path):
    write(tmp_path / "pairs.jsonl", [{"prompt": "a"}])
    assert prompts(read_source(str(tmp_path))) == ["a"]


def test_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match=r"holds no \.jsonl"):
        read_source(str(tmp_path))


def test_saved_data_sets(tmp_path):
    data = DatasetDict(
        train=Dataset.from_dict({"prompt": ["a"]}), test=Dataset.from_dict({"prompt": ["b"]})
    )
    data.save_to_disk(str(tmp_path / "both"))
    data["train"].save_to_disk(str(tmp_path / "one"))
    source = read_source(str(tmp_path / "both"))
    assert (prompts(source), source.held_out_splits) == (["a"], ["test"])
    assert prompts(read_source(str(tmp_path / "both:test"))) == ["b"]
    assert prompts(read_source(str(tmp_path / "one"))) == ["a"]


def test_a_saved_data_set_is_known_by_its_content(tmp_path):
    """Its own fingerprint is of the function that made it, which may have read something new."""
    keys = set()
    for text in "ab":
        data = Dataset.from_dict({"prompt": [text]})
        data._fingerprint = "the same"
        data.save_to_disk(str(tmp_path / text))
        keys.add(read_source(str(tmp_path / text)).key)
    assert len(keys) == 2


def test_a_missing_file_names_its_neighbour(tmp_path):
    write(tmp_path / "pairs.jsonl", [{"prompt": "a"}])
    with pytest.raises(UserError, match=r"did you mean .*pairs.jsonl"):
        read_source(str(tmp_path / "pears.jsonl"))


@pytest.mark.parametrize("what", ["leads to nothing", "is a pipe or a device"])
def test_a_pipe_and_a_broken_link_are_told(tmp_path, what):
    path = tmp_path / "rows.jsonl"
    if "pipe" in what:
        os.mkfifo(path)
    else:
        path.symlink_to("rows.jsonl")
    with pytest.raises(UserError, match=what):
        read_source(str(path))


def test_the_key_is_of_the_content(tmp_path):
    write(tmp_path / "a.jsonl", [{"prompt": "a"}])
    write(tmp_path / "b.jsonl", [{"prompt": "a"}])
    key = read_source(str(tmp_path / "a.jsonl")).key
    assert read_source(str(tmp_path / "b.jsonl")).key == key
    write(tmp_path / "b.jsonl", [{"prompt": "b"}])
    assert read_source(str(tmp_path / "b.jsonl")).key != key


@pytest.fixture
def hub_repo(tmp_path, monkeypatch):
    """A data set laid out as on the Hub, with two configs; datasets' loading code takes folders."""
    monkeypatch.chdir(tmp_path)
    for config in ("plain", "extra"):
        for split in ("train", "test"):
            write(tmp_path / f"org/pairs/{config}/{split}.jsonl", [{"prompt": f"{config} {split}"}])
    (tmp_path / "org/pairs/README.md").write_text(
        "---\nconfigs:\n"
        + "".join(
            f"- config_name: {config}\n  data_files:\n"
            + "".join(
                f"  - split: {split}\n    path: {config}/{split}.jsonl\n"
                for split in ("train", "test")
            )
            for config in ("plain", "extra")
        )
        + "---\n"
    )
    return "org/pairs"


def test_the_hub_with_config_and_split(hub_repo):
    source = sources._hub(f"{hub_repo}:extra", None)
    assert (prompts(source), source.held_out_splits) == (["extra train"], ["test"])
    assert source.sibling("test") == "org/pairs:extra:test"
    assert prompts(sources._hub("org/pairs:plain:test", None)) == ["plain test"]
    with pytest.raises(UserError, match=r"several configs: .*; write org/pairs:"):
        sources._hub(hub_repo, None)
    with pytest.raises(UserError, match="has more parts than"):
        sources._hub("org/pairs:plain:train:more", None)
    with pytest.raises(UserError, match="several configs"):
        sources._hub("org/pairs:plian:train", None)
    with pytest.raises(UserError, match="has no split tset; it has"):
        sources._hub("org/pairs:plain:tset", None)


def test_a_name_that_is_nowhere(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="is no local file, and the Hub does not give it"):
        read_source("nobody/nothing")


def test_a_revision_is_passed_on(monkeypatch):
    import datasets

    asked = []

    def configs(repo, revision=None):
        asked.append((repo, revision))
        raise FileNotFoundError("stop here")

    monkeypatch.setattr(datasets, "get_dataset_config_names", configs)
    for spec, revision in (("org/name@v2", None), ("org/name", "v1"), ("org/name@v2:split", "v1")):
        with pytest.raises(UserError, match="stop here"):
            read_source(spec, revision)
    assert asked == [("org/name", "v2"), ("org/name", "v1"), ("org/name", "v2")]


def test_a_folder_of_llama_factory_holds_its_files(tmp_path):
    """Its dataset_info.json names files and is none of a saved data set."""
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}}')
    row = {"instruction": "a", "input": "", "chosen": "b", "rejected": "c"}
    (tmp_path / "mine.json").write_text(json.dumps([row]))
    assert list(read_source(str(tmp_path)).rows()) == [row]
