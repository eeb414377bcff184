"""The Recipes tab's pieces as HTML: cards, differences, what a check or a plan found."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lite.names import is_function
from dpo_lite.recipe.library import Entry
from dpo_lite.report.words import counted
from dpo_lite.tasks import TASKS
from dpo_lite.ui.parts import bar, command, esc, note

GIB = 2**30
MIB = 2**20


def cards(
    own: Sequence[Entry],
    fitting: Sequence[Entry],
    others: Sequence[Entry],
    picked: str,
    where: str = "this machine",
) -> str:
    """All recipes to pick from; ``picked`` is ``own:name`` or ``shipped:name``.

    ``fitting`` ship and fit the card ``where``; ``others`` ship and want a larger one, and stand in
    a fold.
    """
    blocks = []
    if own:
        blocks.append(f'<h2 class="dl-title">Your recipes</h2>{_grid(own, picked)}')
    if fitting:
        title = f"Recipes that ship and fit {esc(where)}"
        blocks.append(f'<h2 class="dl-title">{title}</h2>{_grid(fitting, picked)}')
    if others:
        title = f"{counted(len(others), 'recipe')} for a larger card"
        opened = " open" if any(identity(entry) == picked for entry in others) else ""
        blocks.append(
            f'<details class="dl-fold"{opened}><summary>{title}</summary>{_grid(others, picked)}'
            "</details>"
        )
    return "".join(blocks)


def _grid(entries: Sequence[Entry], picked: str) -> str:
    return f'<div class="dl-cards">{"".join(_card(entry, picked) for entry in entries)}</div>'


def identity(entry: Entry) -> str:
    return f"{'own' if entry.own else 'shipped'}:{entry.name}"


def _card(entry: Entry, picked: str) -> str:
    on = identity(entry) == picked
    time = re.sub(r"(.+) \(estimate\)$", r"about \1", entry.time)
    facts = {
        "Model": entry.base,
        "Data": entry.data,
        "Card": entry.card,
        "Time": time,
        "Needs": needs(entry),
    }
    if entry.fault:
        body = f'<span class="dl-wrong-text">{esc(entry.fault)}</span>'
    else:
        rows = "".join(
            f'<span>{name}</span><span title="{esc(text)}">{esc(text)}</span>'
            for name, text in facts.items()
            if text
        )
        body = f'<span class="dl-facts">{rows}</span>'
    return (
        f'<button type="button" class="dl-recipe" data-recipe="{esc(identity(entry))}"'
        f' aria-pressed="{str(on).lower()}"><b>{esc(entry.name)}</b>'
        f'<span class="dl-purpose">{esc(entry.purpose)}</span>{body}</button>'
    )


def needs(entry: Entry) -> str:
    """What must be there before a recipe can be launched; empty where nothing must."""
    recipe = entry.recipe
    if recipe is None or TASKS[recipe.task].composed or "ppo" not in TASKS[recipe.task].sections:
        return ""
    reward = recipe.ppo.reward or ""
    if is_function(reward) or (reward and Path(reward).exists()):
        return ""
    run = re.sub(r"-\d+\Z", "", reward)
    return f"a reward model{f' ({run})' if run else ''}"


def time_found(result: Mapping[str, Any]) -> str:
    """The time of a run that a check or a plan told, in a few words; empty where it told none."""
    for line in result["lines"]:
        if line.startswith("an epoch takes"):
            return re.sub(r" \(.*\)$", "", line)
        if line[:11].strip() == "time":
            whole = re.search(r", (.+ in all)", line)
            return whole[1] if whole else ""
    return ""


def marked(html: str, text: str) -> str:
    """HTML that says of which text of the recipe it speaks: ``reach.js`` shows what is outdated."""
    return f'<div data-of="{hashlib.sha256(text.strip().encode()).hexdigest()[:16]}">{html}</div>'


def differences(name: str, rows: Sequence[tuple[str, Any, Any]]) -> str:
    """Keys that differ from the shipped recipe, its value beside the own one."""
    if not rows:
        return f'<p class="dl-muted dl-small">No key differs from {esc(name)} as it ships.</p>'
    body = "".join(
        f"<tr><td class='dl-mono'>{esc(key)}</td><td class='dl-mono dl-old'>{esc(_short(old))}</td>"
        f"<td class='dl-mono dl-new'>{esc(_short(new))}</td></tr>"
        for key, old, new in rows
    )
    return (
        '<div class="dl-scroll"><table class="dl-table"><thead><tr><th>key</th>'
        f"<th>{esc(name)} as it ships</th><th>yours</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _short(value: Any) -> str:
    if value is None:
        return "default"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def checked(result: Mapping[str, Any], line: Sequence[str]) -> str:
    """The preflight: memory by part, its lines, and what the data are."""
    memory = result.get("memory")
    data = result["data"]
    facts = [
        (
            "data",
            f"{data['kept']:,} of {counted(data['rows'], 'row')} to train on, {data['format']}",
        ),
        *((row[:11].strip(), row[11:]) for row in result["lines"]),
    ]
    notes = "".join(note(sentence(text), "warn") for text in data.get("notes", []))
    fits = memory is None or result["plan"]["total"] <= memory
    verdict = note("Ready to launch: all checks passed on this machine.", "good")
    if not fits:
        verdict = note("The plan needs more memory than is free on this card.", "warn")
    return _outcome(verdict + _of(result), result["plan"], memory, facts, notes, line)


def planned(result: Mapping[str, Any], card: str, line: Sequence[str]) -> str:
    """The forecast for a card, or for this machine."""
    where = f"a card with {card}" if card[:1].isdigit() and "gb" in card.lower() else card
    where = where or "this machine"
    fits, plan = result["fits"], result["plan"]
    verdict = note(
        f"It {'fits' if fits else 'does not fit'} on {where}. An estimate: no model was loaded.",
        "good" if fits else "bad",
    )
    advice = "".join(f"<li>{esc(way)}</li>" for way in result["advice"])
    times = [text for text in result["lines"] if text.startswith("an epoch takes")]
    facts = [("split", plan["split"]), *(("time", text) for text in times)]
    notes = f'<p>Change one of these:</p><ul class="dl-list">{advice}</ul>' if advice else ""
    notes += "".join(note(sentence(text), "warn") for text in result["notes"])
    return _outcome(verdict + _of(result), plan, result["memory"], facts, notes, line)


def _of(result: Mapping[str, Any]) -> str:
    """Which of its runs was looked at, where a run is made of runs."""
    return note(result["of"]) if result.get("of") else ""


def _outcome(
    verdict: str,
    plan: Mapping[str, Any],
    memory: float | None,
    facts: Sequence[tuple[str, str]],
    notes: str,
    line: Sequence[str],
) -> str:
    rows = "".join(f"<dt>{esc(name)}</dt><dd>{esc(text)}</dd>" for name, text in facts)
    return (
        f'<div class="dl-card dl-outcome">{verdict}{_memory(plan, memory)}'
        f'<dl class="dl-lines">{rows}</dl>{notes}{command(line)}</div>'
    )


def _memory(plan: Mapping[str, Any], memory: float | None) -> str:
    """Memory by part, of the card's; on a CPU, whose is nobody's alone, without a whole."""
    unit, name = (GIB, "GiB") if plan["total"] >= GIB else (MIB, "MiB")
    sizes = {part: size / unit for part, size in plan["parts"].items() if size}
    return bar(sizes, memory / unit if memory else None, name)


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
