"""A prompt's answers while a run learns, from the reference's to the last, as a strip of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lite.runs.folder import ANSWERED_BY
from dpo_lite.ui.compare_views import marked
from dpo_lite.ui.parts import esc

MOST_PROMPTS = 30
IN_ORDER = ("before", "start", "during", "after")
# Which prompt is looked at stays when the strip is drawn anew.
SCRIPT = """
let wanted = null;
const look = () => {
  const which = element.querySelector(".dl-which");
  if (!which) return;
  const prompts = [...which.options].map((option) => option.textContent);
  if (wanted !== null && prompts.includes(wanted)) which.selectedIndex = prompts.indexOf(wanted);
  element.querySelectorAll(".dl-film").forEach((film, place) => {
    film.hidden = place !== which.selectedIndex;
  });
};
element.addEventListener("change", (event) => {
  if (!event.target.matches(".dl-which")) return;
  wanted = event.target.selectedOptions[0].textContent;
  look();
});
watch("value", look);
look();
"""

Frames = dict[str, str]  # who answered, in order, and the answer


def films(samples: Sequence[Mapping[str, Any]], unit: str) -> dict[str, Frames]:
    """Frames by prompt, those with most frames first; of lines of samples.jsonl."""
    found: dict[str, dict[tuple[int, int], tuple[str, str]]] = {}
    for sample in samples:
        when, step = sample["when"], sample.get("step") or 0
        who = f"{unit} {step:,}" if when == "during" else ANSWERED_BY.get(when, when)
        place = (IN_ORDER.index(when) if when in IN_ORDER else 0, step)
        found.setdefault(sample["prompt"], {})[place] = (who, sample["answer"])
    strips = {
        prompt: dict(frame for _, frame in sorted(by_place.items()))
        for prompt, by_place in found.items()
    }
    return dict(sorted(strips.items(), key=lambda item: -len(item[1]))[:MOST_PROMPTS])


def filmstrip(strips: Mapping[str, Frames]) -> str:
    """A list of prompts to choose from, and the frames of each, of which one strip is shown."""
    options = "".join(f"<option>{esc(prompt)}</option>" for prompt in strips)
    sections = "".join(
        f'<section class="dl-film"{" hidden" if place else ""}>{_frames(frames)}</section>'
        for place, frames in enumerate(strips.values())
    )
    return (
        '<label class="dl-muted dl-small">Prompt '
        f'<select class="dl-which">{options}</select></label>{sections}'
    )


def _is_pair(pair: Any) -> bool:
    """Whether a file that may be damaged holds what is shown."""
    texts = ("prompt", "chosen", "rejected")
    return (
        isinstance(pair, dict)
        and all(isinstance(pair.get(key), str) for key in texts)
        and isinstance(pair.get("margin"), int | float)
    )


def most_wrong(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """The held-out pair that the run gets most wrong, over all sets; of most_wrong.json."""
    whole = {name: pair for name, pair in sets.items() if _is_pair(pair)}
    if not whole:
        return ""
    name, wrong = min(whole.items(), key=lambda pair: pair[1]["margin"])
    rows = "".join(
        f'<tr><th scope="row">{what}</th><td>{esc(wrong[what])}</td></tr>'
        for what in ("prompt", "chosen", "rejected")
    )
    return (
        f'<p class="dl-title dl-prompt">The held-out pair it gets most wrong: of {esc(name)}, by a'
        f" margin of {wrong['margin']:+.3g}</p>"
        f'<table class="dl-table dl-wrong"><tbody>{rows}</tbody></table>'
    )


def _frames(frames: Frames) -> str:
    """What differs from the frame before is marked; an equal answer says so."""
    before, drawn = None, []
    for who, answer in frames.items():
        if before is None:
            body = esc(answer)
        elif answer == before:
            body = '<span class="dl-muted">as before</span>'
        else:
            body = marked(answer, before)
        before = answer
        drawn.append(
            f'<article class="dl-frame"><header>{esc(who)}</header>'
            f'<div class="dl-said">{body or "&nbsp;"}</div></article>'
        )
    return f'<div class="dl-frames" tabindex="0">{"".join(drawn)}</div>'
