"""The Compare tab as HTML: answers side by side, what differs, each token's worth, win rates."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lite.compare.votes import LETTERS, Pairing
from dpo_lite.ui.parts import esc

# A click on a card's button tells its letter and what is said of the answer: good, bad or best.
SAID_SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-said]");
  if (button) trigger("click", {said: button.dataset.said, letter: button.dataset.letter});
});
"""
STRONGEST = 55  # per cent of colour for the token with the largest reward


def answer_cards(
    columns: Sequence[dict[str, Any]],
    *,
    hidden: bool = False,
    tokens: bool = False,
    differences: bool = False,
    best: str | None = None,
    thumbs: Mapping[str, str] | None = None,
) -> str:
    """The columns as cards. A column has ``label`` and ``text``, and when it is done ``reward`` and
    ``tokens``. ``hidden``: letters for names and no rewards; ``best``: the letter voted for.
    ``thumbs``: what was said of answers by themselves, good or bad by letter; with them come the
    buttons for it."""
    largest = max(
        (abs(reward) for c in columns for _, reward in c.get("tokens") or []), default=0.0
    )
    cards = []
    for place, column in enumerate(columns):
        if tokens and not hidden and column.get("tokens"):
            body = _tokens(column["tokens"], largest)
        elif differences and len(columns) > 1:
            body = marked(column["text"], columns[1 if place == 0 else 0]["text"])
        else:
            body = esc(column["text"])
        letter = LETTERS[place]
        name = letter if hidden else column["label"]
        won = " dl-won" if best == letter else ""
        verdicts = ""
        if thumbs is not None:
            verdicts = said_buttons(letter, thumbs.get(letter), best, len(columns) > 1)
        cards.append(
            f'<article class="dl-card dl-answer{won}" data-place="{letter}">'
            f"<header><b>{esc(name)}</b>{_facts(column, hidden)}</header>"
            f'<div class="dl-said">{body or "&nbsp;"}</div>{verdicts}</article>'
        )
    legend = _legend() if tokens and not hidden and largest else ""
    return f'<div class="dl-answers">{"".join(cards)}</div>{legend}'


def said_buttons(letter: str, thumb: str | None, best: str | None, several: bool) -> str:
    """What can be said of one answer; ``several``: whether it stands beside others."""
    offered = [("good", "Good", thumb == "good"), ("bad", "Bad", thumb == "bad")]
    offered += [("best", "Prefer this", best == letter)] if several else []
    key = f' title="key {LETTERS.index(letter) + 1}"'  # as page.js presses it
    buttons = "".join(
        f'<button type="button" class="dl-say" data-said="{said}" data-letter="{letter}"'
        f"{key if said == 'best' else ''}"
        f' aria-pressed="{str(pressed).lower()}">{words}</button>'
        for said, words, pressed in offered
    )
    return f'<div class="dl-says">{buttons}</div>'


def _facts(column: dict[str, Any], hidden: bool) -> str:
    if hidden or column.get("reward") is None:
        return ""
    cut = "" if column["ended"] else ' · <span title="It reached the limit of tokens">cut</span>'
    return (
        '<span class="dl-muted dl-small" title="Implicit reward beta·log(π/π_ref): how much more '
        'likely the run&#x27;s training made this answer">reward '
        f"{column['reward']:+.2f}{cut}</span>"
    )


def _tokens(tokens: Sequence[tuple[str, float]], largest: float) -> str:
    spans = []
    for text, reward in tokens:
        share = round(STRONGEST * abs(reward) / largest) if largest else 0
        colour = "good" if reward > 0 else "bad"
        spans.append(
            f'<span class="dl-token" title="{reward:+.3f}" style="background:color-mix(in srgb, '
            f'var(--dl-{colour}) {share}%, transparent)">{esc(text)}</span>'
        )
    return "".join(spans)


def _legend() -> str:
    return (
        '<p class="dl-muted dl-small dl-token-legend"><span><i class="dl-less"></i>the policy likes'
        ' the token less than the reference does</span><span><i class="dl-more"></i>more</span></p>'
    )


def marked(text: str, other: str) -> str:
    """The text with the words marked that the other one does not have at this place."""
    mine, theirs = _words(text), _words(other)
    pieces = []
    for kind, start, stop, _, _ in difflib.SequenceMatcher(
        None, mine, theirs, autojunk=False
    ).get_opcodes():
        part = esc("".join(mine[start:stop]))
        pieces.append(part if kind == "equal" or not part.strip() else f"<mark>{part}</mark>")
    return re.sub(r"</mark>(\s+)<mark>", r"\1", "".join(pieces))  # one mark over several words


def _words(text: str) -> list[str]:
    return re.findall(r"\s+|\w+|[^\w\s]", text)


def win_table(pairs: Sequence[Pairing], names: dict[str, str]) -> str:
    """Win rates with their intervals as bars between 0 and 100 %."""
    if not pairs:
        return '<p class="dl-muted dl-small">No votes yet.</p>'
    rows = []
    for pair in pairs:
        drawn, words = "", "–"
        if pair.interval:
            low, high = (100 * end for end in pair.interval)
            words = f"{pair.rate:.0%} <span class='dl-muted'>({low:.0f} to {high:.0f})</span>"
            drawn = interval_bar(*pair.interval, pair.rate)
        counts = "".join(
            f'<td class="dl-number">{n}</td>' for n in (pair.wins, pair.losses, pair.ties, pair.bad)
        )
        rows.append(
            f"<tr><td>{esc(names[pair.first])}</td><td>{esc(names[pair.second])}</td>"
            f"<td>{words}</td><td>{drawn}</td>{counts}</tr>"
        )
    head = "".join(f"<th>{name}</th>" for name in ("model", "against", "wins (95 % interval)", ""))
    head += "".join(
        f'<th class="dl-number">{name}</th>' for name in ("won", "lost", "ties", "both bad")
    )
    return (
        f'<div class="dl-scroll"><table class="dl-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="dl-muted dl-small">A tie counts as half a win, both bad does not count. Of two '
        "votes on the same answers the later one stands.</p>"
    )


def interval_bar(low: float, high: float, rate: float) -> str:
    """A share and its interval between 0 and 1 as a small bar."""
    return (
        f'<span class="dl-interval"><i style="left:{100 * low:.1f}%;'
        f'width:{100 * (high - low):.1f}%"></i><b style="left:{100 * rate:.1f}%"></b></span>'
    )
