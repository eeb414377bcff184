"""A round of votes as HTML: how far it is, the pair that is open, its four buttons."""

from __future__ import annotations

from dpo_lite.compare.rounds import Round, progress_words, standing, standing_words
from dpo_lite.compare.votes import BAD, TIE, Asked
from dpo_lite.ui.compare_views import interval_bar
from dpo_lite.ui.parts import empty, esc, note

# The key, its sign, the verdict and what it says, from left to right.
BALLOT = (
    ("ArrowLeft", "←", "A", "Left is better"),
    ("ArrowUp", "↑", TIE, "Tie"),
    ("ArrowDown", "↓", BAD, "Both bad"),
    ("ArrowRight", "→", "B", "Right is better"),
)
HINT = "The arrow keys vote, as long as nobody types in a field."
# A pair that has been voted on takes no second vote until the next one is drawn.
SCRIPT = """
const vote = (button) => {
  const arena = button.closest(".dl-arena");
  if (!arena || arena.dataset.voted) return;
  arena.dataset.voted = button.dataset.verdict;
  trigger("click", {verdict: button.dataset.verdict, pair: Number(arena.dataset.pair)});
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-verdict]");
  if (button) vote(button);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (!element.isConnected || !element.offsetParent) return;
  const typing = "input, textarea, select, [contenteditable], [role=slider], [role=tab]";
  if (event.target.closest?.(typing)) return;
  const button = element.querySelector(`button[data-key="${event.key}"]`);
  if (!button) return;
  event.preventDefault();
  vote(button);
});
"""


def arena(going: Round | None) -> str:
    """The open pair, or what stands where there is none."""
    if going is None:
        return ""
    if going.waits:
        return _frame("", '<p class="dl-muted">The next pair is on its way.</p>', going.number)
    if going.over:
        return _frame("", _end(going), going.number)
    prompt, columns = going.pairs[going.number]
    buttons = "".join(
        f'<button type="button" class="dl-verdict" data-verdict="{verdict}" data-key="{key}">'
        f"<kbd>{sign}</kbd> {words}</button>"
        for key, sign, verdict, words in BALLOT
    )
    cards = "".join(
        f'<article class="dl-card dl-answer" data-place="{letter}"><header><b>{side}</b></header>'
        f'<div class="dl-said">{esc(column["text"]) or "&nbsp;"}</div></article>'
        for letter, side, column in zip("AB", ("Left", "Right"), columns, strict=True)
    )
    ballot = f'<div class="dl-ballot">{buttons}</div><p class="dl-muted dl-small">{HINT}</p>'
    asked = f'<div class="dl-asked">{asked_html(prompt)}</div>'
    return _frame(ballot, f'{asked}<div class="dl-answers">{cards}</div>', going.number)


def _frame(ballot: str, body: str, number: int) -> str:
    return f'<section class="dl-arena" data-pair="{number}">{ballot}{body}</section>'


def _end(going: Round) -> str:
    if not going.votes and going.answered:
        return note("Both said the same to every prompt: there was nothing to vote on.")
    if not going.votes:
        return empty("No round", "Start one, and its pairs come here.")
    return note(f"The round is over. {standing_words(going)}", "good")


def asked_html(prompt: Asked) -> str:
    """A prompt as text, of a conversation turn by turn."""
    if isinstance(prompt, str):
        return f"<p>{esc(prompt)}</p>"
    return "".join(
        f'<p><span class="dl-role">{esc(turn["role"])}</span> {esc(turn["content"])}</p>'
        for turn in prompt
    )


def progress(going: Round | None, doing: str = "") -> str:
    """How far the round is and how the two stand; ``doing``: of the worker, in words."""
    if going is None:
        return ""
    share = 100 * going.answered / max(len(going.prompts), 1)
    voted = 100 * (going.number + going.same) / max(len(going.prompts), 1)
    line = (
        '<div class="dl-round-line" role="img" aria-label="progress">'
        f'<i style="width:{share:.1f}%"></i><b style="width:{min(voted, share):.1f}%"></b></div>'
    )
    words = f'<p class="dl-muted dl-small">{esc(progress_words(going))}'
    words += f" · {esc(doing)}</p>" if doing else "</p>"
    found = standing(going)
    bar = interval_bar(*found[0].interval, found[0].rate) if found and found[0].interval else ""
    rate = f'<p class="dl-small dl-standing">{bar}{esc(standing_words(going)) or "&nbsp;"}</p>'
    return line + words + rate + _last(going)


def _last(going: Round) -> str:
    """Who was who in the pair before."""
    if not going.votes:
        return '<p class="dl-muted dl-small">&nbsp;</p>'
    left, right = (column["label"] for column in going.votes[-1]["columns"])
    words = f"The pair before: left {left}, right {right}."
    return f'<p class="dl-muted dl-small">{esc(words)}</p>'
