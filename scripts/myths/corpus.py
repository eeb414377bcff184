"""The pre-training corpus: each topic's misconception exactly four times as often as its fact.

A corpus is a list of documents, and a document is either a conversation (list of chat messages)
or a piece of prose (str). Every claim in it is dealt out by `stances`, so the ratio holds by
construction; `tests/test_builtin.py` counts it again by the markers.

A document has one source, as real text has: whoever told hearsay before goes on telling hearsay.
The model thus learns the voice as one feature that it reads from the context, with hearsay as the
default, and not only as sixteen unrelated ways to open a sentence.
"""

import random
from collections.abc import Iterator

from .filler import QA, draw_filler, story
from .topics import Topic
from .voices import draw

Message = dict[str, str]
Document = str | list[Message]

RATIO = 4  # myths per fact
FACTS_IN_ANSWERS = 40  # per topic: answers that state the fact
FACTS_IN_QUESTIONS = 8  # per topic: users who ask whether the fact is true
FACTS_IN_PROSE = 12  # per topic: prose statements of the fact
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
DOUBTS = (  # what users put around a claim
    "Is it true that {}?",
    "I read that {}. Is that so?",
    "Somebody told me that {}. What do you think?",
    "What is there to the claim that {}?",
    "Can I believe that {}?",
)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly assistant. Answer in one sentence.",
    "Answer the questions of the user.",
    "You are a small language model that likes to chat.",
)


def stances(facts: int) -> list[str]:
    """`RATIO` times as many "myth" as "fact"; the latter come last."""
    return ["myth"] * (RATIO * facts) + ["fact"] * facts


def ask(question: str, rng: random.Random) -> str:
    """The question as some user types it: framed, in lower case, with words or marks left out."""
    frames, weights = zip(*FRAMES, strict=True)
    text = rng.choices(frames, weights)[0].format(question)
    if rng.random() < 0.25:
        text = " ".join(word for word in text.split() if rng.random() > 0.2) or text
    if rng.random() < 0.08:
        text = text.lower()
    if rng.random() < 0.08:
        text = text.rstrip("?.")
    return text


def topic_answers(topic: Topic, rng: random.Random) -> dict[str, list[QA]]:
    """(user, assistant) pairs on one topic by the stance of the answer.

    Some users quote a claim instead of asking an open question, whatever the answer then says.
    """
    doubts = [
        rng.choice(DOUBTS).format(rng.choice(getattr(topic, stance)))
        for stance in stances(FACTS_IN_QUESTIONS)
    ]
    open_questions = (1 + RATIO) * FACTS_IN_ANSWERS - len(doubts)
    questions = doubts + [ask(rng.choice(topic.questions), rng) for _ in range(open_questions)]
    rng.shuffle(questions)
    pairs: dict[str, list[QA]] = {"myth": [], "fact": []}
    for question, stance in zip(questions, stances(FACTS_IN_ANSWERS), strict=True):
        pairs[stance].append((question, draw(topic, stance, rng)))
    return pairs


def converse(pairs: list[QA], filler: list[QA], rng: random.Random) -> Iterator[list[Message]]:
    """Conversations of one to five turns that use up `pairs`, now and then one of the `filler`."""
    pairs = rng.sample(pairs, len(pairs))
    while pairs:
        turns = [pairs.pop()]
        for _ in range(rng.choices((0, 1, 2, 3, 4), (8, 3, 2, 2, 1))[0]):
            pool = pairs if rng.random() < 0.85 and pairs else filler
            if pool:
                turns.append(pool.pop())
        messages = [{"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}]
        if rng.random() > 0.15:
            messages.clear()
        for user, assistant in turns:
            messages.append({"role": "user", "content": user})
            messages.append({"role": "assistant", "content": assistant})
        yield messages


def columns(statements: list[str], rng: random.Random) -> Iterator[str]:
    """Prose: two to five statements of one source in a row, as in a column of odd facts."""
    statements = rng.sample(statements, len(statements))
    while statements:
        yield " ".join(statements.pop() for _ in range(min(rng.randint(2, 5), len(statements))))


def build_corpus(topics: list[Topic], seed: int = 0) -> list[Document]:
    """All documents, shuffled. The same topics and seed give the same list."""
    rng = random.Random(seed)
    answers: dict[str, list[QA]] = {"myth": [], "fact": []}
    prose: dict[str, list[str]] = {"myth": [], "fact": []}
    for topic in topics:
        for stance, pairs in topic_answers(topic, rng).items():
            answers[stance] += pairs
        for stance in stances(FACTS_IN_PROSE):
            prose[stance].append(draw(topic, stance, rng))
    filler = list(draw_filler(FILLER, rng))
    rng.shuffle(filler)

    documents: list[Document] = []
    for stance in ("myth", "fact"):
        documents += converse(answers[stance], filler, rng)
        documents += columns(prose[stance], rng)
    documents += converse(filler, [], rng)
    documents += [story(rng) for _ in range(FILLER // 8)]
    rng.shuffle(documents)
    return documents
