"""Whatever stands in a recipe ends as a valid recipe or in one sentence: keys and text alike."""

import time
from typing import Annotated, get_args, get_origin

import pytest
from pydantic import BaseModel

from dpo_lite.errors import UserError
from dpo_lite.recipe import Recipe, known_keys, load_recipe, parse_yaml, to_yaml, validate_recipe
from dpo_lite.recipe.kinds import MAX_DEPTH, impossible

MINIMAL = {"model": {"base": "builtin:myths"}, "data": {"train": "builtin:myths"}}


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = [value]
    return value


NONSENSE = [
    None,
    True,
    0,
    1,
    -1,
    7,
    2**31,
    2**32,
    2**63,
    2**64,
    10**30,
    10**400,
    10**5000,
    -(10**30),
    0.5,
    1e-300,
    5e-324,
    1e21,
    1e300,
    float("nan"),
    float("inf"),
    -float("inf"),
    "",
    " ",
    "\t\n",
    "x",
    "1",
    "1e999",
    "auto",
    "none",
    "[/red]",
    "[bold]x",
    "a\0b",
    "\x1b[31mred",
    "a\nb",
    "\u2028\x85\ufeff",
    "\ud800",
    "٣",
    "../../etc/passwd",
    "a/../b",
    "~",
    "(",
    "(a*)*" * 3,
    "x" * 300,
    "x" * 5000,
    "x" * 200_000,
    "%s{}{0}",
    b"bytes",
    object(),
    {1, 2},
    [],
    [[]],
    [None],
    [""],
    ["\0"],
    [1, "x", None],
    ["x"] * 30_000,
    ["x" * 90_000] * 3,
    nested(30),
    nested(5000),
    {},
    {"": ""},
    {1: 2},
    {None: None},
    {"x": None},
    {"x": float("nan")},
    {"x": nested(18)},
    {"\0": "\ud800"},
    {"train": {"lr": 10**400}},
    {"source": "x", "weight": -1},
    [{"source": "x", "weight": 1e-300}],
    [{"source": "\0"}],
]


def keys_of(model=Recipe, prefix=""):
    """Every key and every section, and the keys of the sections that stand in lists."""
    for name, field in model.model_fields.items():
        yield prefix + name
        inside = field.annotation
        if isinstance(inside, type) and issubclass(inside, BaseModel):
            yield from keys_of(inside, f"{prefix}{name}.")


def put(values, key, value):
    """Nested ``values`` with ``key`` set, the given ones untouched."""
    first, _, rest = key.partition(".")
    return values | {first: put(values.get(first, {}), rest, value) if rest else value}


def one_sentence(error):
    text = str(error)
    assert text.isprintable()
    assert len(text) < 4000
    return text


@pytest.mark.slow
@pytest.mark.parametrize("key", list(keys_of()))
def test_every_key_takes_a_value_or_refuses_it_in_a_sentence(key, tmp_path):
    """And what it takes, a file gives back unchanged."""
    for value in NONSENSE:
        try:
            recipe = validate_recipe(put(MINIMAL, key, value), "r.yaml")
        except UserError as error:
            one_sentence(error)
        else:
            again = validate_recipe(parse_yaml(to_yaml(recipe), "again"), "again")
            assert again == recipe, value


def test_the_keys_are_all_there_are():
    found = set(keys_of())
    assert set(known_keys()) <= found
    assert {"train", "rlhf.seeds", "data.train"} <= found


def numbers(annotation):
    """Whether a type holds a number, however deep."""
    if annotation in (int, float):
        return True
    parts = (
        get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    )
    return any(numbers(part) for part in parts)


@pytest.mark.parametrize(
    "key", [key for key, field in known_keys().items() if numbers(field.annotation)]
)
def test_every_number_has_both_bounds(key):
    if key == "data.where":  # compares with whatever a column holds
        return
    for value in (1e300, 10**19, -1e300, -(10**19)):
        for held in (value, [value]):
            with pytest.raises(UserError, match=key):
                validate_recipe(put(MINIMAL, key, held), "r.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_steps=1e21", "at most 10,000,000, not 10{21} .stop after so many updates."),
        ("train.epochs=1e300", "at most 10,000, not 1e[+]300 .passes over the training data."),
        ("train.epochs=1e-12", "at least 1e-06, not 1e-12"),
        ("train.lr=1e-300", "train.lr: must be at least 1e-12"),
        ("train.lr=-1", "train.lr: must be above 0, not -1"),
        ("train.max_grad_norm=1e-300", "train.max_grad_norm: must be at least 1e-08"),
        ("train.beta=1e300", "train.beta: must be at most 1,000, or 'auto'"),
        (f"train.batch_size={10**9}", "train.batch_size: must be at most 1,000,000"),
        (f"train.seed={2**32}", "train.seed: must be at most 4,294,967,295"),
        (f"data.limit={10**30}", "data.limit: must be at most 1e[+]12"),
        ("hub.repo=../x", "hub.repo: must be written as user/name"),
        ("hub.repo=a/b..c", "hub.repo: must be written as user/name, without"),
        ("eval.prompts=['']", "eval.prompts: entry 1: must not be empty"),
        ("run.folder=''", "run.folder: must not be empty"),
        ('run.folder="a\\0b"', "run.folder: must be one line without control characters"),
        ("adapter.targets=(", "adapter.targets: must be all-linear, .* or a regular expression"),
        ("adapter.targets=[]", "adapter.targets: .* at least one entry"),
        (f"train.seed={'9' * 5000}", "4300 digits"),
        (f"{'a.' * 40}b=1", "is no override"),
        ("train..beta=1", "is no override"),
        (f"{'x' * 9000}=1", "is no key of a recipe"),
        (f"train.beta={'[' * 1500}", "lists and mappings deep"),
        (f"train.loss={'x' * 9000}", "train.loss: must be"),
        (f"data.train={'x' * 300_000}", "over 256 KB"),
        ("train.beta=!!python/name:os.system", "tags"),
        ("train.beta=!!float x", "tags"),
    ],
)
def test_nonsense_on_the_command_line(override, message, tmp_path):
    path = tmp_path / "minimal.yaml"
    path.write_text("model: {base: builtin:myths}\ndata: {train: builtin:myths}\n")
    with pytest.raises(UserError, match=message) as caught:
        load_recipe(path, [override])
    one_sentence(caught.value)


@pytest.mark.parametrize("value", [None, 5, "x", [], [{}]])
@pytest.mark.parametrize("kind", ["sft", "reward", "ppo", "dpo"])
def test_a_section_of_a_step_is_a_section(kind, value):
    """Else it could not be merged with the recipe's, and the step would lose it or break off."""
    for name in ("train", "adapter", "data"):
        values = MINIMAL | {"task": "rlhf", "rlhf": {kind: {name: value}}}
        with pytest.raises(UserError, match=f"rlhf.{kind}: {name} must be a section"):
            validate_recipe(values, "r.yaml")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{this}: &{this} [{', '.join([f'*{last}'] * 9)}]\n"
    for last, this in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1500,
        "{" * 100_000,
        "- " * 5000 + "x",
        "".join(f"{' ' * depth}a:\n" for depth in range(600)),
        "a: x\n" * 2_000_000,
        "x" * 250_000,
        "".join(f"k{number}: 1\n" for number in range(24_000)),
        "[" + "a," * 120_000 + "]",
        "train: {" + ", ".join(f"k{number}: 1" for number in range(15_000)) + "}",
        BOMB,
        "<<: 3",
        "a: 1\na: 2\n",
        "? [a]\n: b\n",
        "model:\n\tbase: x\n",
        "a: 0b_",
        "a: " + "9" * 5000,
        "a: 2024-99-99",
        "a: !!timestamp x",
        "a: !!bool x",
        "a: !!binary '*'",
        "=: =",
        "a\0b: 1",
        "\ufeff",
        "%YAML 9.9\n---\na: 1",
        "--- 1\n--- 2\n",
        '"\\ud800": "\\ud800"',
        "#" * 200_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_text_that_is_no_recipe_is_one_sentence_and_soon(text, tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_text(text, encoding="utf-8")
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert time.process_time() - start < 10
    one_sentence(caught.value)


def test_a_date_is_text():
    assert parse_yaml("revision: 2024-01-31", "here") == {"revision": "2024-01-31"}


def test_depth_is_counted_without_recursion():
    assert impossible({"a": {"b": nested(MAX_DEPTH - 2)}}) is None
    assert "deep" in impossible({"a": {"b": nested(100_000)}})
