"""Find the rows: builtin data, local files and folders, data sets on the Hub."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, load_dataset

from dpo_lite.errors import UserError

BUILTIN_FOLDER = Path(__file__).resolve().parent.parent / "builtin"
READERS = {
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class Source:
    """Rows of one split, where they come from, and the other splits that stand beside them."""

    name: str
    rows: Dataset
    split: str
    splits: list[str]
    fingerprint: str


def read_source(spec: str, *, revision: str | None = None) -> Source:
    """Read a builtin, a file, a folder or a data set on the Hub.

    ``builtin:name[:split]``, a path, or ``org/name[:config][:split]``. A folder and a builtin hold
    one file per split. Raises UserError in one sentence.
    """
    if spec.startswith("builtin:"):
        name, _, split = spec.removeprefix("builtin:").partition(":")
        folder = BUILTIN_FOLDER / name / "data"
        if not folder.is_dir():
            known = ", ".join(f"builtin:{p.parent.name}" for p in BUILTIN_FOLDER.glob("*/data"))
            raise UserError(f"data: there is no {spec}; the builtin data are {known}.")
        return _folder(spec, folder, split or "train")
    path = Path(spec).expanduser()
    if path.is_dir():
        return _folder(spec, path, "train")
    if path.is_file():
        return _file(spec, path, "train", ["train"])
    suffixes = set(path.suffixes)
    if suffixes & set(READERS) or spec.startswith((".", "/", "~")):
        near = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, near, n=1)
        hint = f"did you mean {path.parent / close[0]}?" if close else "check the path."
        raise UserError(f"data: there is no file {spec}; {hint}")
    return _hub(spec, revision)


def _folder(spec: str, folder: Path, split: str) -> Source:
    files = {_stem(p): p for p in sorted(folder.iterdir()) if _kind(p)}
    if not files:
        raise UserError(f"data: {folder} holds no {', '.join(READERS)} file.")
    if split not in files:
        raise UserError(f"data: {spec} has no split {split}; it has {', '.join(files)}.")
    return _file(spec, files[split], split, list(files))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0]


def _kind(path: Path) -> str | None:
    return next((s for s in READERS if path.name.removesuffix(".gz").endswith(s)), None)


def _file(name: str, path: Path, split: str, splits: list[str]) -> Source:
    kind = _kind(path)
    if kind is None:
        raise UserError(f"data: {path} is no {', '.join(READERS)} file.")
    content = path.read_bytes()
    if not content.strip():
        raise UserError(f"data: {path} is empty.")
    if kind in (".jsonl", ".csv", ".tsv"):
        _check_text(path, content, lines_of_json=kind == ".jsonl")
    options = {"delimiter": "\t"} if kind == ".tsv" else {}
    try:
        rows = load_dataset(READERS[kind], data_files=str(path), split="train", **options)
    except Exception as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"data: {path} cannot be read: {cause}") from error
    if len(rows) == 0:
        raise UserError(f"data: {path} holds no rows.")
    return Source(name, rows, split, splits, hashlib.sha256(content).hexdigest()[:16])


def _check_text(path: Path, content: bytes, lines_of_json: bool) -> None:
    """Name the line that breaks the file; the readers below name only an offset."""
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"data: {path} line {line} is not UTF-8; save the file as UTF-8.") from None
    if not lines_of_json:
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"data: {path} line {number} is no valid JSON: {error}.") from None
        if not isinstance(row, dict):
            raise UserError(f"data: {path} line {number} is no JSON object.")


def _hub(spec: str, revision: str | None) -> Source:
    from datasets import get_dataset_config_names, get_dataset_split_names

    repo, *rest = spec.split(":")
    try:
        configs = get_dataset_config_names(repo, revision=revision)
        config = rest.pop(0) if rest and rest[0] in configs else None
        splits = get_dataset_split_names(repo, config, revision=revision)
        split = rest[0] if rest else next((s for s in splits if s.startswith("train")), None)
        if split not in splits:
            raise UserError(f"data: {repo} has no split {split}; it has {', '.join(splits)}.")
        rows = load_dataset(repo, config, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"data: {spec} is no local file, and the Hub does not give it: "
            f"{str(error).splitlines()[0]}; check the name, the network, or `hf auth login`."
        ) from error
    return Source(spec, rows, split, list(splits), rows._fingerprint)
