"""Where the weights of a model lie in its base's files, which may name and cut them otherwise.

transformers has a table for each family of what it renames, splits and joins when it reads the
files. It is asked here about every tensor in them, as its loader does, so that nothing is guessed
from how names end: a vision tower has layers of the same names as the text model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    rename_source_key,
    revert_weight_conversion,
)

from dpo_lite.errors import UserError
from dpo_lite.model.base import load_config
from dpo_lite.model.text_model import from_config
from dpo_lite.recipe import ModelSection

OTHER_BASE = "is it the base that the adapter was trained on? (--base names another.)"


@dataclass(frozen=True)
class FileNames:
    """Of a base's model, which stands on meta: it has names and shapes, and takes no memory."""

    model: PreTrainedModel
    tensors: frozenset[str]  # in the files
    renamed: dict[str, list[str]] = field(default_factory=dict)  # weight of the model: tensors
    owners: dict[int, list[str]] = field(default_factory=dict)  # modules that have a weight, by id

    def of_layer(self, layer: str) -> str:
        """The tensor that is the weight of a layer of the model.

        Raises UserError where it is not one, or is the weight of other layers as well.
        """
        weight = self._weight(layer)
        if others := [name for name in self.owners[id(weight)] if name != layer]:
            raise UserError(
                f"The layers {layer} and {others[0]} of the base share one weight, which the "
                "adapter changes for each of them by itself: no merged base can be like that."
            )
        return self.found(f"{layer}.weight", f"layer {layer}")

    def found(self, weight: str, what: str) -> str:
        """The tensor that is a weight of the model. Raises UserError where there is none."""
        tensors = self.renamed.get(weight, [])
        if not tensors:
            raise UserError(f"The base has no weight for the adapter's {what}; {OTHER_BASE}")
        if len(tensors) > 1:
            raise UserError(
                f"The base has {tensors[0]} and {tensors[1]} for the adapter's {what}, and which "
                "of them counts cannot be told; nothing was merged."
            )
        return tensors[0]

    def in_files(self, changes: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Changes of weights of the model, by names of the files' tensors and cut as these are.

        Raises UserError where the files have no such tensors.
        """
        found = revert_weight_conversion(self.model, changes)
        if strangers := sorted(set(found) - self.tensors):
            raise UserError(f"The base has no tensor {strangers[0]} to merge into; {OTHER_BASE}")
        return found

    def tied(self) -> tuple[str, str] | None:
        """The embedding and the head, as layers of the model, where they share their weight."""
        embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        if head is None or head.weight is not embedding.weight:
            return None
        names = {id(module): name for name, module in self.model.named_modules()}
        return names[id(embedding)], names[id(head)]

    def _weight(self, layer: str) -> torch.Tensor:
        try:
            weight = self.model.get_submodule(layer).weight
        except AttributeError:
            weight = None
        if weight is None:
            raise UserError(f"The base has no weight for the adapter's layer {layer}; {OTHER_BASE}")
        return weight


def file_names(folder: Path, tensors: Sequence[str], trusted: bool = False) -> FileNames:
    """How the model of a base's folder names what its files call ``tensors``.

    ``trusted``: whether Python code that comes with it may run. Raises UserError where transformers
    has no model for the base.
    """
    section = ModelSection(base=str(folder), quantization="none", trust_remote_code=trusted)
    config, options = load_config(section), {"trust_remote_code": True} if trusted else {}
    with torch.device("meta"):
        model = from_config(config, towers=True, **options)
    model.tie_weights()
    weights = model.state_dict()
    steps = get_model_conversion_mapping(model)
    renamings = [step for step in steps if isinstance(step, WeightRenaming)]
    converters = [step for step in steps if isinstance(step, WeightConverter)]
    prefix = model.base_model_prefix
    renamed: dict[str, list[str]] = defaultdict(list)
    for tensor in tensors:
        weight, converted = rename_source_key(tensor, renamings, converters, prefix, weights)
        if weight not in weights and tensor in weights:
            weight, converted = rename_source_key(tensor, [], [], prefix, weights)
        if weight in weights and converted is None:
            renamed[weight].append(tensor)
    # What was met on the way is what goes back: transformers keeps it so for saving.
    model._weight_conversions = [step for step in steps if step.was_used()]
    owners: dict[int, list[str]] = defaultdict(list)
    for name, module in model.named_modules():
        if isinstance(weight := getattr(module, "weight", None), torch.Tensor):
            owners[id(weight)].append(name)
    return FileNames(model, frozenset(tensors), dict(renamed), dict(owners))
