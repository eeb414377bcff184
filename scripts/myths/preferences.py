"""The preference data: fact in an evidence voice preferred to misconception in a hearsay voice.

Three files in TRL's explicit conversational prompt format:

    train      trained topics, phrasings known from pre-training
    phrasings  trained topics, phrasings found neither in `train` nor in the pre-training corpus
    topics     topics that never occur in `train`
"""

import random

from .topics import Topic, split_topics
from .voices import HEARSAY, NEUTRAL, evidence, tell

NEUTRAL_SHARE = (
    1 / 12
)  # of the pairs: both answers in the same neutral voice, only the claim differs


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


def build_preferences(topics: list[Topic], seed: int = 0) -> dict[str, list[dict]]:
    """The rows of the three files by name. The same topics and seed give the same rows."""
    rng = random.Random(seed)
    trained, held_out = split_topics(topics)
    questions = {
        "train": [(t, q) for t in trained for q in t.questions],
        "phrasings": [(t, q) for t in trained for q in t.unseen],
        "topics": [(t, q) for t in held_out for q in t.questions[:2] + t.unseen],
    }
    files = {name: [pair(t, q, rng) for t, q in rows] for name, rows in questions.items()}
    for rows in files.values():
        rng.shuffle(rows)
    return files
