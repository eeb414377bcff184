"""The Compare tab: columns in lockstep, blind votes, and votes as data for the next run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.context import Context

from dpo_lite.compare.columns import REFERENCE, columns, prompts_of
from dpo_lite.compare.votes import BAD, LETTERS, TIE, read_votes, win_rates
from dpo_lite.errors import UserError
from dpo_lite.model.adapter_files import CONFIG, is_reward
from dpo_lite.runs.folder import Run, list_runs, named_run
from dpo_lite.ui import parts
from dpo_lite.ui.answers import win_table
from dpo_lite.ui.compare_asking import (
    DEFAULTS,
    MOST_COLUMNS,
    NOTHING,
    command,
    generate,
    show,
    vote,
)
from dpo_lite.ui.compare_export import connect_export

if TYPE_CHECKING:
    from dpo_lite.ui.shared import Page

SECONDS = 2.0


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
    Context.root_block.load(refresh, [seen, run, page.selected], ticked, **parts.QUIET)
    gr.Timer(SECONDS).tick(
        refresh,
        [seen, run, page.selected],
        ticked,
        trigger_mode="once",
        concurrency_limit=None,
        **parts.QUIET,
    )

    def select(names):
        known = [found.name for found in finished(page.runs)]
        return names[0] if names and names[0] in known else gr.skip()

    page.selected.change(select, page.selected, run, **parts.QUIET)
    run.change(lambda name: _of_run(page, name), run, [beside, prompt, place], **parts.QUIET)
    for button, step in ((back, -1), (on, 1)):
        button.click(
            lambda name, text, step=step: _turn(page, name, text, step),
            [run, prompt],
            [prompt, place],
            **parts.QUIET,
        )

    asking = gr.on(
        [go.click, prompt.submit],
        lambda *given: (yield from generate(page, *given)),
        [*settings, tokens, differences],
        outputs,
        concurrency_limit=None,
        trigger_mode="once",
        **parts.QUIET,
    )

    stop.click(None, None, None, cancels=[asking], **parts.QUIET).then(
        lambda: ("", gr.Button(interactive=True), gr.Button(interactive=False)),
        None,
        [told, go, stop],
        **parts.QUIET,
    )
    gr.on(
        [tokens.change, differences.change],
        show,
        [state, tokens, differences],
        shown,
        **parts.QUIET,
    )
    for verdict, button in ballots.items():
        button.click(
            lambda found, *view, verdict=verdict: vote(page, verdict, found, *view),
            [state, tokens, differences],
            [told, shown, state, voting, rates],
            **parts.QUIET,
        )
    gr.on(
        [c.change for c in (run, beside, blind, prompt, *sampling)],
        lambda *given: command(page, *given),
        settings,
        line,
        trigger_mode="always_last",
        **parts.QUIET,
    )
    free.click(lambda: page.worker.free() or _loaded(None), None, loaded, **parts.QUIET)
    connect_export(page, export, run, file, exported, train)


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
    """Runs whose adapter can answer, newest first."""
    trained = [run for run in list_runs(folder) if (run.adapter / CONFIG).is_file()]
    return [run for run in trained if not is_reward(run.adapter)]


def _first(names: list[str], selected: list[str] | None) -> str | None:
    """The run that was clicked in the table, else the newest."""
    wanted = [name for name in selected or [] if name in names]
    return next(iter(wanted or names), None)


def _of_run(page: Page, name: str | None):
    """Another run was chosen: what can stand beside it, and its first prompt."""
    if not name:
        return gr.skip(), gr.skip(), gr.skip()
    run = named_run(name, page.runs)
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
    prompts = prompts_of(named_run(name, page.runs)) if name else []
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


def _loaded(name: str | None) -> str:
    text = f"loaded: {name}" if name else "nothing is loaded"
    return f'<p class="dl-muted dl-small">{parts.esc(text)}</p>'
