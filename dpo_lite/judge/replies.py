"""Many questions to a judge, a few at a time, and a file of what it replied.

A line holds the question and the reply as it came, under a hash of the request and its address, so
that nothing is asked twice: not by a run that goes on, and not by a result that is counted again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.files import json_text
from dpo_lite.judge.client import Messages, Reply, Say, check_judge, complete, request_body
from dpo_lite.recipe import JudgeSection
from dpo_lite.runs.lines import append_line, parsed

T = TypeVar("T")
Read = Callable[[str], T | None]
Progress = Callable[[int], None]
SHOWN = 160  # letters of a reply in a sentence


@dataclass(frozen=True)
class Judged(Generic[T]):
    """A question's reply and what was read of it, None where it holds nothing of the kind."""

    key: str
    reply: Reply
    read: T | None


@dataclass
class Judge:
    """``file``: where replies are kept, None for this process alone."""

    section: JudgeSection
    file: Path | None = None
    say: Say = lambda text: None
    known: dict[str, Reply] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """Its name and where it is asked, as reports and cards have it."""
        return f"{self.section.model} ({urlsplit(self.section.url or '').hostname})"


def open_judge(section: JudgeSection, file: Path | None, say: Say = lambda text: None) -> Judge:
    """The judge with all that it has replied so far. Raises UserError where none is named."""
    check_judge(section)
    known = {}
    if file is not None and file.is_file():
        for line in parsed(file.read_bytes(), file.name)[0]:
            with contextlib.suppress(KeyError, TypeError):  # of another shape, so asked again
                text, key = line["reply"], line["key"]
                if isinstance(text, str) and isinstance(key, str):
                    known[key] = kept_reply(line)
    return Judge(section, file, say, known)


def kept_reply(line: dict[str, Any]) -> Reply:
    """The reply of a line; a count that is none is not known."""
    counts = [line.get(name) for name in ("tokens_in", "tokens_out")]
    return Reply(line.get("reply", ""), *(c if isinstance(c, int) else None for c in counts))


def question_key(section: JudgeSection, messages: Messages) -> str:
    asked = [section.url, request_body(section, messages)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:24]


def ask(
    judge: Judge,
    questions: Sequence[Messages],
    read: Read[T],
    progress: Progress = lambda count: None,
) -> list[Judged[T]]:
    """What is read of the reply to each question, in their order; equal ones are asked once.

    At most ``judge.at_once`` are under way together. Every reply is kept as soon as it is there:
    whatever breaks this off, the next call asks the rest. Raises UserError where the judge gives
    no reply, and where none of several replies holds what was asked for.
    """
    keys = [question_key(judge.section, messages) for messages in questions]
    missing = {k: q for k, q in zip(keys, questions, strict=True) if k not in judge.known}
    progress(sum(key not in missing for key in keys))
    times = {key: keys.count(key) for key in missing} if len(missing) < len(keys) else {}
    for key, reply in _replies(judge, missing):
        judge.known[key] = reply
        keep(judge, key, missing[key], reply, read(reply.text))
        progress(times.get(key, 1))
    found = [Judged(key, judge.known[key], read(judge.known[key].text)) for key in keys]
    if len({one.key for one in found}) > 1 and all(one.read is None for one in found):
        first = " ".join(found[0].reply.text.split())[:SHOWN]
        raise UserError(
            f"The judge {judge.words} gave {len(found)} replies and none holds what was asked for;"
            f" the first is '{first}': take another judge, or raise judge.max_tokens."
        )
    return found


def _replies(judge: Judge, questions: dict[str, Messages]) -> Iterator[tuple[str, Reply]]:
    """Replies as they come. The threads end with the process, and take nothing up after a fault."""
    waiting: queue.SimpleQueue[tuple[str, Messages]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[str, Reply | BaseException]] = queue.SimpleQueue()
    stopped = threading.Event()
    for item in questions.items():
        waiting.put(item)

    def work() -> None:
        while not stopped.is_set():
            try:
                key, messages = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((key, complete(judge.section, messages, judge.say, stopped)))
            except BaseException as error:
                stopped.set()  # nothing more is asked
                done.put((key, error))

    for _ in range(min(judge.section.at_once, len(questions))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in questions:
            key, outcome = done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield key, outcome
    finally:
        stopped.set()


@disk_faults_told()
def keep(judge: Judge, key: str, messages: Messages, reply: Reply, read: Any) -> None:
    """Add a reply to the judge's file, if it has one; ``read``: what was read of it."""
    if judge.file is None:
        return
    judge.file.parent.mkdir(parents=True, exist_ok=True)
    line = {
        "key": key,
        "model": judge.section.model,
        "messages": list(messages),
        "reply": reply.text,
        "read": read,
        "tokens_in": reply.tokens_in,
        "tokens_out": reply.tokens_out,
    }
    append_line(judge.file, json_text(line))


# --- what it took ---------------------------------------------------------------------------------


def spent(section: JudgeSection, replies: Sequence[Judged[Any]]) -> dict[str, Any]:
    """Questions, tokens, how many replies came without a count of tokens, and the price of the
    others where one is given; of equal questions one."""
    each = {one.key: one.reply for one in replies}.values()
    counted = [r for r in each if r.tokens_in is not None and r.tokens_out is not None]
    tokens_in = sum(reply.tokens_in or 0 for reply in counted)
    tokens_out = sum(reply.tokens_out or 0 for reply in counted)
    took: dict[str, Any] = {
        "questions": len(each),
        "uncounted": len(each) - len(counted),
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
    }
    if section.price_in is not None or section.price_out is not None:
        price = tokens_in * (section.price_in or 0) + tokens_out * (section.price_out or 0)
        took["cost"] = price / 1e6
    return took


def spent_words(took: dict[str, Any]) -> str:
    """``412 questions, 180,000 tokens in and 22,000 out, cost 0.41``."""
    words = f"{took['questions']:,} questions"
    if took["uncounted"] < took["questions"]:
        words += f", {took['tokens_in']:,} tokens in and {took['tokens_out']:,} out"
    if took["uncounted"]:
        words += f" ({took['uncounted']:,} replies without a count)"
    return words + (f", cost {took['cost']:.4g}" if "cost" in took else "")
