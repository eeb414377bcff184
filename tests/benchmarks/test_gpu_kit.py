"""The kit that measures a card, in its small form: parts that fail, going on, and its page."""

import json
import re
import subprocess
import sys

import pytest
import torch

from benchmarks.dpo_speed import config_of
from benchmarks.gpu import __main__ as kit
from benchmarks.gpu import parts
from benchmarks.gpu.bench import PACKED, random_base
from benchmarks.gpu.figures import at_least, at_most, near, so
from benchmarks.gpu.longest import furthest
from benchmarks.gpu.looking import look_at
from benchmarks.gpu.page import page
from benchmarks.gpu.parts import PARTS, SHAPES, TINY, Part, Unit, named, units
from benchmarks.gpu.records import FAIL, NOT_RUN, PASS, ROOT, key_of, put, read
from dpo_lite.memory.cards import CARDS
from dpo_lite.model.base import load_base
from dpo_lite.model.text_model import from_config
from dpo_lite.recipe import ModelSection

ENVIRONMENT = PARTS[0]


def odd(name):
    return Part(name[0], name, "what it shows", f"tests.benchmarks.odd_parts:{name}", {"": (1, 0)})


@pytest.fixture
def kit_of(monkeypatch, tmp_path):
    """Run the kit with the environment and odd parts; returns its records by unit and its exit."""

    def run(names, *arguments):
        monkeypatch.setattr(parts, "PARTS", (ENVIRONMENT, *map(odd, names)))
        code = kit.main(["--small", "--out", str(tmp_path), *arguments])
        return {r["unit"]: r for r in read(tmp_path / "results.json")}, code

    return run


# --- what stands in the table --------------------------------------------------------------------


def test_all_letters_have_a_part_and_all_shapes_a_guess():
    assert {part.letter for part in PARTS} == set("abcdefghijkl")
    for unit in units(SHAPES):
        assert unit.seconds(None, small=False) > 0
    assert {*SHAPES, TINY} == set(PACKED)


def test_without_the_long_races_it_fits_on_a_card_of_the_middle():
    """25 minutes at the 60 TFLOP/s that the guesses are for; all of it on a faster one."""
    most = 25 * 60
    short = [u for u in units(SHAPES) if u.part.name not in ("race-ultra", "race-long")]
    assert sum(u.seconds(60.0, small=False) for u in short) < most
    assert sum(u.seconds(CARDS["h100"][1], small=False) for u in units(SHAPES)) < most


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("c", ["packing"]),
        ("race", [f"race-{w} {s}" for w in ("hh", "ultra", "long") for s in SHAPES]),
        ("peaks 8b", ["peaks 8b"]),
    ],
)
def test_parts_are_asked_for_by_letter_name_and_unit(word, expected):
    every = units(SHAPES)
    assert named([word], every) == set(expected)


def test_a_word_that_means_no_part_names_those_that_there_are(capsys, tmp_path):
    with pytest.raises(SystemExit):
        kit.main(["--small", "--out", str(tmp_path), "--parts", "speed"])
    assert (
        "there is no part speed; the parts are a environment, b attention"
        in capsys.readouterr().err
    )


def test_figures_are_held_to_their_limits():
    nan = float("nan")
    right = [at_most("x", 1.0, 1.0), at_least("x", 1, 1), near("x", 109.0, 100.0, 0.1)]
    wrong = [at_most("x", nan, 1.0), at_least("x", nan, 1), near("x", 111.0, 100.0, 0.1)]
    assert all(figure["passed"] for figure in [*right, so("x", True)])
    assert not any(figure["passed"] for figure in [*wrong, so("x", False)])
    assert json.loads(json.dumps(at_most("x", nan, 1.0)))["value"] == "nan"


def test_the_longest_is_found_by_bisection():
    for fitting in (0, 7, 64, 65, 999, 1024, 5000):
        assert furthest(lambda n, most=fitting: n <= most, 1024, 64) == min(
            fitting // 64 * 64, 1024
        )


# --- the models ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["0.5b", "8b"])  # the kinds: Qwen 2 and Llama
@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_a_drawn_base_is_as_a_loaded_one(size, quantization, tmp_path):
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    config = config_of(size, vocabulary=300)
    config = type(config)(**config.to_dict() | small | {"layer_types": None})
    type(from_config(config))(config).save_pretrained(tmp_path)
    loaded = load_base(ModelSection(base=str(tmp_path), quantization=quantization))
    drawn = random_base(config, quantization, torch.device("cpu"), torch.float32)

    def facts(model):
        modules = {name: type(module) for name, module in model.named_modules()}
        tensors = {n: (p.dtype, p.shape, p.requires_grad) for n, p in model.named_parameters()}
        return modules, tensors, {n: b.dtype for n, b in model.named_buffers()}

    assert facts(drawn) == facts(loaded)
    for flag in ("is_loaded_in_4bit", "is_quantized", "quantization_method", "training"):
        assert getattr(drawn, flag, None) == getattr(loaded, flag, None)
    rotation = {n: b for n, b in loaded.named_buffers()}
    assert all(torch.equal(rotation[n], b) for n, b in drawn.named_buffers())


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_part_that_fails_is_a_row_and_the_kit_goes_on(kit_of, capsys):
    names = ["over", "raises", "refuses", "dies", "well"]
    records, code = kit_of(names)
    assert code == 1
    assert {name: records[name]["state"] for name in names} == dict.fromkeys(names, FAIL) | {
        "well": PASS
    }
    assert records["environment"]["state"] == PASS
    assert re.fullmatch(r"ValueError in odd_parts\.py:\d+: first", records["raises"]["why"])
    assert records["refuses"]["why"] == "model.base: no."
    assert records["dies"]["why"] == "It was ended by 7 before it was done."
    for name in names[1:4]:  # what was found before stays
        assert [figure["what"] for figure in records[name]["figures"]] == ["before"]
    assert "over                 FAIL" in capsys.readouterr().out


def test_a_unit_over_its_limit_is_ended(tmp_path):
    found = look_at(Unit(odd("sleeps"), None), True, (TINY,), tmp_path, limit=1.0)
    assert found["why"] == "It was over its limit of 1 s before it was done."
    assert found["seconds"] < 10


def test_what_there_is_no_time_for_says_so(kit_of):
    records, code = kit_of(["well"], "--minutes", "0.1")
    assert code == 0
    assert records["well"]["state"] == NOT_RUN
    assert records["well"]["why"].startswith("no time left: it takes about 20 s, and ")


@pytest.mark.slow
def test_what_is_ended_for_want_of_time_was_not_run(kit_of, monkeypatch):
    monkeypatch.setattr(parts, "SMALL_SECONDS", 0.5)
    records, _ = kit_of(["sleeps"], "--minutes", "0.1")
    assert records["sleeps"]["state"] == NOT_RUN
    assert records["sleeps"]["why"].startswith("no time left: it was ended after ")


# --- going on ------------------------------------------------------------------------------------


def when(record):
    return record["figures"][0]["value"]


def test_it_goes_on_with_what_is_not_done(kit_of):
    first, _ = kit_of(["well", "over"], "--parts", "well")
    assert first["over"]["state"] == NOT_RUN
    assert first["over"]["why"] == "it was not asked for"
    second, _ = kit_of(["well", "over"])
    assert when(second["well"]) == when(first["well"])
    assert second["over"]["state"] == FAIL
    third, _ = kit_of(["well", "over"], "--again", "well")
    assert when(third["well"]) > when(first["well"])


def test_with_other_code_it_measures_anew_and_keeps_what_was(kit_of, monkeypatch, tmp_path):
    first, _ = kit_of(["well"])
    monkeypatch.setattr(kit, "code_version", lambda: "another")
    second, _ = kit_of(["well"])
    assert when(second["well"]) > when(first["well"])
    records = [r for r in read(tmp_path / "results.json") if r["unit"] == "well"]
    assert len({key_of(record) for record in records}) == len(records) == 2


# --- the page ------------------------------------------------------------------------------------


def test_the_page_is_made_from_the_json(kit_of, tmp_path):
    records, _ = kit_of(["over", "raises", "well"])
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    key = key_of(records["well"])
    assert text == page(read(tmp_path / "results.json"), key)
    assert "2 PASS, 2 FAIL, 0 not run, of 4." in text
    assert f"| raises |  | **FAIL** | 0 | {records['raises']['why']} |" in text
    assert "| a number | 3 | at most 2 | **FAIL** |" in text
    changed = {**records["well"], "state": FAIL, "why": "It is told what the file says."}
    told = page(put(tmp_path / "results.json", [changed]), key)
    assert "**FAIL** | 0 | It is told what the file says. |" in told


# --- all of it -----------------------------------------------------------------------------------


SHORT = {"environment", "attention", "packing", "identity", "out-of-memory", "answers"}
ALL = {part.name for part in PARTS} - {"race-ultra", "race-long"}  # they go the way of race-hh


@pytest.mark.slow
@pytest.mark.parametrize("asked", [SHORT, pytest.param(ALL, marks=pytest.mark.long)], ids=len)
def test_the_small_form_passes(tmp_path, asked):
    """As users run it: the kit forks, which this process, where tokenizers may have made threads,
    should not."""
    arguments = ["--small", "--out", str(tmp_path), "--parts", ",".join(sorted(asked))]
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    records = read(tmp_path / "results.json")
    assert [(r["unit"], r["why"], r["figures"]) for r in records if r["state"] == FAIL] == []
    assert done.returncode == 0, done.stderr[-2000:]
    states = {r["unit"]: r["state"] for r in records}
    left = {name for name, state in states.items() if state == NOT_RUN}
    assert left == {u.name for u in units((TINY,)) if u.part.name not in asked}
    assert len(states) == len(units((TINY,)))
