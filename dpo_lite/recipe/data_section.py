"""The section that says what is learned from: sources, and what becomes of their rows."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator

from dpo_lite.bounded import MAX_COUNT
from dpo_lite.recipe.kinds import MAX_ROWS, TINY, Line
from dpo_lite.recipe.sections import COMMON, Section


class OneSource(Section):
    source: Line = Field(description="A source as in `data.train`.")
    format: Line | None = Field(
        None, description="As `data.format`, for this one; `raw` is for all sources."
    )
    columns: dict[Line, Line] | None = Field(None, description="As `data.columns`, for this one.")


Kind = TypeVar("Kind", bound=OneSource)


class HeldOutSource(OneSource):
    share: float | None = Field(
        None,
        ge=TINY,
        le=0.5,
        description="Of its prompts those alone that a run on this source holds out by itself,"
        " where it is to hold out this share; default: all rows.",
    )


class MixedSource(OneSource):
    weight: float | None = Field(
        None,
        ge=TINY,
        le=1e6,
        description="Share of this source relative to the others; default: all rows.",
    )


class DataSection(Section):
    train: Line | Annotated[list[Line | MixedSource], Field(min_length=1)] = Field(
        description="File, folder[:split], Hub id `org/name[@revision][:config][:split]` or"
        " `builtin:myths`; or a list of such, or of {source, weight, format, columns}, of which no"
        " row is repeated.",
        json_schema_extra=COMMON,
    )
    eval: Line | Annotated[list[Line | HeldOutSource], Field(min_length=1)] | None = Field(
        None,
        description="Held-out data: a source or a split of the first training source, or a list of"
        " such or of {source, format, columns, share}; `none`, the default: the splits that come"
        " with it, else 5 % of the prompts.",
    )
    eval_share: float | None = Field(
        None,
        ge=TINY,
        le=0.5,
        description="Hold out this share of the training prompts, beside `data.eval` or the splits"
        " that come with the source; default: 5 % where there is neither.",
    )
    revision: Line | None = Field(
        None, description="Branch, tag or commit of the data set on the Hub."
    )
    format: Line = Field(
        "auto",
        description="`auto` recognises the format; a name from docs/data-formats.md settles it;"
        " `raw` (or `raw:name`) also skips the chat template.",
    )
    columns: dict[Line, Line] | None = Field(
        None, description="Our column names mapped to yours, for example {prompt: question}."
    )
    encoding: Line | None = Field(
        None,
        description="Of files whose text is not UTF-8: `cp1252` (Windows, Western Europe),"
        " `latin-1`, `shift_jis`, …; UTF-16 is known by its mark.",
    )
    leave_out: list[Line] = Field(
        default_factory=list,
        description="Broken lines to leave out by name, as in [pairs.jsonl:17]; the report lists"
        " them.",
    )
    where: dict[Line, str | float | bool] | None = Field(
        None,
        description="Keep only rows whose columns have these values, for example"
        ' {score_ratio: ">= 3", lang: English}.',
    )
    template: dict[str, Any] | None = Field(
        None,
        description="Further arguments of the chat template, for example {enable_thinking: false}.",
    )
    pairs: Literal[
        "best_worst", "adjacent", "all", "keep", "best", "turns", "prompts", "unpaired"
    ] = Field(
        "best_worst",
        description="How a ranking of more than two responses becomes training examples;"
        " `keep` leaves it whole (train.loss: plackett_luce). For task: sft `best` (its default)"
        " takes the best response alone, `turns` also every earlier turn of the assistant. For"
        " task: ppo it is `prompts`: answers in the data are not looked at. For task: kto it is"
        " `unpaired`: each answer by itself, good or bad; of pairs and rankings the best and the"
        " worst.",
    )
    strip_prompt: bool = Field(
        False,
        description="Take the prompt off the answers of a row where all of them begin with it.",
    )
    max_length: Annotated[int, Field(ge=8, le=MAX_COUNT)] | Literal["auto"] = Field(
        "auto",
        description="Longest prompt + response in tokens; `auto`: the data's 99th percentile, and"
        " nothing up to 512 is dropped.",
        json_schema_extra=COMMON,
    )
    on_long: Literal["drop", "truncate_prompt_start", "error"] = Field(
        "drop", description="What happens to an example over `max_length` (counted either way)."
    )
    limit: int | None = Field(
        None,
        ge=1,
        le=MAX_ROWS,
        description="Use only the first N rows per source.",
        json_schema_extra=COMMON,
    )

    @field_validator("leave_out")
    @classmethod
    def names_a_line(cls, names: list[str]) -> list[str]:
        """A file and the number of a line in it, the first of which is 1."""
        for name in names:
            file, _, line = name.rpartition(":")
            if not file or not line.isdecimal() or not 0 < int(line) <= MAX_ROWS:
                raise ValueError(f"has {name}; write file:line, as in pairs.jsonl:17")
        return names

    @field_validator("eval", mode="before")
    @classmethod
    def none_is_no_source(cls, value: Any) -> Any:
        """YAML's word for nothing is null; on a command line people write none."""
        return None if value == "none" else value

    @property
    def raw(self) -> bool:
        """Whether the chat template is skipped."""
        return self.format.partition(":")[0] == "raw"

    @property
    def sources(self) -> list[MixedSource]:
        """The training sources, with the section's format and columns where they have no own."""
        parts = [self.train] if isinstance(self.train, str) else self.train
        return [self._settled(part, MixedSource) for part in parts]

    @property
    def held_out(self) -> list[HeldOutSource] | None:
        """The held-out sources in the same way; None where the recipe names none."""
        if self.eval is None:
            return None
        parts = [self.eval] if isinstance(self.eval, str) else self.eval
        return [self._settled(part, HeldOutSource) for part in parts]

    def _settled(self, part: str | OneSource, kind: type[Kind]) -> Kind:
        name = (self.format.partition(":")[2] or "auto") if self.raw else self.format
        own = {"source": part} if isinstance(part, str) else part.model_dump(exclude_none=True)
        return kind(**{"format": name, "columns": self.columns, **own})
