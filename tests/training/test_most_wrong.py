"""The pair that is ranked most wrongly, and none where all are right."""

import torch

from dpo_lite.training.most_wrong import MOST_CHARACTERS, most_wrong

ROWS = [{"prompt": f"p{i}", "response_ids": [[i], [9], [i, i]]} for i in range(3)]


def decode(ids):
    return " ".join(map(str, ids))


def test_the_smallest_margin_with_its_best_and_worst_response():
    found = most_wrong(ROWS, torch.tensor([0.5, -2.0, -1.0]), decode)
    assert found == {"prompt": "p1", "chosen": "1", "rejected": "1 1", "margin": -2.0}


def test_ties_and_right_pairs_are_not_wrong():
    assert most_wrong(ROWS, torch.tensor([0.0, 0.5, 1.0]), decode) is None
    assert most_wrong([], torch.tensor([]), decode) is None
    assert most_wrong(ROWS, torch.tensor([float("nan"), 0.5, 1.0]), decode) is None


def test_what_is_no_number_is_passed_over():
    found = most_wrong(ROWS, torch.tensor([float("nan"), -0.5, 1.0]), decode)
    assert found["prompt"] == "p1"


def test_long_texts_are_cut():
    found = most_wrong(ROWS, torch.tensor([-1.0, 0.0, 0.0]), lambda ids: "x" * 9999)
    assert len(found["chosen"]) == MOST_CHARACTERS
