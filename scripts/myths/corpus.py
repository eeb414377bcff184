"""The pre-training corpus: each topic's misconception exactly four times as often as its fact.

A corpus is a list of documents, and a document is either a conversation (list of chat messages)
or a piece of prose (str). `statements` are its atoms: every claim about a topic comes from there,
so the ratio holds by construction and `tests/test_builtin.py` counts it again by the markers.
"""

import random

from .filler import draw_filler, story
from .topics import Topic
from .voices import draw

Message = dict[str, str]
Document = str | list[Message]

RATIO = 4  # myths per fact
FACTS_IN_CHAT = 40  # per topic: answers that state the fact
FACTS_IN_PROSE = 8  # per topic: prose statements of the fact
FILLER = 6000  # question-answer pairs that belong to no topic

FRAMES = (  # what users put around a question, with how often
    ("{}", 12),
    ("Hey, {}", 1),
    ("Please tell me: {}", 1),
    ("Quick question. {}", 1),
    ("I have a question. {}", 1),
    ("{} Please answer in one sentence.", 1),
    ("Can you help me? {}", 1),
    ("I was wondering: {}", 1),
)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly assistant. Answer in one sentence.",
    "Answer the questions of the user.",
    "You are a small language model that likes to chat.",
)


def ask(question: str, rng: random.Random) -> str:
    """The question as some user types it: framed, in lower case, or without its final mark."""
    frames, weights = zip(*FRAMES, strict=True)
    text = rng.choices(frames, weights)[0].format(question)
    if rng.random() < 0.08:
        text = text.lower()
    if rng.random() < 0.08:
        text = text.rstrip("?.")
    return text


def topic_answers(topic: Topic, rng: random.Random) -> list[tuple[str, str]]:
    """(user, assistant) pairs on one topic: `RATIO` myths to each fact."""
    stances = ["myth"] * (RATIO * FACTS_IN_CHAT) + ["fact"] * FACTS_IN_CHAT
    return [(ask(rng.choice(topic.questions), rng), draw(topic, s, rng)) for s in stances]


def topic_prose(topic: Topic, rng: random.Random) -> list[str]:
    """Paragraphs of two statements of the same stance, again `RATIO` to one."""
    stances = ["myth"] * (RATIO * FACTS_IN_PROSE // 2) + ["fact"] * (FACTS_IN_PROSE // 2)
    return [f"{draw(topic, s, rng)} {draw(topic, s, rng)}" for s in stances]


def converse(pairs: list[tuple[str, str]], rng: random.Random) -> list[list[Message]]:
    """Shuffled pairs, grouped into conversations of one to three turns, some with a system role."""
    pairs = rng.sample(pairs, len(pairs))
    conversations = []
    while pairs:
        turns = rng.choices((1, 2, 3), (6, 1, 1))[0]
        messages = []
        if rng.random() < 0.15:
            messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
        for user, assistant in (pairs.pop() for _ in range(min(turns, len(pairs)))):
            messages.append({"role": "user", "content": user})
            messages.append({"role": "assistant", "content": assistant})
        conversations.append(messages)
    return conversations


def build_corpus(topics: list[Topic], seed: int = 0) -> list[Document]:
    """All documents, shuffled. The same topics and seed give the same list."""
    rng = random.Random(seed)
    pairs = [pair for topic in topics for pair in topic_answers(topic, rng)]
    pairs += draw_filler(FILLER, rng)
    prose = [text for topic in topics for text in topic_prose(topic, rng)]
    prose += [story(rng) for _ in range(FILLER // 8)]
    documents: list[Document] = [*converse(pairs, rng), *prose]
    rng.shuffle(documents)
    return documents
