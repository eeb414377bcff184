"""Find the rows: builtin data, local files and folders, data sets on the Hub.

Rows are read one at a time and as Python values: a row of another type than its neighbours is
then one row to drop and count, not a file that does not load.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dpo_lite.data.examples import DataRow
from dpo_lite.data.files import (
    KINDS,
    PLAIN,
    Reading,
    content_hash,
    file_kind,
    no_data_file,
    read_rows,
    split_name,
)
from dpo_lite.errors import UserError

BUILTIN_FOLDER = Path(__file__).resolve().parent.parent / "builtin"
HELD_OUT_NAMES = ("test", "valid", "eval", "dev")
READ_AT_ONCE = 256
SHARDS = re.compile(r"-\d{5}-of-(\d{5})")


@dataclass(frozen=True)
class Source:
    """Rows of one split, where they come from, and the other splits that stand beside them.

    ``rows()`` starts from the first row each time. ``key`` changes with the content. ``files``: of
    all its splits, where they are files whose lines can be left out by name.
    """

    name: str
    head: str  # the name without its split
    split: str
    splits: list[str]
    rows: Callable[[], Iterator[DataRow]]
    key: str
    files: tuple[Path, ...] = ()

    @property
    def held_out_splits(self) -> list[str]:
        """The splits to evaluate on: test_prefs beside train_prefs, all others of a builtin."""
        others = [split for split in self.splits if split != self.split]
        if self.head.startswith("builtin:"):
            return others
        kind = self.split.partition("_")[2]
        return [s for s in others if s.startswith(HELD_OUT_NAMES) and s.partition("_")[2] == kind]

    def sibling(self, split: str) -> str:
        """What to write for another split of the same source."""
        return f"{self.head}:{split}"


def read_source(spec: str, revision: str | None = None, reading: Reading = PLAIN) -> Source:
    """Find a builtin, a file, a folder or a data set on the Hub, read as ``reading`` says.

    ``builtin:name[:split]``, a file, ``folder[:split]``, ``org/name[@revision][:config][:split]``.
    A folder holds one file (or the shards of one) per split, or is one of ``save_to_disk``.
    Raises UserError in one sentence.
    """
    if not spec.strip():
        raise UserError("data: the source is empty; name a file, a folder or a data set.")
    if spec.startswith("builtin:"):
        name, _, split = spec.removeprefix("builtin:").partition(":")
        folder = BUILTIN_FOLDER / name / "data"
        if not name or not folder.is_dir():
            folders = sorted(BUILTIN_FOLDER.glob("*/data"))
            known = ", ".join(f"builtin:{path.parent.name}" for path in folders)
            raise UserError(f"data: there is no {spec}; the builtin data are {known}.")
        return _folder(spec, f"builtin:{name}", folder, split, PLAIN)
    path = Path(spec).expanduser()
    if path.is_dir():
        return _folder(spec, spec, path, "", reading)
    if path.is_file():
        return _files(spec, spec, [path], split_name(path), [split_name(path)], reading)
    head, _, split = spec.rpartition(":")
    if head and Path(head).expanduser().is_dir():
        return _folder(spec, head, Path(head).expanduser(), split, reading)
    if os.path.lexists(path):
        what = "is a pipe or a device" if path.exists() else "leads to nothing"
        raise UserError(f"data: {spec} {what}; name a file.")
    if file_kind(path) or spec.startswith((".", "/", "~")):
        near = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, near, n=1)
        hint = f"did you mean {path.parent / close[0]}?" if close else "check the path."
        raise UserError(f"data: there is no file {spec}; {hint}")
    return _hub(spec, revision)


def _folder(spec: str, head: str, folder: Path, split: str, reading: Reading) -> Source:
    # A data set's own dataset_info.json has a state.json beside it; LLaMA-Factory's names files.
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return _saved_to_disk(spec, head, folder, split)
    files: dict[str, list[Path]] = {}
    for place in (folder, folder / "data"):
        paths = sorted(place.iterdir()) if place.is_dir() and not files else []
        for path in paths:
            if path.is_file() and file_kind(path) and not path.name.startswith("dataset_info"):
                files.setdefault(split_name(path), []).append(path)
    if not files:
        raise UserError(f"data: {folder} holds no {', '.join(KINDS)} file.")
    split = choose_split(head, list(files), split)
    _check_whole(folder, split, files[split])
    found = _files(spec, head, files[split], split, list(files), reading)
    every = tuple(path for paths in files.values() for path in paths)
    return found if reading == PLAIN else replace(found, files=every)


def _check_whole(folder: Path, split: str, paths: list[Path]) -> None:
    """A split is one file, or all shards of one."""
    promised = {shard[1] for path in paths if (shard := SHARDS.search(path.name))}
    if len(paths) > 1 and not promised:
        names = ", ".join(path.name for path in paths)
        raise UserError(f"data: {folder} has {split} more than once ({names}); name one of them.")
    if promised and promised != {f"{len(paths):05d}"}:
        raise UserError(
            f"data: {folder} holds {len(paths)} of {int(max(promised))} files of {split}; get the "
            "others too."
        )


def choose_split(head: str, splits: list[str], wanted: str) -> str:
    """The wanted split, else ``train``, else the only one that there is or that trains.

    ``head`` is the source without its split. Raises UserError where it is not clear.
    """
    if wanted in splits:
        return wanted
    training = [split for split in splits if split.startswith("train")]
    if not wanted:
        for candidates in (["train"], training, splits):
            if len(candidates) == 1 and candidates[0] in splits:
                return candidates[0]
    problem = f"has no split {wanted}; it has" if wanted else "has several splits:"
    raise UserError(
        f"data: {head} {problem} {', '.join(splits)}; write {head}:{(training or splits)[0]}."
    )


def _files(
    spec: str, head: str, paths: list[Path], split: str, splits: list[str], reading: Reading
) -> Source:
    def rows() -> Iterator[DataRow]:
        for path in paths:
            yield from read_rows(path, reading)

    for path in paths:
        if file_kind(path) is None:
            raise UserError(no_data_file(path))
    return Source(spec, head, split, splits, rows, content_hash(paths) + reading.key, tuple(paths))


def _saved_to_disk(spec: str, head: str, folder: Path, split: str) -> Source:
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise UserError(f"data: {folder} does not load: {str(error).splitlines()[0]}.") from error
    splits = loaded if isinstance(loaded, DatasetDict) else {"train": loaded}
    split = choose_split(head, list(splits), split)
    data = splits[split]
    # Not the fingerprint: it is of how the data were made, and the same function may read anew.
    key = content_hash([Path(file["filename"]) for file in data.cache_files])
    return Source(spec, head, split, list(splits), lambda: _arrow_rows(data), key)


def _hub(spec: str, revision: str | None) -> Source:
    from datasets import get_dataset_config_names, get_dataset_split_names, load_dataset

    name, *rest = spec.split(":")
    if len(rest) > 2:
        raise UserError(f"data: {spec} has more parts than org/name:config:split.")
    repo, _, own_revision = name.partition("@")
    revision = own_revision or revision
    try:
        configs = get_dataset_config_names(repo, revision=revision)
        config = rest.pop(0) if rest and rest[0] in configs else None
        if config is None and len(configs) > 1 and "default" not in configs:
            raise UserError(
                f"data: {repo} has several configs: {', '.join(configs[:12])}; write "
                f"{name}:{configs[0]}."
            )
        splits = list(get_dataset_split_names(repo, config, revision=revision))
        head = f"{name}:{config}" if config else name
        if len(rest) > 1:
            raise UserError(f"data: {name} has no config {rest[0]}; it has {', '.join(configs)}.")
        split = choose_split(head, splits, rest[0] if rest else "")
        data = load_dataset(repo, config, split=split, revision=revision)
    except UserError:
        raise
    except Exception as error:  # the client's, the network's and the builder's have no common kind
        cause = error.__cause__ or error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0].rstrip(".")
        raise UserError(
            f"data: {spec} is no local file, and the Hub does not give it: {reason}; check the "
            "name, the network, or `hf auth login`."
        ) from error
    return Source(spec, head, split, splits, lambda: _arrow_rows(data), data._fingerprint)


def _arrow_rows(data) -> Iterator[DataRow]:
    for table in data.with_format("arrow").iter(READ_AT_ONCE):
        yield from table.to_pylist()
