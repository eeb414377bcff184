"""The Compare tab: columns in lockstep, blind votes, and votes as data for the next run."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.context import Context

from dpo_lite.columns import POLICY, REFERENCE, columns, prompts_of
from dpo_lite.errors import UserError
from dpo_lite.runs import NAME, Run, list_runs, open_run
from dpo_lite.ui import parts
from dpo_lite.ui.answers import answers, win_table
from dpo_lite.votes import (
    BAD,
    LETTERS,
    TIE,
    add_vote,
    export_votes,
    read_votes,
    training_command,
    win_rates,
)

if TYPE_CHECKING:
    from dpo_lite.ui.page import Page

SECONDS = 2.0
FRAME = 0.08  # seconds between two looks at a growing answer
MOST_COLUMNS = 4
OPTIONS = ("temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens", "seed")
DEFAULTS = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "repetition_penalty": 1.0,
    "max_new_tokens": 64,
    "seed": 0,
}
NOTHING = {"columns": [], "prompt": "", "run": "", "blind": False, "verdict": None, "sampling": {}}
SAME = "All say the same here: take another prompt, or a higher temperature."
QUIET = {"show_progress": "hidden", "api_visibility": "private"}


def build(page: Page) -> None:
    state = gr.State(NOTHING)
    seen = gr.State(None)
    nothing_yet = gr.HTML(
        parts.empty(
            "Nothing to compare yet",
            "Train a recipe first. A finished run stands here beside the model that it came from.",
        ),
        elem_id="compare-empty",
    )
    with gr.Column(visible=False, elem_id="compare-all") as everything:
        with gr.Row():
            run = gr.Dropdown(
                label="Run",
                choices=[],
                elem_id="compare-run",
                elem_classes="dl-field",
                scale=2,
                min_width=220,
                info="What was trained",
            )
            beside = gr.Dropdown(
                label="Beside it",
                choices=[REFERENCE],
                value=[REFERENCE],
                multiselect=True,
                max_choices=MOST_COLUMNS - 1,
                elem_id="compare-beside",
                elem_classes="dl-field",
                scale=3,
                min_width=260,
                info="The reference, or other runs on the same base",
            )
        prompt = gr.Textbox(
            label="Prompt",
            lines=2,
            max_lines=8,
            elem_id="compare-prompt",
            elem_classes="dl-field",
            info="What you ask, as one user turn",
        )
        with gr.Row(elem_id="compare-pages"):
            back = gr.Button(
                "‹ Earlier prompt", size="sm", elem_id="compare-back", scale=0, min_width=130
            )
            on = gr.Button(
                "Next prompt ›", size="sm", elem_id="compare-next", scale=0, min_width=130
            )
            place = gr.HTML("", padding=False, elem_id="compare-place")
        with gr.Accordion("Sampling", open=False, elem_id="compare-sampling"):
            sampling = _sampling()
        with gr.Row(equal_height=True):
            go = gr.Button(
                "Generate", variant="primary", size="md", elem_id="compare-generate", min_width=140
            )
            stop = gr.Button(
                "Stop", size="md", elem_id="compare-stop", interactive=False, min_width=90
            )
            blind = gr.Checkbox(
                label="Blind", elem_id="compare-blind", min_width=110, container=False
            )
            tokens = gr.Checkbox(
                label="Reward by token", elem_id="compare-tokens", min_width=150, container=False
            )
            differences = gr.Checkbox(
                label="Differences",
                value=True,
                elem_id="compare-differences",
                min_width=130,
                container=False,
            )
        told = gr.HTML("", padding=False, elem_id="compare-told")
        shown = gr.HTML("", padding=False, elem_id="compare-answers", min_height=130)
        with gr.Row(visible=False, elem_id="compare-vote") as voting:
            ballots = {
                letter: gr.Button(
                    f"{letter} is better",
                    elem_id=f"compare-vote-{letter.lower()}",
                    visible=letter in "AB",
                    min_width=110,
                )
                for letter in LETTERS[:MOST_COLUMNS]
            }
            ballots[TIE] = gr.Button("Tie", elem_id="compare-vote-tie", min_width=110)
            ballots[BAD] = gr.Button("Both bad", elem_id="compare-vote-bad", min_width=110)
        line = gr.HTML("", padding=False, elem_id="compare-command")
        with gr.Row(equal_height=True):
            loaded = gr.HTML("", padding=False, elem_id="compare-loaded")
            free = gr.Button("Free", size="sm", elem_id="compare-free", min_width=90, scale=0)
        gr.HTML('<p class="dl-title">Win rates of the blind votes</p>', padding=False)
        rates = gr.HTML("", padding=False, elem_id="compare-rates")
        with gr.Row(elem_id="compare-votes"):
            file = gr.Textbox(
                "votes.jsonl",
                label="Votes as training data",
                elem_id="compare-file",
                elem_classes="dl-field",
                info="A new .jsonl file beside your own recipes",
                min_width=220,
            )
            export = gr.Button(
                "Export", size="md", elem_id="compare-export", min_width=110, scale=0
            )
        exported = gr.HTML("", padding=False, elem_id="compare-exported")
        train = gr.Button(
            "Open in Recipes", visible=False, size="md", elem_id="compare-open-recipes"
        )

    settings = [run, beside, blind, prompt, *sampling]
    outputs = [told, shown, state, voting, *ballots.values(), go, stop]

    def refresh(before, chosen, selected):
        """New runs, what is loaded, the votes: only what changed is sent."""
        names = [found.name for found in finished(page.runs)]
        held = page.worker.state()
        votes = read_votes(page.runs)
        now = [names, held["loaded"], len(votes), votes[-1]["time"] if votes else 0]
        if now == before:
            return [gr.skip()] * 6
        known = chosen if chosen in names else _first(names, selected)
        menu = gr.Dropdown(choices=names, value=known)
        return [
            now,
            gr.HTML(visible=not names),
            gr.Column(visible=bool(names)),
            menu if not before or now[0] != before[0] else gr.skip(),
            _loaded(held["loaded"]),
            win_table(*win_rates(votes)),
        ]

    ticked = [seen, nothing_yet, everything, run, loaded, rates]
    Context.root_block.load(refresh, [seen, run, page.selected], ticked, **QUIET)
    gr.Timer(SECONDS).tick(
        refresh,
        [seen, run, page.selected],
        ticked,
        trigger_mode="once",
        concurrency_limit=None,
        **QUIET,
    )

    def select(names):
        known = [found.name for found in finished(page.runs)]
        return names[0] if names and names[0] in known else gr.skip()

    page.selected.change(select, page.selected, run, **QUIET)
    run.change(lambda name: _of_run(page, name), run, [beside, prompt, place], **QUIET)
    for button, step in ((back, -1), (on, 1)):
        button.click(
            lambda name, text, step=step: _turn(page, name, text, step),
            [run, prompt],
            [prompt, place],
            **QUIET,
        )

    asking = gr.on(
        [go.click, prompt.submit],
        lambda *given: (yield from _generate(page, *given)),
        [*settings, tokens, differences],
        outputs,
        concurrency_limit=None,
        trigger_mode="once",
        **QUIET,
    )

    stop.click(None, None, None, cancels=[asking], **QUIET).then(
        lambda: ("", gr.Button(interactive=True), gr.Button(interactive=False)),
        None,
        [told, go, stop],
        **QUIET,
    )
    gr.on(
        [tokens.change, differences.change],
        lambda found, *view: _show(found, *view),
        [state, tokens, differences],
        shown,
        **QUIET,
    )
    for verdict, button in ballots.items():
        button.click(
            lambda found, *view, verdict=verdict: _vote(page, verdict, found, *view),
            [state, tokens, differences],
            [told, shown, state, voting, rates],
            **QUIET,
        )
    gr.on(
        [c.change for c in (run, beside, blind, prompt, *sampling)],
        lambda *given: _command(page, *given),
        settings,
        line,
        trigger_mode="always_last",
        **QUIET,
    )
    free.click(lambda: page.worker.free() or _loaded(None), None, loaded, **QUIET)
    _export(page, export, run, file, exported, train)


def _sampling() -> list[Any]:
    """Controls in the order of OPTIONS, with what each does."""
    label = {
        "temperature": ("Temperature", 0, 2, 0.05, "0 always takes the likeliest token"),
        "top_p": ("Top p", 0.05, 1, 0.05, "Only the likeliest tokens that make up this share"),
        "top_k": ("Top k", 0, 200, 1, "Only so many of the likeliest tokens; 0 is off"),
        "repetition_penalty": ("Repetition penalty", 1, 2, 0.05, "1 is off"),
        "max_new_tokens": ("Longest answer", 1, 1024, 1, "In tokens"),
    }
    with gr.Row():
        controls = [
            gr.Slider(
                low,
                high,
                value=DEFAULTS[key],
                step=step,
                label=name,
                info=info,
                elem_id=f"compare-{key.replace('_', '-')}",
                min_width=240,
            )
            for key, (name, low, high, step, info) in label.items()
        ]
        controls.append(
            gr.Number(
                DEFAULTS["seed"],
                label="Seed",
                precision=0,
                minimum=0,
                info="All columns draw the same noise, so equal models say the same",
                elem_id="compare-seed",
                min_width=240,
            )
        )
    return controls


# --- what is there -------------------------------------------------------------------------------


def finished(folder: Path) -> list[Run]:
    """Runs that have an adapter, newest first."""
    return [run for run in list_runs(folder) if (run.adapter / "adapter_config.json").is_file()]


def _first(names: list[str], selected: list[str] | None) -> str | None:
    """The run that was clicked in the table, else the newest."""
    wanted = [name for name in selected or [] if name in names]
    return next(iter(wanted or names), None)


def _of_run(page: Page, name: str | None):
    """Another run was chosen: what can stand beside it, and its first prompt."""
    if not name:
        return gr.skip(), gr.skip(), gr.skip()
    run = _open(page, name)
    others = [REFERENCE]
    for other in finished(page.runs):
        with contextlib.suppress(UserError):  # of another base
            if other.name != name and columns(run, [other.name], page.runs):
                others.append(other.name)
    prompts = prompts_of(run)
    first = prompts[0] if prompts else ""
    return (
        gr.Dropdown(choices=others, value=[REFERENCE]),
        first,
        _place(prompts, first),
    )


def _turn(page: Page, name: str | None, text: str, step: int) -> tuple[Any, str]:
    """The next of the prompts that the run was asked before and after its training."""
    prompts = prompts_of(_open(page, name)) if name else []
    if not prompts:
        return gr.skip(), '<p class="dl-muted dl-small">this run was asked nothing</p>'
    here = prompts.index(text) if text in prompts else (-1 if step > 0 else 0)
    text = prompts[(here + step) % len(prompts)]
    return text, _place(prompts, text)


def _place(prompts: list[str], text: str) -> str:
    if text not in prompts:
        return ""
    place = f"prompt {prompts.index(text) + 1} of {len(prompts)} of this run"
    return f'<p class="dl-muted dl-small">{place}</p>'


def _open(page: Page, name: str) -> Run:
    """A run by its name alone: no path reaches the disk from here."""
    if not NAME.match(name):
        raise UserError(f"{name} is no name of a run.")
    return open_run(name, page.runs)


def _loaded(name: str | None) -> str:
    text = f"loaded: {name}" if name else "nothing is loaded"
    return f'<p class="dl-muted dl-small">{parts.esc(text)}</p>'


# --- generating ----------------------------------------------------------------------------------


def _generate(page: Page, run, beside, blind, prompt, *rest):
    """Stream the columns; a click on Stop or a closed page closes this, and with it the task."""
    *numbers, tokens, differences = rest
    sampling = _numbers(numbers)
    try:
        names = [name for name in [*(beside or []), POLICY] if name]
        found = _columns(page, run, names, blind, prompt)
    except UserError as error:
        yield _now(parts.note(error, "bad"), None)
        return
    if blind:
        random.shuffle(found)
    state = {
        **NOTHING,
        "columns": [{"label": c.label, "text": ""} for c in found],
        "prompt": prompt,
        "run": run,
        "blind": blind,
        "sampling": sampling,
    }
    view = (tokens, differences)
    drawn = 0.0
    yield _now(parts.note("asking the worker"), state, *view, busy=True)
    names = [REFERENCE if c.label == REFERENCE else c.label for c in found]
    asked = page.worker.run("generate", run=run, columns=names, prompt=prompt, sampling=sampling)
    with contextlib.closing(asked) as events:
        for event in events:
            if event["event"] == "token":
                for column, text in zip(state["columns"], event["texts"], strict=True):
                    column["text"] = text
                if time.monotonic() - drawn > FRAME:
                    drawn = time.monotonic()
                    yield _growing("", state)
            elif event["event"] == "result":
                state["columns"] = event["result"]
                same = len(found) > 1 and len({c["text"] for c in event["result"]}) == 1
                yield _now(parts.note(SAME) if same else "", state, *view)
            elif event["event"] == "error":
                yield _now(parts.note(event["text"], "bad"), state, *view)
            elif event.get("text") != "generating":
                told = f"{event['text']} … {event.get('seconds', 0):.0f} s"
                yield _growing(parts.note(told), state)


def _columns(page: Page, run, names, blind, prompt) -> list[Any]:
    """The columns, checked here already, before anything is loaded."""
    if not run:
        raise UserError("Choose a run first.")
    if not (prompt or "").strip():
        raise UserError("Type a prompt, or page to one of the run's own.")
    for name in names:
        if not NAME.match(name):
            raise UserError(f"{name} is no name of a run.")
    found = columns(_open(page, run), names, page.runs)
    if blind and len({c.fingerprint for c in found}) < 2:
        raise UserError("A blind vote needs two different models: add one under Beside it.")
    return found


def _numbers(values) -> dict[str, Any]:
    """Sampling as JSON; an emptied field takes its default."""
    given = dict(zip(OPTIONS, values, strict=True))
    return {
        key: type(default)(given[key] if given[key] is not None else default)
        for key, default in DEFAULTS.items()
    }


def _growing(told: str, state) -> tuple[Any, ...]:
    """The outputs while answers grow: one that comes late must not undo what Stop did."""
    return (told, _show(state, False, False), state, *[gr.skip()] * (MOST_COLUMNS + 5))


def _now(told: str, state, *view, busy: bool = False) -> tuple[Any, ...]:
    """The outputs at the start and at the end of generating."""
    done = bool(state) and not busy and all("tokens" in c for c in state["columns"])
    vote = done and state["blind"] and state["verdict"] is None
    count = len(state["columns"]) if state else 2
    return (
        told,
        _show(state, *view) if state else gr.skip(),
        state if state is not None else gr.skip(),
        gr.Row(visible=vote),
        *(gr.Button(visible=place < count) for place in range(MOST_COLUMNS)),
        gr.Button(),
        gr.Button("Both bad" if count == 2 else "All bad"),
        gr.Button(interactive=not busy),
        gr.Button(interactive=busy),
    )


def _show(state, tokens: bool, differences: bool) -> str:
    if not state["columns"]:
        return ""
    hidden = state["blind"] and state["verdict"] is None
    return answers(
        state["columns"],
        hidden=hidden,
        tokens=tokens,
        differences=differences,
        best=state["verdict"],
    )


def _vote(page: Page, verdict: str, state, tokens: bool, differences: bool):
    """Keep a vote and show who was who."""
    if not state["columns"] or state["verdict"] is not None:
        return [gr.skip()] * 5
    add_vote(
        page.runs,
        run=state["run"],
        prompt=state["prompt"],
        shown=[
            {"label": c["label"], "fingerprint": c["fingerprint"], "answer": c["text"]}
            for c in state["columns"]
        ],
        sampling=state["sampling"],
        verdict=verdict,
        blind=True,
    )
    state = state | {"verdict": verdict}
    words = {TIE: "a tie", BAD: "none is any good"}.get(verdict, f"{verdict} is better")
    return (
        parts.note(f"Your vote is kept: {words}. Now the names are shown.", "good"),
        _show(state, tokens, differences),
        state,
        gr.Row(visible=False),
        win_table(*win_rates(read_votes(page.runs))),
    )


def _command(page: Page, run, beside, blind, prompt, *numbers) -> str:
    """The same from a terminal."""
    if not run or not prompt:
        return ""
    beside = beside or []
    words = ["dpo-lite", "compare", run, "--prompt", prompt]
    words += [] if REFERENCE in beside else ["--no-reference"]
    for name in beside:
        words += ["--with", name] if name != REFERENCE else []
    words += ["--blind"] if blind else []
    for key, value in _numbers(numbers).items():
        if value != DEFAULTS[key]:
            words += [f"--{key.replace('_', '-')}", f"{value:g}"]
    return parts.command([*words, *_runs_option(page)])


def _runs_option(page: Page) -> list[str]:
    return [] if str(page.runs) == "runs" else ["--runs", str(page.runs)]


# --- votes as data -------------------------------------------------------------------------------


def _export(page: Page, button, run, file, exported, train) -> None:
    written = gr.State("")

    def write(run: str | None, name: str):
        name = (name or "").strip()
        path = page.recipes / name
        try:
            if not NAME.match(name):
                raise UserError("Give a plain file name that ends in .jsonl, such as votes.jsonl.")
            found = export_votes(page.runs, path)
            line = training_command(page.runs, run or read_votes(page.runs)[-1]["run"], path)
        except UserError as error:
            return parts.note(error, "bad"), "", gr.Button(visible=False)
        left = ", ".join(f"{why} {count}" for why, count in found.left_out.items())
        note = f"{len(found.rows)} row{'s' * (len(found.rows) != 1)} in {path}" + (
            f"; left out: {left}" if left else ""
        )
        how = ["dpo-lite", "votes", "export", str(path), *_runs_option(page)]
        shown = (
            parts.note(note, "good")
            + parts.command(how)
            + '<p class="dl-muted dl-small dl-gap">Train on from this run with your votes:</p>'
            + parts.command(line)
        )
        return shown, str(path), gr.Button(visible=True)

    button.click(write, [run, file], [exported, written, train], **QUIET)
    train.click(
        lambda path: ([path, [], time.time()], gr.Tabs(selected="recipes")),
        written,
        [page.wanted_data, page.tabs],
        **QUIET,
    )
