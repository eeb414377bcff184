"""One key is changed; every other character of the user's file stays."""

import pytest
import yaml

from dpo_lite.errors import UserError
from dpo_lite.recipe import RECIPES_FOLDER, known_keys, parse_yaml
from dpo_lite.recipe.edit import UNSET, inline, set_key

TEXT = """\
# my recipe
model: {base: builtin:myths, quantization: nf4}  # small

train:
  beta: 0.1                  # pull

  # the rate
  lr: 5.0e-6
eval:
  prompts:                   # answered before and after
    - Are bats blind?        # the first
    - |
      Two
      lines

# the end
"""


def changed(key, value, text=TEXT):
    """The lines that went and came."""
    new = set_key(text, key, value)
    old, new = text.splitlines(), new.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


@pytest.mark.parametrize(
    ("key", "value", "gone", "came"),
    [
        (
            "train.beta",
            0.05,
            ["  beta: 0.1                  # pull"],
            ["  beta: 0.05                  # pull"],
        ),
        ("train.lr", 1e-5, ["  lr: 5.0e-6"], ["  lr: 1.0e-5"]),
        ("train.epochs", 2, [], ["  epochs: 2"]),
        (
            "model.base",
            "a, b",
            ["model: {base: builtin:myths, quantization: nf4}  # small"],
            ["model: {base: 'a, b', quantization: nf4}  # small"],
        ),
        (
            "model.revision",
            "main",
            ["model: {base: builtin:myths, quantization: nf4}  # small"],
            ["model: {base: builtin:myths, quantization: nf4, revision: main}  # small"],
        ),
        (
            "model.base",
            UNSET,
            ["model: {base: builtin:myths, quantization: nf4}  # small"],
            ["model: {quantization: nf4}  # small"],
        ),
        ("train.beta", UNSET, ["  beta: 0.1                  # pull"], []),
        ("task", "dpo", [], ["task: dpo"]),
        ("hub.private", False, [], ["hub:", "  private: false"]),
        (
            "eval.prompts",
            ["One: two", "x\ny"],
            ["    - Are bats blind?        # the first", "    - |", "      Two", "      lines"],
            ["    - 'One: two'", '    - "x\\ny"'],
        ),
    ],
)
def test_only_the_lines_of_the_key_change(key, value, gone, came):
    assert changed(key, value) == (gone, came)


def test_a_section_goes_with_its_last_key():
    text = set_key(set_key(TEXT, "train.beta", UNSET), "train.lr", UNSET)
    assert "train" not in parse_yaml(text, "")
    assert "# the end" in text


def test_from_one_line_to_a_block_and_back():
    text = "eval:\n  prompts: null  # none\n  limit: 3\n"
    block = "eval:\n  prompts:  # none\n    - a\n    - b\n  limit: 3\n"
    assert set_key(text, "eval.prompts", ["a", "b"]) == block
    assert set_key(block, "eval.prompts", None) == text
    assert set_key("eval: {prompts: []}", "eval.prompts", ["a"]) == "eval: {prompts: [a]}"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "train:\n", "train: {}\n", "[1, 2]"])
def test_texts_with_little_in_them(text):
    assert parse_yaml(set_key(text, "train.beta", 0.2), "") == {"train": {"beta": 0.2}}


def test_broken_yaml_is_left_to_the_user():
    with pytest.raises(UserError, match="line 1"):
        set_key("train: [", "train.beta", 1)


VALUES = [0.25, 3, True, "auto", "5e-6", "no", "a: b # c", "", ["a", "b, c"], {"x": "1", "y": 2.5}]


@pytest.mark.parametrize("path", sorted(RECIPES_FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_any_value_of_any_key_in_the_shipped_recipes(path):
    """The values are what was asked for, and each comment is still there."""
    text = path.read_text()
    comments = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
    for place, key in enumerate(known_keys()):
        section, _, leaf = key.rpartition(".")
        for value in (VALUES[place % len(VALUES)], VALUES[(place + 3) % len(VALUES)]):
            edited = set_key(text, key, value)
            read = parse_yaml(edited, key)
            assert (read[section] if section else read)[leaf] == value
            kept = sum(comment in edited for comment in comments)
            assert kept == len(comments), (key, value)
        without = parse_yaml(set_key(text, key, UNSET), key)
        assert leaf not in (without.get(section, {}) if section else without)


def test_inline_values_read_back():
    for value in VALUES:
        assert parse_yaml(f"{{a: {inline(value)}}}", "") == {"a": value}
        assert "\n" not in inline(value)


def test_the_dump_reads_back_with_the_loader_of_recipes():
    assert yaml.safe_load(inline("5e-6")) == "5e-6"
