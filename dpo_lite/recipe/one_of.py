"""A key whose value is one of the names in a registry, which may grow: losses (or a sum), tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


@dataclass(frozen=True)
class OneOf:
    """Stands in a field's annotation: ``Annotated[str, OneOf(TASKS)]``. Fails as a Literal does."""

    names: Mapping[str, Any]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.names:
            *first, last = (f"'{name}'" for name in self.names)
            expected = f"{', '.join(first)} or {last}" if first else last
            raise PydanticKnownError("literal_error", {"expected": expected})
        return value


class OneOrSum(OneOf):
    """The same, or a sum of some with weights as dpo_lite.objectives.sums writes it."""

    def check(self, value: Any) -> str:
        if is_sum(value):
            self.names[value]  # raises ValueError in a clause where the parts do not go together
            return value
        return super().check(value)


def is_sum(value: Any) -> bool:
    """Whether a value means a sum: a mapping, or names with `+` or weights."""
    return isinstance(value, Mapping) or (isinstance(value, str) and bool(set("+* ") & set(value)))
