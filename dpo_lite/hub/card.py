"""The model card, written from the facts of a run: nothing in it was typed by hand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dpo_lite.hub.licence import base_licence
from dpo_lite.hub.subject import Subject
from dpo_lite.judge.verdicts import markdown, read_verdicts
from dpo_lite.model.adapter_files import config_of, mean_of
from dpo_lite.names import is_public, repository
from dpo_lite.rates import Rate, explained
from dpo_lite.report import suite
from dpo_lite.report.kept import kept_words
from dpo_lite.report.metrics import measured_text
from dpo_lite.report.replay import verified, verified_words
from dpo_lite.report.run import answered
from dpo_lite.tasks import TASKS, Task
from dpo_lite.tasks.card import Card, Facts

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


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
        _card(subject).use(_facts(subject), repo, repo if own_tokenizer else subject.base),
        _versions(subject),
        _limits(subject),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def metadata(subject: Subject, repo: str):
    """The block at the card's top that the Hub reads, as huggingface_hub's ``ModelCardData``."""
    from huggingface_hub import ModelCardData

    results = eval_results(subject)
    return ModelCardData(
        base_model=true_base(subject),
        base_model_relation="adapter",
        library_name="peft",
        pipeline_tag=_card(subject).pipeline,
        datasets=public_data(subject) or None,
        tags=["lora", "dpo_lite", *_card(subject).all_tags(subject.recipe)],
        model_name=repo.partition("/")[2] if results else None,
        eval_results=results or None,
        **base_licence(true_base(subject)),
    )


def true_base(subject: Subject) -> str:
    """The base itself, where what was trained on is a quantised copy that names it."""
    return subject.run.manifest().get("quantised_from") or subject.base


def public_data(subject: Subject) -> list[str]:
    """Ids of the data sets that others can load, each once."""
    repositories = [repository(part.source) for part in subject.recipe.data.sources]
    return list(dict.fromkeys(name for name in repositories if is_public(name) and "/" in name))


def eval_results(subject: Subject) -> list[EvalResult]:
    """The held-out scores as the Hub's model-index has them."""
    from huggingface_hub import EvalResult

    data, card = public_data(subject), _card(subject)
    results = []
    for name, metrics in subject.results["sets"].items():
        for kind, title, value in card.measures(metrics):
            rate, value = (value, value.share) if isinstance(value, Rate) else (None, value)
            if not isinstance(value, (int, float)) or value != value:  # a NaN is no result
                continue
            results.append(
                EvalResult(
                    task_type=card.pipeline,
                    task_name=card.measured_as,
                    dataset_type=data[0] if len(data) == 1 else "preferences",
                    dataset_name=f"held-out set {name}",
                    dataset_split=name,
                    metric_type=kind,
                    metric_name=title,
                    metric_value=round(float(value), 4),
                    metric_args=_args(rate),
                )
            )
    return results + _task_results(subject)


def _task_results(subject: Subject) -> list[EvalResult]:
    """What tasks of lm-evaluation-harness measured, under the names that they have there."""
    from huggingface_hub import EvalResult

    found = []
    for entry, row in suite.harness_rows(_suite(subject)):
        facts = entry["tasks"].get(row["task"], {})
        data = facts.get("dataset")
        args = _args(suite.rate_of(row, "policy")) or {"n": row["n"]}
        if row["policy"].get("stderr"):
            args["stderr"] = round(row["policy"]["stderr"], 6)
        args |= {"reference": round(row["reference"]["value"], 6)}
        args |= {"num_few_shot": facts["fewshot"]} if facts.get("fewshot") is not None else {}
        found.append(
            EvalResult(
                task_type=_card(subject).pipeline,
                dataset_type=data if data and is_public(data) and "/" in data else row["task"],
                dataset_name=row["task"],
                metric_type=row["metric"],
                metric_name=f"{row['metric']}, {row['filter']}",
                metric_value=round(row["policy"]["value"], 6),
                metric_args=args,
                source_name="lm-evaluation-harness",
                source_url="https://github.com/EleutherAI/lm-evaluation-harness",
            )
        )
    return found


def _suite(subject: Subject) -> list[dict[str, Any]]:
    """Of the adapter of the end; of a checkpoint nothing is known."""
    return suite.read_suite(subject.run.path) if subject.step is None else []


def _args(rate: Rate | None) -> dict[str, Any] | None:
    """Of how many a share is and its interval, which the Hub's index has no fields for."""
    if rate is None or rate.interval is None:
        return None
    return {"n": rate.n, "interval_95": [round(end, 4) for end in rate.interval]}


def _task(subject: Subject) -> Task:
    return TASKS[subject.recipe.task]


def _card(subject: Subject) -> Card:
    return _task(subject).card


def _facts(subject: Subject) -> Facts:
    """What a task's own rows are written from."""
    mean = mean_of(subject.adapter)  # none at a checkpoint yet
    return Facts(subject.recipe, subject.run.manifest(), subject.base, mean)


def _what(subject: Subject, repo: str) -> str:
    base, loaded = true_base(subject), subject.base
    text = (
        f"# {repo.partition('/')[2]}\n\n"
        f"A LoRA adapter for {_model(base)}, trained "
        f"{_card(subject).how(subject.recipe)} with dpo_lite."
    )
    if base != loaded:
        text += f" It was trained on its quantised copy {_model(loaded)}."
    if kept := kept_words(subject.results, _task(subject).unit):
        text += f"\n\n{kept}"
    if subject.step is not None:
        unit = f"{_task(subject).unit}s"
        text += f"\n\nThis is the state after {subject.step:,} {unit}, not the end of the training."
    return text


def _training(subject: Subject) -> str:
    recipe, manifest = subject.recipe, subject.run.manifest()
    train, adapter = recipe.train, _adapter_numbers(subject)
    data = manifest.get("data", {})
    sources = ", ".join(_source(part.source) for part in recipe.data.sources)
    revision = f" at `{subject.revision}`" if subject.revision else ""
    card = _card(subject)
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
    head, cells = _task(subject).table(subject.results["sets"])
    rows = [f"| {_cell(name)} | {' | '.join(row)} |" for name, *row in cells]
    curves = "![training curves](curves.png)"
    if rows:
        for file in _task(subject).pictures:
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
    return "\n".join(suite.markdown(_suite(subject))).rstrip()


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
    card = _card(subject)
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
