"""What trackers get besides numbers: sample answers as a table, the adapter as files.

transformers' callbacks pass on whatever they are told to log, so a table goes through them in each
tracker's own type; MLflow's takes numbers alone, and is asked itself. Their ways of sending a model
(``WANDB_LOG_MODEL``, ``HF_MLFLOW_LOG_ARTIFACTS``) save it by Trainer, or send checkpoints with
their optimiser; here the files of the run's adapter go, by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from dpo_lite.model.adapter_files import CONFIG, REWARD_FILE, TOKENIZER, WEIGHTS

KEY = "eval_samples"  # which the callbacks make eval/samples
MLFLOW_FILE = "samples.json"
MOST_ROWS = 500  # of one table
TAKES_NO_FILES = ("tensorboard",)
ADAPTER = (CONFIG, WEIGHTS, REWARD_FILE, *TOKENIZER)

Row = dict[str, Any]


def answers_rows(
    samples: Sequence[Mapping[str, Any]], update: int, last: bool = False
) -> list[Row]:
    """Rows of step, prompt, what reference, start (where there is one) and policy answer.

    ``samples``: lines of samples.jsonl. The policy's answers are those of ``update`` while it
    trained, or with ``last`` those after it. At most 500 rows, the first ones.
    """
    earlier: dict[str, dict[str, str]] = {"before": {}, "start": {}}
    for sample in samples:
        if sample["when"] in earlier:
            earlier[sample["when"]].setdefault(sample["prompt"], sample["answer"])
    said = [
        sample
        for sample in samples
        if (sample["when"] == "after" if last else sample["when"] == "during")
        and (last or sample.get("step") == update)
    ]
    columns = ["reference"] + (["start"] if earlier["start"] else [])
    before = dict(zip(("reference", "start"), earlier.values(), strict=True))
    return [
        {"step": update, "prompt": sample["prompt"]}
        | {column: before[column].get(sample["prompt"], "") for column in columns}
        | {"policy": sample["answer"]}
        for sample in said[:MOST_ROWS]
    ]


def markdown(rows: Sequence[Row]) -> str:
    """Rows as a table of Markdown; whatever the texts hold, a cell stays one cell."""

    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(map(_cell, cells)) + " |"

    head = list(rows[0])
    body = [line(list(row.values())) for row in rows]
    return "\n".join([line(head), line(["---"] * len(head)), *body])


def _cell(text: Any) -> str:
    text = str(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    return "<br>".join(text.splitlines()) or " "


def tell_answers(name: str, callback: Any, rows: Sequence[Row], *told: Any) -> None:
    """The table through the tracker's callback; ``told``: its arguments, state and control."""
    module = import_module(name) if name != "tensorboard" else None
    columns, cells = list(rows[0]), [list(row.values()) for row in rows]
    if name == "mlflow":  # a table of the same name grows
        columned = {column: [row[column] for row in rows] for column in columns}
        module.log_table(columned, MLFLOW_FILE)
        return
    table = {
        "tensorboard": lambda: markdown(rows),
        "wandb": lambda: module.Table(columns=columns, data=cells),
        "trackio": lambda: module.Table(columns=columns, data=cells),
        "swanlab": lambda: module.echarts.Table().add(columns, cells),
    }[name]()
    callback.on_log(*told, logs={KEY: table})


def send_adapter(name: str, run: str, folder: Path) -> None:
    """The files of an adapter's folder as a model of the tracker that belongs to ``run``."""
    module = import_module(name)
    files = [folder / file for file in ADAPTER if (folder / file).is_file()]
    if name == "mlflow":
        for file in files:
            module.log_artifact(str(file), "adapter")
    elif name == "swanlab":
        for file in files:
            module.save(str(file), base_path=str(folder.parent), policy="now")
    else:
        artifact = module.Artifact(f"{run}-adapter", type="model")
        for file in files:
            artifact.add_file(str(file))
        module.log_artifact(artifact)
