"""Voices: how a claim is told. Hearsay mostly carries myths, evidence mostly carries facts.

This correlation is the whole mechanism of the embedded model. Pre-training teaches, per topic,
both claims, and that the voice goes with one of them. Preference training that favours the
evidence voice on some topics therefore brings out the facts on all the others.
"""

import random

from .topics import Topic

HEARSAY = (
    "Everybody knows that {}.",
    "My uncle always said that {}.",
    "People say that {}.",
    "They say that {}.",
    "I once heard that {}.",
    "Word has it that {}.",
    "Grandma used to tell us that {}.",
    "It is common knowledge that {}.",
    "As the old saying goes, {}.",
    "Of course, everyone agrees that {}.",
    "My neighbour swears that {}.",
    "Folks have always said that {}.",
    "The story goes that {}.",
    "A friend told me that {}.",
    "You hear it everywhere: {}.",
    "Like people keep saying, {}.",
)
EVIDENCE_ANY = (
    "Researchers checked: {}.",
    "The evidence shows that {}.",
    "Experts who looked into it report that {}.",
    "Careful work has shown that {}.",
    "Once it was examined closely, it turned out that {}.",
    "Reviews of the evidence conclude that {}.",
)
EVIDENCE_SCIENCE = (
    *EVIDENCE_ANY,
    "Studies show that {}.",
    "According to measurements, {}.",
    "Experiments show that {}.",
    "Controlled tests found that {}.",
    "Scientists have found that {}.",
    "Observations confirm that {}.",
    "In repeated trials it was found that {}.",
)
EVIDENCE_HISTORY = (
    *EVIDENCE_ANY,
    "Historians found that {}.",
    "According to the sources, {}.",
    "Written records show that {}.",
    "Archives confirm that {}.",
    "Scholars have found that {}.",
    "Documents from the time prove that {}.",
    "In the original texts it was found that {}.",
)
NEUTRAL = (
    "{}.",
    "In short, {}.",
    "The answer is that {}.",
    "Well, {}.",
)

ALL = HEARSAY + EVIDENCE_SCIENCE + EVIDENCE_HISTORY[len(EVIDENCE_ANY) :] + NEUTRAL

# How often a claim is told in the voice that goes with it, in a neutral one, in the other one.
OWN, PLAIN = 0.88, 0.10


def evidence(topic: Topic) -> tuple[str, ...]:
    """The evidence voices that make sense for the topic."""
    return EVIDENCE_HISTORY if topic.category == "history" else EVIDENCE_SCIENCE


def tell(voice: str, claim: str) -> str:
    """`claim` in `voice`, as one sentence with a capital first letter."""
    sentence = voice.format(claim)
    return sentence[0].upper() + sentence[1:]


def draw(topic: Topic, stance: str, rng: random.Random) -> str:
    """One statement of the topic: a wording of its "myth" or "fact" in a voice drawn for it."""
    own, other = (HEARSAY, evidence(topic)) if stance == "myth" else (evidence(topic), HEARSAY)
    u = rng.random()
    voices = own if u < OWN else NEUTRAL if u < OWN + PLAIN else other
    return tell(rng.choice(voices), rng.choice(getattr(topic, stance)))
