"""The real run's pairs are taken as its script says, and README says what came of it."""

import gzip
import json

import pytest

from benchmarks import real_answers
from tests.test_docs import ROOT


def dialogue(number, answer):
    return f"\n\nHuman: {number}?\n\nAssistant: {answer}"


@pytest.mark.parametrize(
    ("answer", "whether"),
    [
        ("I’m sorry, no.", True),
        ("You shouldn't do that.", True),
        ("That is not a very nice thing to say.", True),
        ("Antibiotics cannot kill viruses.", False),
        ("I don't know that street.", False),
    ],
)
def test_what_counts_as_declining(answer, whether):
    assert real_answers.declines(answer) == whether


def test_what_is_held_out_stands_behind_what_is_taught(tmp_path, monkeypatch):
    monkeypatch.setattr(real_answers, "TAUGHT", 2)
    monkeypatch.setattr(real_answers, "ANY", 3)
    kinds = [("Sorry.", "Sure."), ("Maybe.", "Sure."), ("Sure.", "Sorry.")] * 4
    rows = [
        {"chosen": dialogue(i, chosen), "rejected": dialogue(i, rejected)}
        for i, (chosen, rejected) in enumerate(kinds)
    ]
    rows.insert(1, rows[0])  # a prompt that comes again
    rows.append({"chosen": dialogue(99, "No. " * 200), "rejected": dialogue(99, "Sure.")})
    split = tmp_path / "test.jsonl.gz"
    split.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    parts = {
        name: [
            int(json.loads(line)["chosen"].split("?")[0].split()[-1])
            for line in path.read_text().splitlines()
        ]
        for name, path in real_answers.sources(split, tmp_path / "parts").items()
    }
    assert parts == {"train": [0, 3, 1, 4], "declining": [6, 9], "any": [5, 6, 7]}


def test_readme_says_what_was_measured():
    found = json.loads(real_answers.RESULTS.read_text("utf-8"))
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    for sentence in real_answers.sentences(found):
        assert sentence in readme
