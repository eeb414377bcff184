"""The preference data: fact in an evidence voice preferred to misconception in a hearsay voice.

Three files in TRL's explicit conversational prompt format:

    train      trained topics, four phrasings of each
    phrasings  trained topics, two phrasings that do not occur in `train`
    topics     topics that never occur in `train`

All these questions stand in the pre-training corpus, so the base understands them. It does not
understand wordings that it never read (`unseen` in the topics): four million parameters do not
generalise that far, with preference training or without.
"""

import random

from .topics import Topic, split_topics
from .voices import HEARSAY, NEUTRAL, evidence, tell

TRAINED_PHRASINGS = 4
# Share of the pairs with both answers in the same neutral voice, so that only the claim differs.
NEUTRAL_SHARE = 1 / 12


def pair(topic: Topic, question: str, rng: random.Random) -> dict:
    """One row: the prompt, both answers, and the markers that tell the claims apart."""
    chosen_voice, rejected_voice = rng.choice(evidence(topic)), rng.choice(HEARSAY)
    if rng.random() < NEUTRAL_SHARE:
        chosen_voice = rejected_voice = rng.choice(NEUTRAL)
    chosen = tell(chosen_voice, rng.choice(topic.fact))
    rejected = tell(rejected_voice, rng.choice(topic.myth))
    return {
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "topic": topic.id,
        "chosen_markers": list(topic.fact_markers),
        "rejected_markers": list(topic.myth_markers),
    }


def thumb(row: dict, good: bool) -> dict:
    """Of a pair one answer alone, with a label: TRL's unpaired format."""
    answer = row["chosen" if good else "rejected"]
    others = {key: row[key] for key in ("topic", "chosen_markers", "rejected_markers")}
    return {"prompt": row["prompt"], "completion": answer, "label": good, **others}


def build_thumbs(files: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """The same questions with one answer each, every other one a good one: nothing is a pair."""
    return {
        name: [thumb(row, good=place % 2 == 0) for place, row in enumerate(rows)]
        for name, rows in files.items()
    }


def build_preferences(topics: list[Topic], seed: int = 0) -> dict[str, list[dict]]:
    """The rows of the three files by name. The same topics and seed give the same rows."""
    rng = random.Random(seed)
    trained, held_out = split_topics(topics)
    questions = {
        "train": [(t, q) for t in trained for q in t.questions[:TRAINED_PHRASINGS]],
        "phrasings": [(t, q) for t in trained for q in t.questions[TRAINED_PHRASINGS:]],
        "topics": [(t, q) for t in held_out for q in t.questions[:TRAINED_PHRASINGS]],
    }
    files = {name: [pair(t, q, rng) for t, q in rows] for name, rows in questions.items()}
    for rows in files.values():
        rng.shuffle(rows)
    return files
