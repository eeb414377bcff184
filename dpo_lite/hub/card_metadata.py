"""The block at the top of a model card that the Hub reads: base, data, tags and results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dpo_lite.hub.licence import base_licence
from dpo_lite.hub.subject import Subject
from dpo_lite.names import is_public, repository
from dpo_lite.rates import Rate
from dpo_lite.report import suite

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


def metadata(subject: Subject, repo: str):
    """The block at the card's top that the Hub reads, as huggingface_hub's ``ModelCardData``."""
    from huggingface_hub import ModelCardData

    results = eval_results(subject)
    return ModelCardData(
        base_model=subject.true_base,
        base_model_relation="adapter",
        library_name="peft",
        pipeline_tag=subject.card.pipeline,
        datasets=public_data(subject) or None,
        tags=["lora", "dpo_lite", *subject.card.all_tags(subject.recipe)],
        model_name=repo.partition("/")[2] if results else None,
        eval_results=results or None,
        **base_licence(subject.true_base),
    )


def public_data(subject: Subject) -> list[str]:
    """Ids of the data sets that others can load, each once."""
    repositories = [repository(part.source) for part in subject.recipe.data.sources]
    return list(dict.fromkeys(name for name in repositories if is_public(name) and "/" in name))


def eval_results(subject: Subject) -> list[EvalResult]:
    """The held-out scores as the Hub's model-index has them."""
    from huggingface_hub import EvalResult

    data, card = public_data(subject), subject.card
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
    for entry, row in suite.harness_rows(subject.suite):
        facts = entry["tasks"].get(row["task"], {})
        data = facts.get("dataset")
        args = _args(suite.rate_of(row, "policy")) or {"n": row["n"]}
        if row["policy"].get("stderr"):
            args["stderr"] = round(row["policy"]["stderr"], 6)
        args |= {"reference": round(row["reference"]["value"], 6)}
        args |= {"num_few_shot": facts["fewshot"]} if facts.get("fewshot") is not None else {}
        found.append(
            EvalResult(
                task_type=subject.card.pipeline,
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


def _args(rate: Rate | None) -> dict[str, Any] | None:
    """Of how many a share is and its interval, which the Hub's index has no fields for."""
    if rate is None or rate.interval is None:
        return None
    return {"n": rate.n, "interval_95": [round(end, 4) for end in rate.interval]}
