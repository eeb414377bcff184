"""What the Publish tab shows, made from run folders and the Hub's answers. No Gradio, no torch."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from dpo_lite.errors import UserError
from dpo_lite.export.gguf_levels import LEVELS
from dpo_lite.files import NAME
from dpo_lite.hub.account import Account
from dpo_lite.hub.login import Code
from dpo_lite.hub.push import Published
from dpo_lite.hub.staging import TOKENIZER, Staged, public_base
from dpo_lite.model.adapter_files import REWARD_FILE
from dpo_lite.recipe import Recipe
from dpo_lite.report.exports import HEAD
from dpo_lite.runs.checkpoints import complete
from dpo_lite.runs.folder import UNTRAINED, Run, list_runs, named_run
from dpo_lite.ui import parts

RESULT = "the finished adapter"
DOWNLOADED = ("adapter_model.safetensors", "adapter_config.json", REWARD_FILE, *TOKENIZER)
MERGED_FOLDER, EXPORTS_FOLDER = Path("merged"), Path("exports")


def run_names(runs: Path) -> list[str]:
    """Runs that have something to publish, newest first."""
    return [
        run.name
        for run in list_runs(runs)
        if run.adapter.is_dir() or run.last_checkpoint()
        if not run.results().get(UNTRAINED)
    ]


def chosen_run(
    names: Sequence[str],
    run: str | None,
    selected: Sequence[str] | None,
    followed: Sequence[str] | None,
) -> str | None:
    """Which run the menu shows: the one selected on Runs, where that selection is a new one
    (``followed``: the last that was taken), else the one chosen here, else the newest."""
    clicked = next((name for name in selected or [] if name in names), None)
    here = run if run in names else None
    wanted = [clicked, here] if selected != followed else [here, clicked]
    return next((name for name in [*wanted, *names] if name), None)


def checkpoints(run: Run) -> list[str]:
    """What of a run can be published: its result, and its checkpoints by their update."""
    updates = [str(update) for update in reversed(complete(run.checkpoints))]
    return ([RESULT] if run.adapter.is_dir() else []) + updates


def known_run(runs: Path, name: str | None) -> Run:
    """A run by its name, in the runs folder and nowhere else."""
    if not name:
        raise UserError("Pick a run first.")
    return named_run(name, runs)


def account_line(account: Account) -> str:
    kind = "good" if account.writes_to else "warn"
    text = f"{account.name}, {account.source}: {account.permission()}."
    return parts.note(text, kind)


def files_table(staged: Staged) -> str:
    rows = [(name, size_text(size)) for name, size in staged.files]
    visibility = "private" if staged.private else "public"
    notes = "".join(parts.note(f"recipe.yaml, {note}") for note in staged.notes)
    head = (
        f'<p class="dl-title">{parts.esc(staged.repo)}</p><p class="dl-muted dl-small">'
        f"{visibility} if it is new · {size_text(sum(size for _, size in staged.files))} in "
        f"{len(staged.files)} files</p>"
    )
    return head + parts.table(("file", "size"), rows) + notes


# What the command line calls what is a field of the page.
FIELDS = {
    "give --base-id user/name (hub.base_id in the recipe)": "write that name below, as its id on"
    " the Hub",
    "Give --repo user/name, or set hub.repo in the recipe.": "Write user/name into Repository.",
    "go on with `dpo-lite train --resume": "resume it in Runs (`dpo-lite train --resume",
    "or publish what there is with --checkpoint last.": "or choose a checkpoint under What of it.",
    "--repo ": "The repository ",
}


def in_fields(error: object) -> str:
    """A fault in the page's words instead of the command line's."""
    text = str(error)
    for flag, words in FIELDS.items():
        text = text.replace(flag, words)
    return text


def not_for_the_hub(recipe: Recipe, base_id: str | None) -> str:
    """Why what is looked at could not be pushed; empty where it could."""
    try:
        public_base(recipe, base_id)
    except UserError:
        base = recipe.model.base
        return (
            f"To look at only: the model {base} is not on the Hub, so nobody could load this"
            " adapter from there. Download it or merge it here; if the model is on the Hub under"
            " another name, write that name below, as its id on the Hub."
        )
    return ""


def login_html(code: Code) -> str:
    """The code and where it is typed."""
    return (
        '<div class="dl-card dl-login"><p>Open the Hub, log in there and confirm this code:</p>'
        f'<p class="dl-code">{parts.esc(code.text)}</p>'
        f'<p><a href="{parts.esc(code.address)}" target="_blank" rel="noopener noreferrer">'
        f"{parts.esc(code.address)}</a></p>"
        '<p class="dl-muted dl-small">huggingface_hub keeps the token, as'
        " <code>hf auth login</code> does; this page does not see it.</p></div>"
    )


def size_text(size: int) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def card_parts(card: str) -> tuple[str, str]:
    """The card's metadata as escaped HTML, and its text as Markdown without pictures.

    A picture is a file that is not up yet, and no other may be fetched from anywhere.
    """
    _, metadata, text = card.split("---\n", 2)
    return f'<pre class="dl-pre">{parts.esc(metadata.strip())}</pre>', re.sub(
        r"!\[([^\]]*)\]\([^)]*\)", r"*(\1)*", text
    )


def published_note(done: Published) -> str:
    visibility = "private" if done.private else "public"
    new = "a new repository" if done.created else "there before"
    text = f"Published at {done.url} ({visibility}, {new})."
    if not done.changed:
        text = f"{done.url} ({visibility}) was up to date: no new commit."
    if done.private != done.staged.private and not done.created:
        text += " Its visibility was left as it is; its settings page changes it."
    return parts.note(text, "good")


def push_command(run: str, repo: str, checkpoint: str, base_id: str, private: bool) -> list[str]:
    line = ["dpo-lite", "push", run, "--repo", repo or "user/name"]
    if checkpoint and checkpoint != RESULT:
        line += ["--checkpoint", checkpoint]
    if base_id:
        line += ["--base-id", base_id]
    return [*line, "--private" if private else "--public"]


def merge_command(run: str, out: str, measure: bool, modelfile: bool) -> list[str]:
    line = ["dpo-lite", "merge", run, str(MERGED_FOLDER / (out or run))]
    return line + ["--no-measure"] * (not measure) + ["--modelfile"] * modelfile


def merge_folder(name: str) -> Path:
    """Where a merged model goes: a name below ``merged/``, never a path from the page."""
    return MERGED_FOLDER / _plain_name(name, "the merged model")


def gguf_folder(name: str) -> Path:
    """Where GGUF files go: a name below ``exports/``, never a path from the page."""
    return EXPORTS_FOLDER / _plain_name(name, "the folder")


def _plain_name(name: str, what: str) -> str:
    if not NAME.match(name or ""):
        raise UserError(f"Name {what} with letters, digits, `-`, `_` and `.` alone.")
    return name


def quants(chosen: Sequence[str] | None) -> str:
    """The levels that were chosen, as the command line has them."""
    known = [name for name in LEVELS if name in (chosen or [])]
    if not known:
        raise UserError("Choose a quantisation; q8_0 loses next to nothing.")
    return ",".join(known)


def gguf_command(run: str, out: str, chosen: Sequence[str] | None, measure: bool) -> list[str]:
    levels = ",".join(name for name in LEVELS if name in (chosen or [])) or "q8_0"
    line = ["dpo-lite", "export", run, str(EXPORTS_FOLDER / (out or f"{run}-gguf"))]
    return [*line, "--to", "gguf", "--quant", levels, *["--no-measure"] * (not measure)]


def told(events: Iterable[dict], result: Callable[[dict], str]) -> Iterator[str]:
    """How far a task of the worker is and what came of it, as HTML."""
    for event in events:
        if event["event"] == "result":
            yield result(event["result"])
        elif event.get("text"):
            yield parts.note(event["text"], "bad" if event["event"] == "error" else "info")


def gguf_note(done: dict) -> str:
    """The worker's answer to ``gguf``: files, what survived, and the commands that use them."""
    text = f"Written into {done['folder']}: {', '.join(done['files'])}."
    survived = ""
    if done["rows"]:
        survived = parts.table(HEAD, done["rows"]) + (
            '<p class="dl-muted dl-small">KL in nats per token of held-out responses.</p>'
        )
    told = [parts.note(warning, "warn") for warning in done["warnings"]]
    told += [parts.note(note) for note in done["notes"]]
    shown = [parts.note(text, "good"), survived, *told, *map(parts.command, done["commands"])]
    return "".join(shown)


def merged_note(done: dict) -> str:
    """The worker's answer to ``merge``, with the commands that go on from there."""
    text = f"{done['changed']} weights of {done['base']} merged into {done['folder']}."
    lines = "\n".join([*done["lines"], *done["notes"]])
    shown = f'<pre class="dl-pre">{parts.esc(lines)}</pre>' if lines else ""
    return parts.note(text, "good") + shown + "".join(map(parts.command, done["commands"]))


def zipped(run: Run, folder: Path) -> Path:
    """The run's adapter with its recipe as one archive in a folder."""
    files = [run.adapter / name for name in DOWNLOADED if (run.adapter / name).is_file()]
    if not files:
        raise UserError(f"{run.name} has no finished adapter to download.")
    path = folder / f"{run.name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in [*files, run.recipe_file]:
            archive.write(file, f"{run.name}/{file.name}")
    return path
