"""The sections of a recipe and their keys, each with the sentence that a user reads about it.

Data, training, single tasks and the judge have files of their own (``data_section``,
``train_section``, ``task_sections``, ``judge_section``). What concerns two sections at once is
settled in ``schema``.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from dpo_lite.bounded import MAX_COUNT, MAX_TOKENS
from dpo_lite.recipe.kinds import MAX_ROWS, Line, Words

# The keys that most people change: a form shows them first and folds the rest.
COMMON: dict[str, Any] = {"common": True}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads yes and no as true and false, which pydantic would take for 1 and 0."""
        wanted = _wanted(cls, info.field_name)
        if (
            isinstance(value, bool)
            and "bool" not in wanted
            and re.search(r"\b(int|float)\b", wanted)
        ):
            raise PydanticKnownError("float_type")
        # Pydantic takes 1e3 for a whole number, but beyond 64 bits says that it is none.
        whole = isinstance(value, float) and value.is_integer() and "float" not in wanted
        return int(value) if whole and re.search(r"\bint\b", wanted) else value


@cache
def _wanted(section: type[Section], name: str) -> str:
    """The type of a key as text, which takes longer to write down than to look through."""
    return str(section.model_fields[name].annotation)


class RunSection(Section):
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Folder of the run under `run.folder`; default: the recipe's name, numbered.",
        json_schema_extra=COMMON,
    )
    folder: Line = Field("runs", description="Where run folders are made.")
    report_to: list[Literal["tensorboard", "trackio", "wandb", "mlflow", "swanlab"]] = Field(
        [],
        description="Trackers that are told what the run logs, besides its folder: `tensorboard`,"
        " `trackio`, `wandb`, `mlflow`, `swanlab`; each is a package to install. They get metrics,"
        " the recipe and sample answers as a table.",
    )
    report_adapter: bool = Field(
        False,
        description="Send the finished adapter to them too, as files: `wandb`, `trackio`, `mlflow`"
        " and `swanlab` take some, `tensorboard` none.",
    )


class ModelSection(Section):
    base: Line = Field(
        description="Hub id, local folder or `builtin:myths`: the frozen base model.",
        json_schema_extra=COMMON,
    )
    revision: Line | None = Field(None, description="Branch, tag or commit of the base on the Hub.")
    adapter: Line | None = Field(
        None,
        description="A run's name, a folder or a Hub id: the LoRA adapter to continue, with its own"
        " rank, scale and layers; default: a fresh one.",
    )
    quantization: Literal["nf4", "none"] = Field(
        "nf4",
        description="`nf4`: 4-bit with double quantisation (QLoRA); `none`: 16-bit base.",
        json_schema_extra=COMMON,
    )
    embeddings: Literal["auto", "gpu", "cpu"] = Field(
        "auto",
        description="Where the input embedding lives; `cpu` frees 1 GiB of the card with an 8B base"
        " and is a little slower; `auto` does so where the run would not fit else.",
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the base. Only for a base you trust."
    )


FRESH = ("kind", "rslora", "init")  # keys of an adapter that is made, not of one that is there


class AdapterSection(Section):
    r: int = Field(
        16,
        ge=1,
        le=1024,
        description="LoRA rank: capacity of the adapter.",
        json_schema_extra=COMMON,
    )
    alpha: int = Field(
        32, ge=1, le=4096, description="LoRA scale: the update is multiplied by alpha / r."
    )
    targets: Words | Annotated[list[Line], Field(min_length=1)] = Field(
        "all-linear", description="Layers that get an adapter: `all-linear` or names of modules."
    )
    experts: bool = Field(
        False,
        description="Whether `all-linear` takes in the experts of a mixture: most of its weights,"
        " so an adapter of many parameters; without it attention, dense and shared-expert layers.",
    )
    kind: Literal["lora", "dora"] = Field(
        "lora",
        description="Of a fresh adapter: `dora` also trains how long each row of a weight is, which"
        " helps at small ranks and takes more time.",
    )
    rslora: bool = Field(
        False,
        description="Of a fresh adapter: multiply the update by alpha / √r, not alpha / r, so that"
        " a higher rank learns as fast.",
    )
    init: Literal["default", "pissa", "olora"] = Field(
        "default",
        description="What a fresh adapter starts at, adding nothing to the base: `default`, A at"
        " random and B at zero; `pissa`, the base's largest singular vectors; `olora`, its QR"
        " decomposition. What is saved is plain LoRA of rank 2 r.",
    )
    lora_plus: float = Field(
        1.0,
        ge=0.001,
        le=128,
        description="LoRA+: the learning rate of B is so many times that of A, which is train.lr;"
        " its authors take 16, with a lower train.lr.",
    )
    extra_r: int = Field(
        0,
        ge=0,
        le=1024,
        description="With model.adapter: fresh ranks beside those it has; one adapter comes out.",
    )

    @field_validator("targets")
    @classmethod
    def pattern_compiles(cls, value: str | list[str]) -> str | list[str]:
        """One text is a pattern for PEFT, which names have to match as a whole."""
        if isinstance(value, str):
            try:
                re.compile(value)
            except (re.error, RecursionError, OverflowError) as error:
                raise PydanticCustomError(
                    "pattern",
                    "must be all-linear, a list of names or a regular expression ({reason})",
                    {"reason": str(error)},
                ) from None
        return value


# A name in the harness's table and never a path, whose YAML may name Python that it would run.
TaskName = Annotated[Line, Field(pattern=r"^(forgetting:.+|[A-Za-z0-9][A-Za-z0-9_.+-]*)$")]


class EvalSection(Section):
    prompts: list[Words] = Field(
        default_factory=list,
        description="Prompts answered before and after the training; default: some held-out ones.",
        json_schema_extra=COMMON,
    )
    max_new_tokens: int = Field(
        64, ge=1, le=MAX_TOKENS, description="Longest generated answer, in tokens."
    )
    generate: int = Field(
        8,
        ge=0,
        le=MAX_COUNT,
        description="Answers sampled per held-out set before and after (all rows where the data"
        " has markers that tell good answers from bad).",
    )
    sample_steps: int | None = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="Every N updates answer the prompts and estimate the KL to the reference from"
        " sampled answers; default: never while training.",
    )
    limit: int | None = Field(
        None,
        ge=1,
        le=MAX_ROWS,
        description="Score at most N rows of each held-out set, drawn by train.seed; a larger N"
        " keeps the rows of a smaller one.",
    )
    suite: list[TaskName] = Field(
        default_factory=list,
        description="Tasks of lm-evaluation-harness asked at the end, of reference and policy:"
        " `[arc_easy, ifeval]`; `forgetting` or `forgetting:FILE` is the perplexity of other text.",
    )
    suite_limit: int | None = Field(
        None, ge=1, le=MAX_COUNT, description="The first N items of each task of `suite`."
    )


HUB_NAME = r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"  # as huggingface_hub has it


class HubSection(Section):
    repo: str | None = Field(
        None,
        pattern=rf"^{HUB_NAME}/{HUB_NAME}$",
        description="user/name on the Hub: the default of `push`.",
    )
    private: bool = Field(True, description="Whether `push` creates a private repository.")
    push: Literal["end", "checkpoints"] | None = Field(
        None,
        description="Publish while training: at the `end`, or also at all `checkpoints`; default:"
        " only by the command `push`.",
    )
    base_id: Line | None = Field(
        None, description="The base's id on the Hub, where model.base is a folder."
    )

    @field_validator("repo")
    @classmethod
    def no_path(cls, value: str | None) -> str | None:
        """What else the Hub refuses in a name."""
        if value and ("--" in value or ".." in value or value.endswith(".git")):
            raise PydanticCustomError(
                "hub_name", "must be written as user/name, without --, .. or .git"
            )
        return value
