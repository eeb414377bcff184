"""`dpo-lite export RUN --to gguf`: merged, written at each level, and measured at each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dpo_lite.errors import UserError
from dpo_lite.export import by_llama_cpp, ollama
from dpo_lite.export.gguf_file import read_gguf, writable, write_gguf
from dpo_lite.export.gguf_levels import LEVELS, level_names, levels
from dpo_lite.export.llama_cpp import make_ready
from dpo_lite.export.merge import base_folder
from dpo_lite.export.run import merge_run, source_of
from dpo_lite.export.survived import (
    ADAPTER,
    MERGED,
    Survival,
    listen,
    measured,
    put_on,
    warning,
)
from dpo_lite.files import new_folder, refuse_existing, write_text
from dpo_lite.model.base import load_base, load_tokenizer
from dpo_lite.model.device_memory import release
from dpo_lite.model.precision import as_it_was_trained
from dpo_lite.recipe import ModelSection, load_recipe
from dpo_lite.report import exports
from dpo_lite.report.run import write_report
from dpo_lite.runs.folder import Run

Say = Callable[[str], None]


@dataclass(frozen=True)
class Written:
    folder: Path
    files: list[Path]
    rows: list[tuple[str, ...]] = field(default_factory=list)  # under ``report.exports.HEAD``
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


def export_gguf(
    run: Run,
    out: Path,
    quant: str,
    base: str | None = None,
    measure: bool = True,
    say: Say = lambda text: None,
    llama_cpp: Path | None = None,
) -> Written:
    """A file for each level of ``quant`` in ``out``, a new folder, with a Modelfile for Ollama.

    ``llama_cpp``: the folder of a llama.cpp that writes them, in place of what is written here.
    Raises UserError where GGUF cannot say what the model is, before anything is written.
    """
    refuse_existing(out)
    names = level_names(quant)
    tools = by_llama_cpp.find(llama_cpp, names) if llama_cpp else None
    if tools is None:
        levels(quant)
        writable(base_folder(*source_of(run, base)))
    merged = out.with_name(f".{out.name}.merged")
    shutil.rmtree(merged, ignore_errors=True)
    try:
        merge_run(run, merged, base, measure=False, say=say)
        files = {name: out / f"{run.name}-{name.upper()}.gguf" for name in names}
        with new_folder(out):
            notes = _write(merged, files, tools, run.name, say)
            smallest = min(files.values(), key=lambda file: file.stat().st_size)
            notes += _write_modelfile(merged, out, smallest.name)
        survival = []
        if measure and (why := _unreadable(merged)):
            notes.append(f"not measured: {why}")
        elif measure:
            survival = _survival(run, merged, files, say)
    finally:
        shutil.rmtree(merged, ignore_errors=True)
    adapter = next((s for s in survival if s.name == ADAPTER), None)
    told = [warning(adapter, one) for one in survival if one is not adapter] if adapter else []
    warnings = [text for text in told if text]
    facts = {
        "to": "gguf",
        "folder": str(out),
        "sizes": {name: file.stat().st_size for name, file in files.items()},
        "rows": _rows(survival),
        "survival": [one.to_json() for one in survival],
        "warnings": warnings,
    }
    exports.keep(run, facts)
    if (run.path / "report.md").is_file():
        write_report(run)
    return Written(
        out, list(files.values()), exports.rows(facts), warnings, notes, _commands(out, smallest)
    )


def _write(
    merged: Path,
    files: dict[str, Path],
    tools: by_llama_cpp.LlamaCpp | None,
    name: str,
    say: Say,
) -> list[str]:
    """The files, by the user's llama.cpp or here; notes on them."""
    if tools:
        make_ready(merged)
        by_llama_cpp.write(tools, merged, files, say)
        return []
    model = writable(merged)  # once more: the head may have got a weight of its own
    for level, file in files.items():
        write_gguf(merged, file, LEVELS[level], name, say)
    return [model.note] if model.note else []


def _unreadable(merged: Path) -> str | None:
    """Why a file's weights cannot be told by their names here, in a sentence."""
    try:
        writable(merged)
    except UserError as error:
        return str(error)
    return None


def _rows(survival: list[Survival]) -> int | None:
    return survival[0].rows if survival else None


def _write_modelfile(merged: Path, out: Path, weights: str) -> list[str]:
    tokenizer = load_tokenizer(ModelSection(base=str(merged), quantization="none"))
    text, note = ollama.modelfile(f"./{weights}", tokenizer)
    write_text(out / "Modelfile", text)
    return [f"Modelfile: {note}"] if note else []


def _survival(run: Run, merged: Path, files: dict[str, Path], say: Say) -> list[Survival]:
    """The adapter, the merged model, and each file's weights put into that model."""
    held = measured(run, say)
    release()
    found = [held.of(ADAPTER, held.adapter)]
    section = ModelSection(
        base=str(merged.resolve()),
        quantization="none",
        trust_remote_code=load_recipe(run.recipe_file).model.trust_remote_code,
    )
    lm, names = load_base(section).eval(), writable(merged)
    as_it_was_trained(lm, run.adapter)
    say("scoring with the merged model")
    found.append(held.of(MERGED, listen(lm, held.rows)))
    for name, file in files.items():
        say(f"scoring with the weights of {file.name}")
        put_on(lm, read_gguf(file, names, list(lm.state_dict())))
        found.append(held.of(name, listen(lm, held.rows)))
    return found


def _commands(out: Path, file: Path) -> list[str]:
    return [
        f"llama-cli -m {out / file.name} -cnv",
        f"ollama create {out.name.lower()} -f {out / 'Modelfile'}",
    ]
