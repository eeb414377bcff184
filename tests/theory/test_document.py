"""docs/theory.md says what the code says, and the code says what the theory says."""

import re
from pathlib import Path

import pytest

from scripts.theory.document import fill, tables_in
from scripts.theory.frontier import place, shortfall
from scripts.theory.identities import EXACT, gradients, identities
from scripts.theory.learners import train_pairs
from scripts.theory.measure import BETA, margin, measure
from scripts.theory.pictures import draw
from scripts.theory.toy import all_pairs, optimal_policy, preferences, total_variation

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "theory.md"


@pytest.fixture(scope="module")
def measured():
    """Slow: whoever asks for it is marked so."""
    return measure()


@pytest.fixture(scope="module")
def best(measured):
    return optimal_policy(measured.world.reward, measured.world.reference, BETA)


NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def numbers(cell: str) -> list[float]:
    return [float(found.replace(",", "")) for found in NUMBER.findall(cell)]


@pytest.mark.long
def test_the_document_shows_the_measured_numbers(measured):
    shown = tables_in(DOCUMENT.read_text("utf-8"))
    assert shown.keys() == measured.tables.keys()
    for name, table in measured.tables.items():
        assert [row[0] for row in shown[name]] == [row[0] for row in table], name
        for there, here in zip(shown[name], table, strict=True):
            for old, new in zip(there, here, strict=True):
                assert NUMBER.sub("", old) == NUMBER.sub("", new), (name, here)
                near = pytest.approx(numbers(new), rel=0.03, abs=0.011)
                assert numbers(old) == near, (name, here)


@pytest.mark.long
def test_a_wrong_number_in_the_document_is_put_right(measured):
    text = "a\n<!-- numbers: frontier -->\n| old | 7 |\n<!-- end -->\nb"
    filled = fill(text, measured.tables)
    assert tables_in(filled)["frontier"] == measured.tables["frontier"]
    assert filled.startswith("a\n")
    assert filled.endswith("\nb")
    assert fill(filled, measured.tables) == filled


def test_every_function_the_document_names_is_in_the_file_it_links_to():
    links = re.findall(r"\[`(\w+)`\]\(\.\./([\w/]+\.py)\)", DOCUMENT.read_text("utf-8"))
    assert len(links) > 10
    for function, path in links:
        assert f"def {function}(" in (ROOT / path).read_text("utf-8"), (function, path)


@pytest.mark.long
def test_identities_hold_to_rounding(measured):
    for name, one_side, other_side in identities(measured.world, 0.3):
        assert (one_side - other_side).abs().max() < EXACT, name


@pytest.mark.long
def test_the_gradient_formula_is_not_compared_with_nothing(measured):
    auto, by_hand = gradients(measured.world, BETA)
    assert auto.norm() > 0.1
    assert (auto - by_hand).abs().max() < EXACT
    assert (auto + by_hand).abs().max() > 0.1


@pytest.mark.parametrize(
    "name",
    [
        "DPO, all pairs",
        "DPO, each answer in two pairs",
        "Plackett–Luce, 64 sets of four",
        "PPO, exact expectations",
        "PPO, 256 sampled answers",
    ],
)
@pytest.mark.long
def test_learners_reach_the_closed_form(measured, best, name):
    assert total_variation(measured.world.reference, best) > 0.5
    assert total_variation(measured.learners[name].logps, best) < 0.01


@pytest.mark.long
def test_learners_end_on_the_frontier(measured):
    for policies in measured.frontier.values():
        for logps in policies:
            assert abs(shortfall(measured.world, logps)) < 0.01


@pytest.mark.long
def test_swapped_preferences_lead_elsewhere(measured, best):
    """What would be learned from reversed labels is pi* of the reward -r, far from pi*."""
    world, pairs = measured.world, all_pairs()
    swapped = preferences(world.reward, pairs).flip(-1)
    trained = train_pairs(world, BETA, pairs, swapped).logps
    assert total_variation(trained, best) > 0.5
    opposite = optimal_policy(-world.reward, world.reference, BETA)
    assert total_variation(trained, opposite) < 0.01


@pytest.mark.long
def test_margins_of_dpo_grow_without_end_and_ipo_stops(measured):
    for name, trained in measured.long.items():
        margins = {
            update: margin(measured.world, trained.path[update], measured.long_weights)
            for update in (100, 316, 1000)
        }
        if name.startswith("DPO"):
            assert margins[100] + 2 < margins[316] < margins[1000] - 2
        else:
            target = 1 / (2 * float(name.rpartition("= ")[2]))
            assert margins[1000] == pytest.approx(target, rel=0.02)


@pytest.mark.long
def test_more_comparisons_bring_dpo_to_the_frontier(measured):
    gaps = [shortfall(measured.world, trained.logps) for trained in measured.few["DPO"]]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 1
    assert gaps[-1] < 0.02


@pytest.mark.long
def test_the_frontier_bounds_every_policy(measured):
    assert place(measured.world, measured.world.reference)[1] == 0
    everyone = [t.logps for t in (*measured.few["DPO"], *measured.few["IPO"])]
    assert min(shortfall(measured.world, logps) for logps in everyone) > -1e-3


@pytest.mark.long
def test_pictures_are_drawn(measured, tmp_path):
    draw(measured, tmp_path)
    drawn = sorted(file.name for file in tmp_path.iterdir())
    assert drawn == ["theory-convergence.png", "theory-few.png", "theory-frontier.png"]
    for name in drawn:
        assert f"]({name})" in DOCUMENT.read_text("utf-8")
        assert (DOCUMENT.parent / name).is_file()
