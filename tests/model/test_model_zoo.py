"""The table of architectures: its command, its page, and three rows of it from end to end."""

import pytest
from transformers import CONFIG_MAPPING

from benchmarks.model_zoo.__main__ import PAGE, RESULTS, read
from benchmarks.model_zoo.architectures import ARCHITECTURES, GROUPS
from benchmarks.model_zoo.case import Case, Missed
from benchmarks.model_zoo.checks import GRADIENT, LOGPS
from benchmarks.model_zoo.looking import COLUMNS, cell, look_at
from benchmarks.model_zoo.page import WRONG, page
from dpo_lite.errors import UserError


def test_every_architecture_has_one_row():
    assert len(ARCHITECTURES) == sum(map(len, GROUPS.values())) > 100
    assert {each.kind for each in ARCHITECTURES.values()} <= set(CONFIG_MAPPING.keys())


def test_the_page_is_what_the_results_say():
    assert PAGE.read_text(encoding="utf-8") == page(read(RESULTS))


def raising(error):
    def look(case):
        raise error

    return look


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (Missed("5e-2 too much"), {"missed": "5e-2 too much"}),
        (UserError("model.base: no."), {"refused": "model.base: no."}),
        (ValueError("first\nsecond"), {"failed": "ValueError: first"}),
    ],
)
def test_what_goes_wrong_is_told_in_its_cell(error, found, tmp_path):
    told = cell(raising(error), Case(ARCHITECTURES["llama"], tmp_path))
    assert found.items() <= told.items()
    assert found.keys() <= set(WRONG)


def test_a_limit_leaves_a_row():
    cells = look_at("llama", ["loads", "resumes"], limit=0.01)
    told = {"failed": "over the limit of 0 s"}
    assert cells == {"loads": told, "resumes": told}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["qwen3_5_text", "qwen3_moe", "gemma3"])
def test_the_whole_way(name, tmp_path, monkeypatch):
    """A hybrid model, a mixture of experts and a published checkpoint with a tower."""
    monkeypatch.setenv("DPO_LITE_CACHE", str(tmp_path / "cache"))
    case = Case(ARCHITECTURES[name], tmp_path)
    cells = {column: cell(look, case) for column, look in COLUMNS.items()}
    assert [(c, cells[c]) for c in cells if cells[c].keys() & set(WRONG)] == []
    assert cells["way"]["way"] == "forest"
    assert cells["exact"]["logps"] < LOGPS
    assert cells["exact"]["gradient"] < GRADIENT
    assert cells["four bits"]["share"] > 0.9
