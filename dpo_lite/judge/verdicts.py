"""What a judge said of a run: the policy's answers against the reference's, counted, in words.

Files of the run's folder ``judge/``: ``answers.json`` what was judged, ``replies.jsonl`` every
question with the judge's reply as it came, ``verdicts.json`` what was counted, an entry for each
judge and question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.files import write_json
from dpo_lite.judge.replies import Judged, kept_reply, spent, spent_words
from dpo_lite.rates import Rate
from dpo_lite.recipe import JudgeSection
from dpo_lite.runs.lines import parsed
from dpo_lite.runs.state import read_object

SAME = "same"  # both gave the same answer, so nobody was asked
WORDS = {  # of an outcome, whose first is the policy
    "first": "won",
    "second": "lost",
    "tie": "ties",
    SAME: "same answer",
    "by place": "by place",
    "unread": "unread",
}
HEAD = ("set", "policy preferred", *WORDS.values())
EXPLAINED = (
    "Each pair is asked in both orders and won where the judge prefers the same answer in both. A"
    " tie, an answer that both gave and a verdict that follows the place (*by place*) count as half"
    " a win; *unread*, where a reply held no verdict, does not count."
)

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Places:
    """Where a run keeps what is judged of it."""

    folder: Path

    @property
    def answers(self) -> Path:
        return self.folder / "judge" / "answers.json"

    @property
    def replies(self) -> Path:
        return self.folder / "judge" / "replies.jsonl"

    @property
    def rewards(self) -> Path:
        """The replies to what it was asked while training, where it rewards."""
        return self.folder / "judge" / "rewards.jsonl"

    @property
    def verdicts(self) -> Path:
        return self.folder / "judge" / "verdicts.json"


def counted(outcomes: Iterable[str]) -> dict[str, int]:
    found = Counter(outcomes)
    return {name: found[name] for name in WORDS}


def win_rate(counts: Counts) -> Rate | None:
    """Share of the prompts on which the policy is preferred, a half each where neither is."""
    wins, losses = counts["first"], counts["second"]
    neither = counts["tie"] + counts[SAME] + counts["by place"]
    decided = wins + losses + neither
    return Rate((wins + neither / 2) / decided, decided) if decided else None


def rows_of(entry: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row for each held-out set, under ``HEAD``."""
    rows = []
    for name, counts in entry["sets"].items():
        rate = win_rate(counts)
        share = "–" if rate is None else f"{rate.cell()} of {rate.n:,}"
        rows.append((name, share, *(str(counts[key]) for key in WORDS)))
    return rows


def sentence(entry: Mapping[str, Any], public: bool = False) -> str:
    """Who judged, by what, and what it took; ``public``: without where the judge was asked."""
    judge, criteria = entry["model" if public else "judge"], " ".join(entry["criteria"].split())
    return (
        f"Judged by {judge}: “{criteria}” {spent_words(entry['spent'])}; greedy answers of"
        f" up to {entry['max_new_tokens']} tokens."
    )


def read_verdicts(run: Path) -> list[dict[str, Any]]:
    """The entries of a run, none where there is no file of that shape."""
    found = (read_object(Places(run).verdicts) or {}).get("judged")
    entries = found if isinstance(found, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and _is_whole(entry)]


def _is_whole(entry: dict[str, Any]) -> bool:
    sets, spent = entry.get("sets"), entry.get("spent")
    texts = all(isinstance(entry.get(key), str) for key in ("judge", "model", "criteria"))
    counts = isinstance(sets, dict) and all(
        isinstance(own, dict) and all(isinstance(own.get(key), int) for key in WORDS)
        for own in sets.values()
    )
    took = isinstance(spent, dict) and all(
        isinstance(spent.get(key), int)
        for key in ("questions", "uncounted", "tokens_in", "tokens_out")
    )
    return texts and counts and took and isinstance(entry.get("max_new_tokens"), int)


def reward_words(run: Path, section: JudgeSection) -> list[str]:
    """What a judge that rewarded answers was asked in all, and how often its reply held no score;
    nothing of a run whose answers no judge rewarded."""
    file = Places(run).rewards
    lines = parsed(file.read_bytes(), file.name)[0] if file.is_file() else []
    if not lines:
        return []
    replies: list[Judged[Any]]
    replies = [Judged(str(n), kept_reply(line), None) for n, line in enumerate(lines)]
    unread = sum(line.get("read") is None for line in lines)
    words = f"Answers were scored by {section.model}: {spent_words(spent(section, replies))}"
    words += f"; {unread:,} replies held no score" if unread else ""
    return [words + ".", ""]


def keep_verdict(run: Path, entry: Mapping[str, Any]) -> None:
    """Put an entry into the run's file, in place of one of the same judge and question."""
    told = ("judge", "criteria", "max_new_tokens")
    others = [e for e in read_verdicts(run) if any(e[key] != entry[key] for key in told)]
    write_json(Places(run).verdicts, {"judged": [*others, entry]})


def markdown(entries: Sequence[Mapping[str, Any]], public: bool = False) -> list[str]:
    """Lines of a report or a card; none of a run that nobody judged."""
    lines: list[str] = []
    for entry in entries:
        table = [f"| {' | '.join(row)} |" for row in (HEAD, ("---",) * len(HEAD), *rows_of(entry))]
        lines += [sentence(entry, public), "", *table, ""]
    return ["## Judged", "", *lines, EXPLAINED, ""] if lines else []
