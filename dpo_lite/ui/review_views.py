"""The audit of labels and the review of the doubted ones, as HTML. No Gradio in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lite.data.decisions import DROP, FLIP, KEEP
from dpo_lite.report.words import counted
from dpo_lite.ui.compare_views import interval_bar
from dpo_lite.ui.parts import badge, esc, note
from dpo_lite.ui.reviews import MADE, Review

UNDO, BACK, FORTH = "undo", "back", "forth"
# The key, its sign, what it does and what the button says.
BALLOT = (
    ("k", "K", KEEP, "Keep as it is"),
    ("d", "D", DROP, "Drop the pair"),
    ("f", "F", FLIP, "Flip: the other is better"),
    ("u", "U", UNDO, "Undo the last one"),
)
TURNING = (("ArrowLeft", "←", BACK, "Before"), ("ArrowRight", "→", FORTH, "Next"))
HINT = "K, D, F and U decide and ← → look around, as long as nobody types in a field."
KINDS = {KEEP: "good", DROP: "bad", FLIP: "warn"}
# A pair that something was said of takes nothing more until the next one is drawn.
SCRIPT = """
const say = (button) => {
  const arena = button.closest(".dl-arena");
  if (!arena || arena.dataset.voted || button.disabled) return;
  arena.dataset.voted = button.dataset.act;
  trigger("click", {act: button.dataset.act, place: Number(arena.dataset.place)});
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (button) say(button);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.repeat) return;
  if (!element.isConnected || !element.offsetParent) return;
  const typing = "input, textarea, select, [contenteditable], [role=slider], [role=tab]";
  if (event.target.closest?.(typing)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const button = element.querySelector(`button[data-key="${CSS.escape(key)}"]`);
  if (!button) return;
  event.preventDefault();
  say(button);
});
"""


def audit_report(found: Mapping[str, Any]) -> str:
    """How many labels follow from what nobody meant, each with a bar of its share and interval."""
    rows = "".join(map(_shortcut, found["shortcuts"]))
    titles = ("feature", "the better one by it", "labels that follow", "")
    head = "".join(f"<th>{name}</th>" for name in titles)
    head += '<th class="dl-number">pairs</th>'
    chance, *words = found["words"]
    notes = "".join(f'<p class="dl-small">{esc(line)}</p>' for line in words)
    return (
        '<div class="dl-card dl-outcome"><p class="dl-title">What the labels follow from</p>'
        f'<div class="dl-scroll"><table class="dl-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f'<p class="dl-muted dl-small">{esc(chance)}</p>{notes}</div>'
    )


def _shortcut(facts: Mapping[str, Any]) -> str:
    share, words, bar = facts.get("share"), "tells no pair apart", ""
    if share is not None:
        low, high = facts["interval"]
        words = f"{share:.0%} ({low:.0%} to {high:.0%})"
        bar = f'<span class="dl-half">{interval_bar(low, high, share)}</span>'
    return (
        f"<tr><td>{esc(facts['name'])}</td><td>{esc(facts['points']) if bar else '–'}</td>"
        f'<td>{words}</td><td>{bar}</td><td class="dl-number">{facts["pairs"]:,}</td></tr>'
    )


def progress(review: Review) -> str:
    """``12 of 37 looked at``, a bar, and what was decided."""
    counts, whole = review.counts, len(review.rows)
    done = counts.total()
    what = ", ".join(f"{counts[made]:,} {words}" for made, words in MADE.items() if counts[made])
    more = review.found["rows"] - whole
    unlisted = f" The {more:,} least doubted ones are not listed." if more > 0 else ""
    return (
        f'<p class="dl-title">Doubtful labels of {esc(review.found["source"])}</p>'
        '<div class="dl-round-line" role="img" aria-label="progress">'
        f'<b style="width:{100 * done / max(whole, 1):.1f}%"></b></div>'
        f'<p class="dl-small">{done:,} of {whole:,} looked at{": " if what else ""}{what}.'
        f"{unlisted}</p>"
    )


def arena(review: Review, place: int | None) -> str:
    """The pair at a place with its buttons; at None what stands where all are decided."""
    if not review.pairs:
        return note("No label is doubted, so there is none to look at.", "good")
    if place is None:
        words = "All doubtful labels are looked at; save what you decided as a new file."
        end = _buttons(BALLOT[3:] + TURNING[:1], review, None)
        return _frame(len(review.pairs), f"{note(words, 'good')}{end}")
    pair = review.pairs[place]
    made = review.decisions.of.get(pair["row"])
    state = badge(MADE[made], KINDS[made]) if made else badge("not decided")
    where = f"{place + 1} of {len(review.pairs)}, row {pair['row']}"
    asked = "".join(
        f'<p><span class="dl-role">{esc(role)}</span> {esc(text)}</p>'
        for role, text in pair["turns"]
    )
    cards = "".join(
        f'<article class="dl-card dl-answer"><header><b>{name}</b></header>'
        f'<div class="dl-said">{esc(pair[key]) or "&nbsp;"}</div></article>'
        for key, name in (("chosen", "chosen (labelled better)"), ("rejected", "rejected"))
    )
    no_flip = f'<p class="dl-muted dl-small">{esc(pair["no_flip"])}</p>' if pair["no_flip"] else ""
    return _frame(
        place,
        f"{_buttons(BALLOT, review, place)}"
        f'<p class="dl-small">{state} <span class="dl-muted">{esc(where)}</span> '
        f'{esc(pair["why"])}</p>{no_flip}<div class="dl-asked">{asked}</div>'
        f'<div class="dl-answers">{cards}</div>{_buttons(TURNING, review, place)}'
        f'<p class="dl-muted dl-small">{HINT}</p>',
    )


def _frame(place: int, body: str) -> str:
    return f'<section class="dl-arena" data-place="{place}">{body}</section>'


def _buttons(which: Sequence[tuple[str, ...]], review: Review, place: int | None) -> str:
    shown = []
    for key, sign, act, words in which:
        off = act == UNDO and review.last is None
        off |= act == FLIP and place is not None and bool(review.pairs[place]["no_flip"])
        shown.append(
            f'<button type="button" class="dl-verdict" data-act="{act}" data-key="{key}"'
            f"{' disabled' if off else ''}><kbd>{sign}</kbd> {words}</button>"
        )
    return f'<div class="dl-ballot">{"".join(shown)}</div>'


def saved_words(review: Review) -> str:
    """Beside the button that saves: what would be written now."""
    counts = review.counts
    left = len(review.rows) - counts.total()
    unseen = f"; {counted(left, 'doubtful row')} not looked at stay as they are" if left else ""
    return (
        f'<p class="dl-muted dl-small">Without {counted(counts[DROP], "dropped pair")}, with'
        f" {counts[FLIP]:,} turned round{unseen}.</p>"
    )
