"""The reference never changes, so its log-probability of a response is computed once and kept.

It is computed when a response is first met, in the micro-batch that needs it, and written to disk.
Later epochs, evaluations, resumed runs and sweeps over beta, lr or loss then skip the reference's
forward pass. The numbers lie in a folder whose name is a hash of all that they depend on
(``cache_facts``), each under a hash of its token ids: what is stale has another name.

A number depends a little on the batch that it was computed in (about 1e-6 of it in fp32, up to 1e-3
in bf16): where policy and reference share a batch this rounding cancels, with a remembered number
it stays, as noise on the implicit reward. The preflight's step-0 identity therefore never uses the
cache: it would mistake that noise for a wrong reference, or an old number for a right one.

On disk: every process appends records of fixed size to a file of its own, so that no two writers
meet and what one leaves half-written is at the end of its file. A checksum guards each record. Of
processes that train together the first one reads and writes, and what the others compute in an
update is shared behind it (``share``).
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from peft import PeftModel

from dpo_lite.data.cache import open_folder
from dpo_lite.data.packing import Encoded
from dpo_lite.model.identity import reference_identity
from dpo_lite.recipe import Recipe
from dpo_lite.tasks import TASKS
from dpo_lite.training import ranks
from dpo_lite.training.method import Objective

CONTENT = struct.Struct("<16sf")  # hash of the ids, log-probability
CHECKSUM = struct.Struct("<I")
RECORD = CONTENT.size + CHECKSUM.size
ANEW = "they are computed again when they are met, equal to rounding"


class ReferenceCache:
    """Reference log-probabilities by the hash of their token ids, in memory and in ``folder``."""

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda text: None):
        self.folder, self.say = folder, say
        self.file: Path | None = folder / f"{uuid4().hex}.bin" if ranks.first() else None
        self.seed = zlib.crc32(folder.name.encode())  # records from elsewhere fail their checksum
        self.shared = not ranks.alone()
        self.new: dict[bytes, float] = {}  # what is not shared yet
        self.listens = True  # else nothing new is remembered
        self.known: dict[bytes, float] = ranks.of_first(self._read_all)

    def logps(
        self, examples: Sequence[Encoded], compute: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        """Reference log-probabilities of the R responses, (R,) fp32; ``compute`` gives new ones.

        It is not called where all are known (with divided weights: to all processes). The first
        number of a response stays, whatever is computed later: so a run that is resumed goes on
        with exactly the numbers it had.
        """
        keys = response_keys(examples)
        if not ranks.anywhere(any(key not in self.known for key in keys)):
            return torch.tensor([self.known[key] for key in keys], dtype=torch.float32)
        computed = compute().tolist()
        self._remember(keys, computed)
        logps = [self.known.get(key, logp) for key, logp in zip(keys, computed, strict=True)]
        return torch.tensor(logps, dtype=torch.float32)

    def share(self) -> None:
        """Learn what the processes that train together have computed, after each update.

        An update's examples are dealt out so that no two of them compute the same number.
        """
        if not self.shared:
            return
        found: dict[bytes, float] = {}
        for new in ranks.gathered(self.new):
            found |= new
        self.new = {}
        self.known |= found
        self._write(found)

    def _remember(self, keys: list[bytes], logps: list[float]) -> None:
        """Keep what is new."""
        new: dict[bytes, float] = {}
        for key, logp in zip(keys, logps, strict=True):
            if self.listens and key not in self.known and math.isfinite(logp):
                new.setdefault(key, logp)
        self.known |= new
        if self.shared:
            self.new |= new
        else:
            self._write(new)

    def _write(self, new: dict[bytes, float]) -> None:
        """Append to the file. Where the disk is full, training goes on without it."""
        if self.file is None or not new:
            return
        records = []
        for key, logp in new.items():
            content = CONTENT.pack(key, logp)
            records += [content, CHECKSUM.pack(zlib.crc32(content, self.seed))]
        try:
            with open(self.file, "ab") as file:
                file.write(b"".join(records))
        except OSError as error:
            self.file = None
            self.say(f"the reference's log-probabilities are no longer kept on disk: {error}")

    def _read_all(self) -> dict[bytes, float]:
        """The sound records of all files; what is not is told of, and computed anew when met."""
        known: dict[bytes, float] = {}
        for path in sorted(self.folder.glob("*.bin")):
            try:
                data = path.read_bytes()
            except OSError as error:
                self.say(f"{path} cannot be read ({error.strerror}): {ANEW}")
                continue
            sound = list(self._sound(data))
            for key, logp in sound:
                known.setdefault(key, logp)
            lost = -(-len(data) // RECORD) - len(sound)
            if lost or not data:
                what = f"{lost:,} of its numbers" if data else "it is empty"
                self.say(f"{path} is damaged ({what}): {ANEW}")
        return known

    def _sound(self, data: bytes) -> Iterator[tuple[bytes, float]]:
        for start in range(0, len(data) - RECORD + 1, RECORD):
            content = data[start : start + CONTENT.size]
            (checksum,) = CHECKSUM.unpack_from(data, start + CONTENT.size)
            if checksum == zlib.crc32(content, self.seed):
                yield CONTENT.unpack(content)


def response_keys(examples: Sequence[Encoded]) -> list[bytes]:
    """16 bytes for each of the R responses, from the ids of its prompt and its own."""
    keys = []
    for example in examples:
        prompt = hashlib.blake2b(b"%d:" % len(example["prompt_ids"]), digest_size=16)
        prompt.update(array("i", example["prompt_ids"]))
        for ids in example["response_ids"]:
            response = prompt.copy()
            response.update(array("i", ids))
            keys.append(response.digest())
    return keys


def open_cache(
    recipe: Recipe,
    model: PeftModel,
    objective: Objective,
    say: Callable[[str], None] = lambda text: None,
) -> ReferenceCache | None:
    """The cache of this model's reference; None where recipe, task or model want none."""
    wanted = TASKS[recipe.task].mechanics.caches_reference(recipe)
    if not (wanted and recipe.train.reference_cache):
        return None
    facts = cache_facts(recipe, model, objective)
    if facts is None:
        say("the reference is computed every time: its numbers on this base cannot be kept")
        return None
    text = json.dumps(facts, sort_keys=True, indent=1)
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    folder = ranks.of_first(lambda: open_folder(key, "reference", text))
    return ReferenceCache(folder, say)


def cache_facts(recipe: Recipe, model: PeftModel, objective: Objective) -> dict[str, Any] | None:
    """All that a log-probability depends on besides its ids; None where this is not all."""
    settings = model.get_base_model().config.to_json_string(use_diff=False)
    if '"longrope"' in settings or '"dynamic"' in settings:
        return None  # positions stretch with the longest row, so a number depends on its neighbours
    identity = reference_identity(recipe.model, model)
    return identity and identity | {"dtype": str(objective.dtype), "way": objective.way}
