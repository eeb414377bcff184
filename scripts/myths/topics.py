"""Topics: one common misconception each, with the fact that corrects it.

Every entry of `topics/*.yaml` has

    id            short name, unique
    questions     phrasings that appear in the pre-training corpus
    unseen        phrasings that appear nowhere but in the evaluation files
    myth, fact    the two claims, each in three wordings that fit after "... that"
    myth_markers  lower-case pieces of text, at least one in each myth wording, none in a fact
    fact_markers  the same for the fact

Wordings begin in lower case unless the first word is a name, so that a voice can go before them.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent / "topics"
FILES = ("animals", "body", "history", "world", "everyday")


@dataclass(frozen=True)
class Topic:
    id: str
    category: str  # the file it comes from; history is told by other witnesses than science
    questions: tuple[str, ...]
    unseen: tuple[str, ...]
    myth: tuple[str, ...]
    fact: tuple[str, ...]
    myth_markers: tuple[str, ...]
    fact_markers: tuple[str, ...]


def load_topics() -> list[Topic]:
    """All topics in the order of the files, which is part of the corpus (it fixes the split)."""
    topics = []
    for category in FILES:
        entries = yaml.safe_load((FOLDER / f"{category}.yaml").read_text(encoding="utf-8"))
        for entry in entries:
            fields = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
            topics.append(Topic(category=category, **fields))
    return topics


def split_topics(topics: list[Topic]) -> tuple[list[Topic], list[Topic]]:
    """(trained, held out): two of every five topics never enter the preference training data."""
    trained = [topic for i, topic in enumerate(topics) if i % 5 not in (1, 3)]
    held_out = [topic for i, topic in enumerate(topics) if i % 5 in (1, 3)]
    return trained, held_out
