"""The advisor on KTO's curves: each rule speaks where it should, in words of answers, not pairs."""

import re

import pytest

from dpo_lite.report.advise import advise

RECIPE = {
    "task": "kto",
    "train": {
        "loss": "sigmoid",
        "beta": 0.1,
        "lr": 5e-4,
        "warmup": 0.1,
        "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
    },
}
WELL = {"loss": 0.4, "kl": 0.3, "chosen": 0.4, "rejected": -0.5, "accuracy": 0.9}


def curves(state="finished", updates=40, held_out=0.9, **ends):
    """Updates that go in straight lines from the start to ``ends``."""
    end = WELL | ends
    lines = []
    for step in range(1, updates + 1):
        share = min(1.0, step / (0.6 * updates))
        lines.append(
            {
                "step": step,
                "loss": 0.5 + share * (end["loss"] - 0.5),
                "kl": share * end["kl"],
                "rewards/chosen": share * end["chosen"],
                "rewards/rejected": share * end["rejected"],
                "rewards/margins": share * (end["chosen"] - end["rejected"]),
                "rewards/accuracies": 0.5 + share * (end["accuracy"] - 0.5),
                "pairs": 16,
                "logps/chosen": -30 + share * end["chosen"] / 0.1,
            }
        )
    status = {"state": state, "step": updates, "max_steps": updates}
    measured = {"rewards/accuracies": held_out, "pairs": 100, "loss": 0.42}
    sets = {} if held_out is None else {"test": measured}
    return RECIPE, status, lines, {"sets": sets}


@pytest.mark.parametrize(
    ("ends", "kind", "words"),
    [
        ({}, "good", r"Finished well: .* on their side of z0, good less bad 0.90; held out 90%"),
        ({"held_out": 0.5, "accuracy": 0.6}, "info", "On test that is not told from a coin"),
        ({"held_out": None}, "info", "Nothing was held out"),
        ({"state": "running"}, "good", "It learns"),
        ({"chosen": 0.0, "rejected": -0.01}, "warn", "earn the same .* Raise train.lr"),
        ({"chosen": -0.5, "rejected": 0.5}, "bad", "Bad answers earn more than good ones, by 1.00"),
        ({"loss": 0.01, "chosen": 6, "rejected": -6}, "warn", "12.0 apart and the loss is near"),
        ({"chosen": -1.0, "rejected": -3.0}, "warn", "Good answers got less likely, by 10 nats"),
        ({"accuracy": 1.0, "held_out": 0.6}, "warn", r"Over-fitting: .* of the trained answers"),
    ],
)
def test_what_is_said(ends, kind, words):
    found = advise(*curves(**ends))
    assert any(advice.kind == kind for advice in found), found
    text = " ".join(advice.text for advice in found)
    assert "pair" not in text
    assert re.search(words, text), text
