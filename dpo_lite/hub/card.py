"""The model card, written from the facts of a run: nothing in it was typed by hand."""

from __future__ import annotations

import re
from typing import Any

from dpo_lite.hub.card_metadata import metadata
from dpo_lite.hub.subject import Subject
from dpo_lite.judge.verdicts import markdown, read_verdicts
from dpo_lite.model.adapter_files import config_of, mean_of
from dpo_lite.names import is_public, repository
from dpo_lite.rates import explained
from dpo_lite.report import suite
from dpo_lite.report.kept import kept_words
from dpo_lite.report.metrics import measured_text
from dpo_lite.report.replay import verified, verified_words
from dpo_lite.report.run import answered
from dpo_lite.tasks.card import Facts

SHOWN_SAMPLES = 4


def model_card(subject: Subject, repo: str, own_tokenizer: bool = False) -> str:
    """README.md of the repository: metadata for the Hub, then what a reader wants to know."""
    sections = [
        f"---\n{metadata(subject, repo).to_yaml()}\n---",
        _what(subject, repo),
        _training(subject),
        _results(subject),
        _judged(subject),
        _other_tasks(subject),
        _samples(subject),
        subject.card.use(_facts(subject), repo, repo if own_tokenizer else subject.base),
        _versions(subject),
        _limits(subject),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _facts(subject: Subject) -> Facts:
    """What a task's own rows are written from."""
    mean = mean_of(subject.adapter)  # none at a checkpoint yet
    return Facts(subject.recipe, subject.run.manifest(), subject.base, mean)


def _what(subject: Subject, repo: str) -> str:
    base, loaded = subject.true_base, subject.base
    text = (
        f"# {repo.partition('/')[2]}\n\n"
        f"A LoRA adapter for {_model(base)}, trained "
        f"{subject.card.how(subject.recipe)} with dpo_lite."
    )
    if base != loaded:
        text += f" It was trained on its quantised copy {_model(loaded)}."
    if kept := kept_words(subject.results, subject.task.unit):
        text += f"\n\n{kept}"
    if subject.step is not None:
        unit = f"{subject.task.unit}s"
        text += f"\n\nThis is the state after {subject.step:,} {unit}, not the end of the training."
    return text


def _training(subject: Subject) -> str:
    recipe, manifest = subject.recipe, subject.run.manifest()
    train, adapter = recipe.train, _adapter_numbers(subject)
    data = manifest.get("data", {})
    sources = ", ".join(_source(part.source) for part in recipe.data.sources)
    revision = f" at `{subject.revision}`" if subject.revision else ""
    card = subject.card
    rows = [
        ("base", f"`{subject.base}`{revision}, in {manifest.get('quantization', 'nf4')}"),
        ("data", f"{sources}: {data.get('examples', 0):,} examples"),
        ("data fingerprint", f"`{data.get('fingerprint')}`"),
        ("held out", _held_out(subject)),
        *card.objective_rows(_facts(subject)),
        ("adapter", adapter),
        ("learning rate", f"{train.lr:g}, {train.scheduler}, warm-up {train.warmup:.0%}"),
        *card.length_rows(recipe),
        ("length", f"up to {data['max_length']:,} tokens" if data.get("max_length") else ""),
        ("seed", str(train.seed)),
        ("device", manifest.get("device", "")),
    ]
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows if value)
    return (
        f"## Training\n\n| setting | value |\n| --- | --- |\n{table}\n\n{_went_on(manifest)}"
        "All keys are in [recipe.yaml](recipe.yaml), which runs again with `dpo-lite train`."
    )


def _went_on(manifest: dict[str, Any]) -> str:
    """That the training was resumed with something else than it began with. Paths stay out."""
    keys = [d["key"] for n in manifest.get("went_on_anyway", []) for d in n["differences"]]
    if not keys:
        return ""
    names = ", ".join(dict.fromkeys(key.partition(" (")[0] for key in keys))
    return f"It was resumed although this had changed since its start: {names}.\n\n"


def _held_out(subject: Subject) -> str:
    """How many rows of each held-out set the results are of, and how they were chosen."""
    data, limit = subject.run.manifest().get("data", {}), subject.recipe.eval.limit
    drawn_from = data.get("drawn_from")
    clauses = []
    for name, count in data.get("held_out", {}).items():
        if drawn_from is None and limit and limit < count:  # of a run before rows were drawn
            clauses.append(f"{name} {limit:,}, the first of {count:,}")
        elif name in (drawn_from or {}):
            clauses.append(f"{name} {count:,} of {drawn_from[name]:,}, drawn by the seed")
        else:
            clauses.append(f"{name} {count:,}")
    return ", ".join(clauses)


def _adapter_numbers(subject: Subject) -> str:
    config = config_of(subject.adapter)
    adapter = subject.recipe.adapter
    rank, alpha = config.get("r", adapter.r), config.get("lora_alpha", adapter.alpha)
    kind = "DoRA" if config.get("use_dora") else "LoRA"
    text = f"{kind}, rank {rank}, alpha {alpha:g}"
    text += " / √rank" if config.get("use_rslora") else ""
    if adapter.init != "default":
        names = {"pissa": "PiSSA", "olora": "OLoRA"}
        text += f" (trained at rank {adapter.r} from {names[adapter.init]}'s start)"
    start = subject.recipe.model.adapter
    if start:
        known = is_public(start)
        text += ", continued from " + (f"`{start}`" if known else "an earlier adapter")
    return text


def _model(name: str) -> str:
    """A model as a link, unless it ships with the program."""
    if name.startswith("builtin:"):
        return f"`{name}`, which ships with dpo_lite"
    return f"[{name}](https://huggingface.co/{name})"


def _source(name: str) -> str:
    """A source in words: a link where others can follow it, else its file name."""
    if name.startswith("builtin:"):
        return f"{name} (ships with dpo_lite)"
    if is_public(name):
        return f"[{name}](https://huggingface.co/datasets/{repository(name)})"
    return f"{name.replace(chr(92), '/').rpartition('/')[2]} (a file of the author)"


def _results(subject: Subject) -> str:
    head, cells = subject.task.table(subject.results["sets"])
    rows = [f"| {_cell(name)} | {' | '.join(row)} |" for name, *row in cells]
    curves = "![training curves](curves.png)"
    if rows:
        for file in subject.task.pictures:
            curves += f"\n\n![{file.partition('.')[0]}]({file})"
        table = "\n".join([*rows, "", explained(rows)]).rstrip()
        return (
            f"## Results on held-out data\n\n| {' | '.join(head)} |\n"
            f"|{' --- |' * len(head)}\n{table}\n\n{curves}"
        )
    measured: dict[str, Any] = (
        subject.results.get("held_out") or subject.results.get("training") or {}
    )
    lines = [
        f"| {_cell(key)} | {measured_text(measured, key)} |"
        for key, value in measured.items()
        if isinstance(value, float)
    ]
    if not lines:
        return curves
    table = "\n".join([*lines, "", explained(lines)]).rstrip()
    return f"## Measured\n\n| measure | value |\n| --- | --- |\n{table}\n\n{curves}"


def _judged(subject: Subject) -> str:
    """What judges said of the adapter of the end; of a checkpoint nothing is known."""
    entries = read_verdicts(subject.run.path) if subject.step is None else []
    return "\n".join(markdown(entries, public=True)).rstrip()


def _other_tasks(subject: Subject) -> str:
    return "\n".join(suite.markdown(subject.suite)).rstrip()


def _samples(subject: Subject) -> str:
    asked = answered(subject.run, SHOWN_SAMPLES) if subject.step is None else []
    if not asked:
        return ""
    blocks = [
        "\n\n".join([_fenced(prompt), *(f"{who}\n\n{_fenced(a)}" for who, a in answers.items())])
        for prompt, answers in asked
    ]
    return "## Answers\n\n" + "\n\n---\n\n".join(blocks)


def _versions(subject: Subject) -> str:
    manifest = subject.run.manifest()
    versions = {"dpo_lite": manifest.get("dpo_lite"), **manifest.get("versions", {})}
    listed = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    told = verified_words(verified(subject.run.path)) if subject.step is None else ""
    return f"## Versions\n\n{listed}" + (f"\n\n{told}" if told else "")


def _limits(subject: Subject) -> str:
    card = subject.card
    text = f"## Limits\n\n{card.limits}"
    if subject.recipe.model.quantization == "nf4":
        text += (
            f" It was trained over a base in 4 bits; over the 16-bit base its {card.gives} differ a"
            " little."
        )
    return text


def _fenced(text: str) -> str:
    """Text that a model or a data set wrote, shown as it is: no Markdown, no HTML."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text.strip()}\n{fence}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
