"""Drawn pairs that wait for a vote: which do, and what the votes make of them."""

import json

import pytest

from dpo_lite.compare.ballots import ENDING, pairs_of_votes, read_ballots, waiting
from dpo_lite.compare.votes import add_vote, read_votes

TALK = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "So?"}]


def line(prompt="So?", answers=("tie", "no"), policy="cats-1", talk=TALK):
    own = {"policy": policy, "prompt": prompt, "conversation": talk, "answers": list(answers)}
    return json.dumps(own) + "\n"


def vote(folder, verdict, answers=("no", "tie"), prompt="So?"):
    shown = [{"label": str(n), "fingerprint": "f", "answer": a} for n, a in enumerate(answers)]
    add_vote(
        folder, run="cats-1", prompt=prompt, shown=shown, sampling={}, verdict=verdict, blind=True
    )


def test_what_waits_and_what_was_voted(tmp_path):
    file = tmp_path / f"cats-1-round-1{ENDING}"
    again = line() + line("And?", ("a", "b")) + line("Why?", policy="cats-2")
    file.write_text(again + '{"policy": 1}\n' + line(answers=("x",)) + line(talk=3) + '{"half')
    assert len(read_ballots(file)) == 3
    assert [p.prompt for p in waiting(tmp_path, "cats-1", [])] == ["So?", "And?"]
    vote(tmp_path, "B")
    vote(tmp_path, "A", prompt=TALK)  # a chat's, of which no pair is drawn
    votes = read_votes(tmp_path)
    assert [p.prompt for p in waiting(tmp_path, "cats-1", votes)] == ["And?"]
    assert [p.prompt for p in waiting(tmp_path, "cats-2", votes)] == ["Why?"]
    pairs = read_ballots(file)[:2]
    rows, left = pairs_of_votes(pairs, votes, raw=False)
    assert left == 1
    assert rows == [
        {
            "prompt": TALK,
            "chosen": [{"role": "assistant", "content": "tie"}],  # an answer, no verdict
            "rejected": [{"role": "assistant", "content": "no"}],
        }
    ]
    assert pairs_of_votes(pairs, votes, raw=True)[0] == [
        {"prompt": "So?", "chosen": "tie", "rejected": "no"}
    ]


@pytest.mark.parametrize("verdict", ["tie", "bad"])
def test_no_preference_is_no_row_but_a_vote(tmp_path, verdict):
    file = tmp_path / f"r{ENDING}"
    file.write_text(line())
    vote(tmp_path, "A")
    vote(tmp_path, verdict, ("tie", "no"))  # whose mind changed, in another order
    assert pairs_of_votes(read_ballots(file), read_votes(tmp_path), raw=True) == ([], 0)
    assert waiting(tmp_path, "cats-1", read_votes(tmp_path)) == []
