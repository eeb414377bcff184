"""Damaged files of bases and adapters: one sentence with the file, never the reader's own words."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dpo_lite.data.examples import Reason
from dpo_lite.data.prepare import prepare
from dpo_lite.errors import UserError
from dpo_lite.model.adapter_files import adapter_folder
from dpo_lite.model.base import load_base, load_tokenizer
from dpo_lite.model.safetensors_header import files_of_index
from dpo_lite.model.tensor_files import load_tensors
from dpo_lite.recipe import DataSection, Recipe
from dpo_lite.training.recipe_data import load_data

NOTE = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n"


def halve(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def replaced(old, new):
    def damage(path):
        content = path.read_bytes()
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new))

    return damage


DAMAGE = [
    (lambda path: path.write_bytes(NOTE), "only Git LFS's note.*git lfs pull"),
    (halve, "is cut short; copy or download it again"),
    (lambda path: path.write_bytes(path.read_bytes()[:5]), "no safetensors file, or it is cut"),
    (lambda path: path.write_bytes(path.read_bytes() + b"a"), "something behind its last tensor"),
]
NO_FILE = "no safetensors file, or it is cut"
OF_HEADER = [
    (replaced(b"[1000]", b"[1001]"), NO_FILE),
    (replaced(b"[1000]", b"[-100]"), NO_FILE),
    (replaced(b'"F32"', b'"F99"'), NO_FILE),
    (replaced(b"[0,4000]", b"[4,4000]"), NO_FILE),
    (lambda path: path.write_bytes((9000).to_bytes(8, "little") + b"[" * 9000), NO_FILE),
]


@pytest.fixture
def base(tiny_base, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    return folder


def section(folder):
    return Recipe(model={"base": str(folder), "quantization": "none"}, data={"train": "a"}).model


@pytest.mark.parametrize(("damage", "words"), [*DAMAGE, *OF_HEADER])
def test_tensors_of_a_damaged_file(damage, words, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(1000)}, path)
    assert load_tensors(path)["a"].sum() == 1000
    damage(path)
    with pytest.raises(UserError, match=rf"a\.safetensors .*{words}"):
        load_tensors(path)


@pytest.mark.parametrize(("damage", "words"), DAMAGE)
def test_an_adapter_of_a_damaged_file(damage, words, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    save_file({"a": torch.ones(1000)}, tmp_path / "adapter_model.safetensors")
    assert adapter_folder(str(tmp_path)) == tmp_path
    damage(tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match=words):
        adapter_folder(str(tmp_path))


@pytest.mark.parametrize(("damage", "words"), DAMAGE[1:])
def test_a_base_with_damaged_weights(damage, words, base):
    damage(base / "model.safetensors")
    with pytest.raises(UserError, match=rf"^model\.base: .*model\.safetensors .*{words}"):
        load_base(section(base))


def test_a_base_of_which_a_file_is_missing(base):
    """As a download that was broken off leaves it."""
    shards = {
        "a.weight": "model-00001-of-00002.safetensors",
        "b": "model-00002-of-00002.safetensors",
    }
    (base / "model.safetensors").rename(base / "model-00001-of-00002.safetensors")
    index = base / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    words = r"has 1 of the 2 files of its weights, and not model-00002-of-00002\.safetensors; copy"
    with pytest.raises(UserError, match=rf"^model\.base: .*{words}"):
        load_base(section(base))


def test_a_base_whose_clone_has_notes_in_place_of_files(base):
    (base / "model.safetensors").write_bytes(NOTE)
    (base / "tokenizer.json").write_bytes(NOTE)
    words = r"only Git LFS's notes of model\.safetensors, tokenizer\.json; `git lfs pull`"
    for load in (load_base, load_tokenizer):
        with pytest.raises(UserError, match=words):
            load(section(base))


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_settings_that_were_cut_short(name, base):
    halve(base / name)
    with pytest.raises(UserError, match=rf"^model\.base: .*{name} is no JSON, or it is cut short"):
        (load_tokenizer if name.startswith("tokenizer") else load_base)(section(base))


def test_a_tokenizer_of_another_kind(base):
    (base / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"^model\.base: .* does not load: "):
        load_tokenizer(section(base))


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    texts = [{"prompt": f"why {n}", "chosen": "it sat", "rejected": "it ran"} for n in range(4)]
    texts[1]["chosen"] = "a <new> one"
    path.write_text("".join(json.dumps(row) + "\n" for row in texts))
    return str(path)


def test_a_token_beyond_the_embedding_is_found_in_the_data(base, rows):
    """Training would end in an index that is out of range."""
    recipe = Recipe(model=section(base), data={"train": rows, "format": "triples"})
    tokenizer = load_tokenizer(recipe.model)
    size = len(tokenizer)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(base)
    report = load_data(recipe)[1].report
    drop = report.dropped[Reason.BEYOND]
    assert drop.rows == [1]
    detail = f"'<new>' is number {size} of {size} rows in the base's embedding"
    assert drop.examples == [{"row": 1, "detail": detail}]


def test_a_template_beyond_the_embedding_leaves_no_row(rows, chat_tokenizer):
    words = r"no row of 4 is left .*4 a token that the base has no row for, such as row 0: '<\|im_"
    with pytest.raises(UserError, match=words):
        prepare(DataSection(train=rows), chat_tokenizer, vocabulary=1)
    fine = prepare(DataSection(train=rows), chat_tokenizer, vocabulary=len(chat_tokenizer))
    assert Reason.BEYOND not in fine.report.dropped
    assert Path(rows).is_file()


@pytest.mark.parametrize(
    "text", ["{", "[1]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}']
)
def test_an_index_that_names_no_files(text, tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text('{"weight_map": {"a": "2.safetensors", "b": "1.safetensors"}}')
    assert files_of_index(path) == ["1.safetensors", "2.safetensors"]
    path.write_text(text)
    with pytest.raises(UserError, match="copy"):
        files_of_index(path)
