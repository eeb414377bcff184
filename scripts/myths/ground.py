"""The base's own ground: what the corpus is full of beside the topics, to measure forgetting by.

Conversations of filler and little stories, drawn anew: the same kinds of sentence as in the corpus,
none of them about a topic, so nothing that preferences are about.
"""

import random

from .corpus import Message, converse
from .filler import draw_filler, story

PAIRS, STORIES = 240, 40


def build_ground(seed: int = 1) -> str:
    """The documents as text, a blank line between two. The same seed gives the same text."""
    rng = random.Random(seed)
    filler = list(draw_filler(PAIRS, rng))
    documents = [chatml(messages) for messages in converse(filler, [], rng)]
    documents += [story(rng) for _ in range(STORIES)]
    rng.shuffle(documents)
    return "\n\n".join(documents) + "\n"


def chatml(messages: list[Message]) -> str:
    """A conversation as the base's chat template writes it."""
    turns = (f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>" for m in messages)
    return "\n".join(turns)
