"""One key is changed; every other character of the user's file stays."""

import itertools

import pytest
import yaml

from dpo_lite.errors import UserError
from dpo_lite.recipe import RECIPES_FOLDER, known_keys, parse_yaml
from dpo_lite.recipe.edit import UNSET, inline, override_text, set_key
from dpo_lite.recipe.loading import dump_yaml

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


@pytest.mark.parametrize(
    ("override", "section"),
    [
        ("train.lr=2", "train:\n  lr: 2\n  loss: ipo # rest\n"),
        ("train.lr=1", "train:\n  lr: 1 # high\n  loss: ipo # rest\n"),
        ("train={lr: 2}", "train: {lr: 2}\n"),
        ("eval.prompts=[c]", "train:\n  lr: 1 # high\n  loss: ipo # rest\n"),
    ],
)
def test_a_comment_behind_a_value_that_an_override_changes_goes_with_it(override, section):
    """It may be about the old value alone; one behind several keys or above some stays."""
    others = "eval: {prompts: [PROMPT], generate: 1} # both\n"
    before = "train:\n  lr: 1 # high\n  loss: ipo # rest\n" + others.replace("PROMPT", "b")
    after = others.replace("PROMPT", "c" if "eval" in override else "b")
    assert override_text(before, [override]) == section + after


def test_broken_yaml_is_left_to_the_user():
    with pytest.raises(UserError, match="line 1"):
        set_key("train: [", "train.beta", 1)


VALUES = [0.25, 3, True, "auto", "5e-6", "no", "a: b # c", "", ["a", "b, c"], {"x": "1", "y": 2.5}]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=path.stem,
            marks=pytest.mark.slow if path.stem.startswith("quick") else pytest.mark.long,
        )
        for path in sorted(RECIPES_FOLDER.glob("*.yaml"))
    ],
)
def test_any_value_of_any_key_in_the_shipped_recipes(path):
    """The values are what was asked for, and each comment is still there."""
    text = path.read_text()
    comments = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
    first = len(text) % len(VALUES)  # another one in each recipe, and every fourth of the keys
    keys = list(known_keys())[first % 4 :: 4]
    for value, key in zip(itertools.cycle(VALUES[first:] + VALUES[:first]), keys):
        section, _, leaf = key.rpartition(".")
        edited = set_key(text, key, value)
        read = parse_yaml(edited, key)
        assert (read[section] if section else read)[leaf] == value
        kept = sum(comment in edited for comment in comments)
        assert kept == len(comments), (key, value)
        without = parse_yaml(set_key(edited, key, UNSET), key)
        assert leaf not in (without.get(section) or {} if section else without)


@pytest.mark.parametrize("path", sorted(RECIPES_FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_only_its_own_line_changes_in_the_shipped_recipes(path):
    text = path.read_text()
    for section, values in parse_yaml(text, "").items():
        for key, old in values.items() if isinstance(values, dict) else [("", values)]:
            if isinstance(old, list | dict):
                continue
            name = f"{section}.{key}" if key else section
            was, now = text.splitlines(True), set_key(text, name, 7).splitlines(True)
            (place,) = [i for i, (a, b) in enumerate(zip(was, now, strict=True)) if a != b]
            assert f"{key or section}: " in was[place]
            if "{" not in was[place] and (not key or len(values) > 1):
                del was[place]
                assert set_key(text, name, UNSET) == "".join(was)


LAYOUTS = {
    "columns": "  prompts:    null\n  seed:       3   \n",
    "lists of both kinds": "  a:\n  - x\n  b:\n    -   y\n",
    "braces": "  a: { x: 1,y: 2 }\n  b: [ 1,2 ]\n",
    "a list over lines": "  a: [\n    0.1,  # low\n    1.0,\n  ]\n",
    "text over lines": '  a: one\n    two\n  b: |\n     three\n  c: "four\n    five"\n',
    "words for nothing": "  a: ~\n  b:\n  c: Null\n",
    "numbers": "  a: +1\n  b: 5E-6\n  c: .5\n  d: 1_000\n  e: True\n",
    "comments anywhere": "  a: 1 # x\n# b: 2\n      # c\n\n\n",
}


@pytest.mark.parametrize("body", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_whatever_the_layout_of_the_rest(body, newline):
    before, after = f"---\n\neval:\n{body}".replace("\n", newline), "train:\n    "
    assert set_key(f"{before}{after}beta: 1 # !\n", "train.beta", 2) == (
        f"{before}{after}beta: 2 # !\n"
    )
    assert set_key(f"{before}{after}beta: 1 # !", "train.lr", 2) == (
        f"{before}{after}beta: 1 # !\n    lr: 2"
    )


def test_from_lines_of_text_to_a_list():
    assert set_key("a: |\n  x\n\nb: 1 # !\n", "a", ["y"]) == "a:\n  - y\n\nb: 1 # !\n"
    text = "eval:\n  prompts: |\n    x\n  limit: 1 # !\n"
    assert set_key(text, "eval.prompts", ["y"]) == text.replace(": |\n    x", ":\n    - y")


def test_inline_values_read_back():
    for value in VALUES:
        assert parse_yaml(f"{{a: {inline(value)}}}", "") == {"a": value}
        assert "\n" not in inline(value)


@pytest.mark.parametrize("end", ["\n", "\r", "\x85", "\u2028", "\u2029"])
def test_what_ends_a_line_in_yaml_is_kept_in_a_text(end):
    for text in (f"two{end}lines", f"{end}one", f"one{end}", f"a: b{end}# c"):
        assert parse_yaml(inline(text), "") == text
        assert parse_yaml(dump_yaml({"a": [text]}), "") == {"a": [text]}


def test_the_dump_reads_back_with_the_loader_of_recipes():
    assert yaml.safe_load(inline("5e-6")) == "5e-6"
