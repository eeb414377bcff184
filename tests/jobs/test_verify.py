"""Replaying a run: what is the same is said to be, and what is not, is told."""

import shutil

import pytest
from rich.console import Console

from dpo_lite.errors import UserError
from dpo_lite.files import read_json, write_json, write_text
from dpo_lite.jobs.train import start
from dpo_lite.jobs.verify import claim_of, judged, verify
from dpo_lite.recipe import load_recipe, to_yaml, validate_recipe
from dpo_lite.report.replay import REPLAY, replay_facts, verified, verified_words
from tests.cats import write_cats

QUIET = Console(quiet=True)
HERE = {"device": "cpu", "versions": {"torch": "2"}}


def facts(losses, **other):
    first = [{"step": n, "loss": loss} for n, loss in enumerate(losses, 1)]
    return HERE | {"updates": 9, "first": first} | other


def test_the_same_numbers_to_rounding():
    found = judged(facts([0.7, 0.6]), facts([0.7, 0.60001]), 2)
    assert found["reproduced"]
    assert found["apart"]["loss"] == pytest.approx(1e-5)
    assert "the first 2 of 9 updates" in verified_words(found | {"adapter": None})
    off = judged(facts([0.7, 0.6]), facts([0.7, 0.605]), 2)
    assert off["why"] == "loss differs by 0.005"
    assert "Not reproduced" in verified_words(off | {"adapter": None})
    assert judged(facts([0.7, 0.6]), facts([0.7, 0.605], device="A100"), 2)["reproduced"]
    assert not judged(facts([0.7, 0.6]), facts([0.7]), 2)["reproduced"]
    assert not judged(facts([0.7, 0.6]), facts([0.7, float("nan")]), 2)["reproduced"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_base):
    folder = tmp_path_factory.mktemp("verify")
    write_cats(folder, train=range(8), test=range(8, 10))
    values = {
        "model": {"base": tiny_base, "quantization": "none"},
        "data": {"train": str(folder / "train.jsonl"), "eval": str(folder / "test.jsonl")},
        "adapter": {"r": 4, "alpha": 8},
        "train": {"batch_size": 4, "epochs": 2, "lr": 1e-2, "warmup": 0.0},
        "eval": {"generate": 0, "max_new_tokens": 4},
        "run": {"folder": str(folder / "runs"), "name": "a"},
    }
    return start(validate_recipe(values, "test"), "a", QUIET)


@pytest.mark.slow
def test_a_run_is_reproduced_with_its_adapter(run):
    verdict = verify(claim_of("a", run.path.parent), QUIET, say=lambda text: None)
    assert verdict["reproduced"], verdict
    assert (verdict["updates"], verdict["of"]) == (4, 4)
    assert verdict["adapter"] < 1e-4
    assert verdict["apart"]["logps/chosen"] < 1e-3
    assert verified(run.path) == verdict
    assert "Reproduced on" in (run.path / "report.md").read_text()


@pytest.mark.long
@pytest.mark.slow
def test_what_was_published_is_held_against_it(run, tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    with pytest.raises(UserError, match=REPLAY):
        claim_of(str(folder), "runs")
    shutil.copyfile(run.recipe_file, folder / "recipe.yaml")
    write_json(folder / REPLAY, replay_facts(run))
    assert str(tmp_path.parent) not in (folder / REPLAY).read_text()
    claim = claim_of(str(folder), "runs")
    claim.recipe.train.lr = 3e-2
    verdict = verify(claim, QUIET, say=lambda text: None)
    assert "differs by" in verdict["why"]
    assert claim.run is None
    changed = read_json(folder / REPLAY)
    changed["data"]["fingerprint"] = "f" * 64
    write_json(folder / REPLAY, changed)
    with pytest.raises(UserError, match="The data are not those of the run"):
        verify(claim_of(str(folder), "runs"), QUIET, say=lambda text: None)
    claim.recipe.model.trust_remote_code = True
    write_text(folder / "recipe.yaml", to_yaml(claim.recipe))
    with pytest.raises(UserError, match="trust_remote_code"):
        claim_of(str(folder), "runs")


@pytest.mark.parametrize(
    "damaged", [{}, {"first": [{"step": 1, "loss": "x"}]}, {"data": {"fingerprint": 3}}]
)
def test_a_damaged_claim_is_one_sentence(tmp_path, damaged):
    (tmp_path / "recipe.yaml").write_text(to_yaml(load_recipe("quickstart")))
    sound = facts([0.7], data={"fingerprint": "f"})
    write_json(tmp_path / REPLAY, sound)
    assert claim_of(str(tmp_path), "runs").facts == sound
    write_json(tmp_path / REPLAY, sound | damaged if damaged else {})
    with pytest.raises(UserError, match="is damaged"):
        claim_of(str(tmp_path), "runs")
