"""A conversation with several models as HTML: the user's words, the answers side by side."""

from __future__ import annotations

from dpo_lite.compare.chat import Chat, Turn
from dpo_lite.ui.parts import esc

# A click on an answer's button tells its turn, its column and what is to be done with it.
SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (!button) return;
  const {turn, place} = button.dataset;
  trigger("click", {act: button.dataset.do, turn: Number(turn), place: Number(place)});
});
watch("value", () => {
  const box = element.querySelector(".dl-chat");
  if (box) box.scrollTop = box.scrollHeight;
});
"""
APART = "They were not asked the same any more: judge each answer by itself."


def conversation(chat: Chat, busy: bool = False) -> str:
    """All turns; ``busy``: answers are on their way, and nothing can be said of them yet."""
    if not chat.turns:
        return '<div class="dl-chat"><p class="dl-muted">Say something: all answer.</p></div>'
    last = len(chat.turns) - 1
    turns = "".join(
        _turn(turn, number, number == last, busy and number == last)
        for number, turn in enumerate(chat.turns)
    )
    system = f'<p class="dl-muted dl-small">System: {esc(chat.system)}</p>' if chat.system else ""
    return f'<div class="dl-chat">{system}{turns}</div>'


def _turn(turn: Turn, number: int, last: bool, busy: bool) -> str:
    cards = "".join(_answer(turn, number, place, last, busy) for place in range(len(turn.columns)))
    apart = turn.whole and not turn.is_pair and any(m != turn.asked[0] for m in turn.asked)
    why = f'<p class="dl-muted dl-small">{APART}</p>' if apart else ""
    return (
        f'<div class="dl-mine"><span class="dl-role">you</span>{esc(turn.user)}</div>'
        f'<div class="dl-answers">{cards}</div>{why}'
    )


def _answer(turn: Turn, number: int, place: int, last: bool, busy: bool) -> str:
    column = turn.columns[place]
    won = " dl-won" if turn.best == place else ""
    name = esc(column["label"]) + (" (edited)" if place in turn.edited else "")
    buttons = "" if busy or not turn.whole else _buttons(turn, number, place, last)
    return (
        f'<article class="dl-card dl-answer{won}"><header><b>{name}</b></header>'
        f'<div class="dl-said">{esc(column["text"]) or "&nbsp;"}</div>{buttons}</article>'
    )


def _buttons(turn: Turn, number: int, place: int, last: bool) -> str:
    thumb = turn.thumbs.get(place)
    offered = [("good", "Good", thumb == "good"), ("bad", "Bad", thumb == "bad")]
    if turn.is_pair:
        offered.append(("best", "Prefer this", turn.best == place))
    if last:
        offered.append(("edit", "Edit", False))
    drawn = "".join(
        f'<button type="button" class="dl-say" data-do="{act}" data-turn="{number}"'
        f' data-place="{place}" aria-pressed="{str(on).lower()}">{words}</button>'
        for act, words, on in offered
    )
    return f'<div class="dl-says">{drawn}</div>'
