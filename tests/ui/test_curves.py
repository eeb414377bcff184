"""Curves: what is drawn for which run, where, and that a growing file is read once."""

import html
import json
import math
import re

import pytest

from dpo_lite.runs.tails import Tails
from dpo_lite.tasks import TASKS
from dpo_lite.ui import axes, curves


def lines(count, loss=0.7):
    return [
        {
            "step": i,
            "loss": loss - 0.001 * i,
            "rewards/chosen": -i / 100,
            "rewards/rejected": -i / 9,
        }
        for i in range(1, count + 1)
    ]


def polylines(svg, run=None):
    found = re.findall(r'<polyline class="dl-line[^"]*" data-run="([^"]*)" data-key="([^"]*)"', svg)
    return [pair for pair in found if run in (None, pair[0])]


def test_every_run_has_its_lines_in_its_own_colour():
    svg = curves.grid({"a": lines(30), "b": lines(10)})
    assert polylines(svg, "a") == [
        ("a", "loss"),
        ("a", "rewards/chosen"),
        ("a", "rewards/rejected"),
    ]
    assert len(polylines(svg)) == 6
    assert re.search(r'data-run="b"[^>]*--dl-series-2', svg)
    assert svg.count("dl-dashed") == 4  # raw and smoothed rejected rewards of both


def test_a_panel_has_one_size_whatever_the_data():
    sizes = [
        set(re.findall(r'viewBox="([^"]*)"', curves.grid(runs)))
        for runs in ({"a": []}, {"a": lines(1)}, {"a": lines(5000), "b": []})
    ]
    assert sizes[0] == sizes[1] == sizes[2] == {f"0 0 {curves.WIDTH} {curves.HEIGHT}"}


def test_a_panel_without_a_measurement_is_not_there():
    assert titles(curves.grid({"a": lines(3)})) == ["loss", "rewards: chosen, rejected (dashed)"]
    assert "loss" in titles(curves.grid({"a": []}))  # nothing has begun: it waits


def test_what_a_method_does_not_have_is_no_line():
    """GRPO logs the loss of a value that it does not train as 0."""
    records = [{"step": s, "loss/policy": s / 9, "loss/value": 0.0} for s in (1, 2)]
    svg = curves.grid({"g": records}, tasks={"g": TASKS["ppo"]})
    assert titles(svg) == ["loss: policy"]
    assert polylines(svg) == [("g", "loss/policy")]
    records[1]["loss/value"] = 0.5
    assert titles(curves.grid({"g": records}, tasks={"g": TASKS["ppo"]})) == [
        "loss: policy, value (dashed)"
    ]


def test_what_is_looked_at_is_drawn_and_nothing_else():
    svg = curves.grid({"a": lines(30)}, curves.View(0.0, window=(10.0, 12.5)))
    (read, *_) = to_read(svg)
    assert read["span"] == [10.0, 12.5]
    assert [step for step, _ in read["lines"][0]["at"]] == [10, 11, 12]
    for points in re.findall(r'points="([^"]*)"', svg):
        assert len(points.split()) == 3


def test_a_long_run_is_read_at_real_measurements():
    (read, *_) = to_read(curves.grid({"a": lines(1000)}))
    at = dict(read["lines"][0]["at"])
    assert len(at) <= curves.MOST_POINTS
    assert at[1] == "0.699"


def test_a_log_axis_needs_values_above_zero():
    records = [{"step": s, "loss": 10.0**-s, "rewards/margins": float(s - 1)} for s in (1, 2, 3)]
    svg = curves.grid({"a": records}, curves.View(0.0, log=True))
    (line, margin) = [
        re.findall(r"dl-line[^>]*points=\"([^\"]*)", part)[0] for part in svg.split("<figure")[1:3]
    ]
    rows = [float(pair.split(",")[1]) for pair in line.split()]
    assert rows[1] - rows[0] == pytest.approx(rows[2] - rows[1], abs=0.2)  # decades apart
    assert margin  # which begins at 0, and is drawn as it is


def test_all_that_is_drawn_lies_inside():
    odd = [{"step": 1, "loss": math.nan}, {"step": 2, "loss": 1e9}, {"step": 3, "loss": -5.0}]
    for records in (lines(3), lines(2000), odd, [{"step": 0, "loss": 0.0}]):
        for points in re.findall(r'points="([^"]*)"', curves.grid({"a": records})):
            for pair in points.split():
                x, y = map(float, pair.split(","))
                assert curves.LEFT - 0.1 <= x <= curves.WIDTH
                assert -0.1 <= y <= curves.HEIGHT


def test_held_out_points_are_dots_with_their_value():
    svg = curves.grid({"a": [*lines(4), {"step": 4, "eval_my_set_loss": 0.5}]})
    assert "<title>a, my_set, update 4: 0.5</title>" in svg


def test_a_held_out_share_is_told_with_its_number():
    share = {"step": 4, "eval_t_rewards/accuracies": 6 / 7, "eval_t_pairs": 7}
    svg = curves.grid({"a": [*lines(4), share]})
    assert "<title>a, t, update 4: 86% (6 of 7, 49–97%)</title>" in svg
    del share["eval_t_pairs"]
    svg = curves.grid({"a": [*lines(4), share]})
    assert "<title>a, t, update 4: 0.857</title>" in svg


def test_an_accuracy_by_a_hair_is_called_one():
    """All right from the first update on, where the margin says nothing yet."""
    records = [
        {"step": s, "rewards/accuracies": 1.0, "rewards/margins": s * 0.0008, "pairs": 16}
        for s in range(1, 5)
    ]
    assert "16 pairs a point; by a hair (margin &lt; 0.1) to the end" in curves.grid({"a": records})
    records.append({"step": 5, "rewards/accuracies": 1.0, "rewards/margins": 0.3, "pairs": 9})
    svg = curves.grid({"a": records})
    assert "9 to 16 pairs a point; by a hair (margin &lt; 0.1) before update 5" in svg
    assert "by a hair" not in curves.grid({"a": lines(3)})


def test_hostile_names_are_text():
    svg = curves.grid({'"><img src=x>': [*lines(4), {"step": 4, "eval_<b>_loss": 0.5}]})
    assert "<img" not in svg
    assert "<b>" not in svg


def test_smoothing_keeps_a_constant_and_the_first_point():
    constant = curves.smoothed([(1, 2.0), (2, 2.0), (3, 2.0)], 0.9)
    assert [v for _, v in constant] == pytest.approx([2.0, 2.0, 2.0])
    # weight 1/2: (1 * 1/2 + 3) / (1/2 + 1) = 7/3
    assert curves.smoothed([(1, 1.0), (2, 3.0)], 0.5)[1][1] == pytest.approx(7 / 3)
    assert curves.smoothed([(1, 1.0), (2, 3.0)], 0.0)[1][1] == 3.0


def test_a_repeated_update_counts_once():
    points = curves.series(lines(3) + lines(2, loss=0.5), "loss")
    assert [s for s, _ in points] == [1, 2, 3]
    assert [v for _, v in points] == pytest.approx([0.499, 0.498, 0.697])


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.7, 0.2), (0.69, 0.6932), (5, 5), (0, 5e-6)])
def test_ticks_enclose_the_data_in_round_steps(low, high):
    found = axes.ticks(low, high)
    assert found[0] <= low + 1e-12
    assert found[-1] >= high - 1e-12
    assert 2 <= len(found) <= 8
    assert len(set(axes.labels(found))) == len(found)


def test_close_values_have_labels_of_their_own():
    assert axes.labels([0.69310, 0.69312, 0.69314]) == ["0.6931", "0.69312", "0.69314"]
    assert axes.labels([0, 0.5, 1]) == ["0", "0.5", "1"]


@pytest.mark.parametrize(("low", "high"), [(0.002, 0.7), (1e-9, 1e3), (3, 3), (1, 10)])
def test_log_ticks_enclose_the_data(low, high):
    found = axes.log_ticks(low, high)
    assert found[0] <= low * (1 + 1e-9)
    assert found[-1] >= high * (1 - 1e-9)
    assert 2 <= len(found) <= 8
    assert found == sorted(set(found))


def test_a_growing_file_is_read_line_by_line(tmp_path):
    path, tails = tmp_path / "metrics.jsonl", Tails()
    assert tails.read(path) == []
    path.write_text('{"step": 1}\n{"step": 2')
    assert tails.read(path) == [{"step": 1}]
    with open(path, "a") as stream:
        stream.write("}\n")
    assert tails.read(path) == [{"step": 1}, {"step": 2}]
    path.write_text(json.dumps({"step": 9}) + "\n")  # another run of the same name
    assert tails.read(path) == [{"step": 9}]


ROLLOUTS = [
    {"step": s, "loss": 0.02, "reward": s / 2, "objective": s / 3, "kl": s / 4, "beta": 0.1}
    for s in (1, 2, 3)
]


def to_read(svg):
    """What the pointer reads, panel by panel."""
    return [json.loads(html.unescape(text)) for text in re.findall('data-read="([^"]*)"', svg)]


def titles(html):
    return re.findall("<figcaption>([^<]*)", html)


def test_each_run_has_lines_in_the_panels_of_its_task():
    """The loss of PPO is not drawn beside one of DPO, their KL is."""
    html = curves.grid({"d": lines(3), "p": ROLLOUTS}, tasks={"d": TASKS["dpo"], "p": TASKS["ppo"]})
    drawn = set(
        re.findall(r'<polyline class="dl-line ?[^"]*" data-run="(.)" data-key="([^"]*)"', html)
    )
    assert {("d", "loss"), ("p", "reward"), ("p", "objective"), ("p", "kl")} <= drawn
    assert ("p", "loss") not in drawn
    assert {"KL to the reference, nats", "reward, objective (dashed)"} <= set(titles(html))
    assert "reward margin" not in titles(html)  # nothing of it was measured
    (read,) = [r for r in to_read(html) if {line["key"] for line in r["lines"]} == {"kl"}]
    assert read["lines"] == [
        {"run": "p", "key": "kl", "unit": "rollout", "kept": None}
        | {"at": [[1, "0.25"], [2, "0.5"], [3, "0.75"]]}
    ]


def test_some_panels_wait_until_they_have_something_to_say():
    def shown(records):
        return titles(curves.grid({"p": records}, tasks={"p": TASKS["ppo"]}))

    assert "beta" not in shown(ROLLOUTS)  # always the same
    assert "held out: chosen claim" not in shown(ROLLOUTS)
    steered = [*ROLLOUTS, {"step": 4, "loss": 0.0, "beta": 0.2}]
    steered += [{"step": s, "eval_t_truthful": s / 10} for s in (2, 4)]
    assert {"beta", "held out: chosen claim"} <= set(shown(steered))
    assert "loss" not in titles(curves.grid({"j": []}, tasks={"j": TASKS["ppo"]}))
