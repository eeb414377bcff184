"""What mkdocs needs to make a site of files that are written to be read in the repository.

README.md is its first page, and CONTRIBUTING.md, CHANGELOG.md and the table of measurements are
pages too. Links that lead out of docs/ are turned to where their targets stand in the site; files
that are no pages (sources, the notebook) come along as they are. Formulas become MathML, which
browsers draw by themselves: no script is fetched from anywhere.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {  # in the repository -> in the site
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "benchmarks/RESULTS.md": "benchmarks/RESULTS.md",
}
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```$")
INLINE = re.compile(r"(?<![\\$\w])\$([^$\n]+?)\$(?![\w$])")
CODE = re.compile(r"(`[^`\n]+`)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages and sources that do not stand in docs/."""
    texts = {name: ROOT / name for name in PAGES}
    texts |= {
        f"docs/{file.src_uri}": Path(file.abs_src_path or "")
        for file in files.documentation_pages()
    }
    for name, path in PAGES.items():
        files.append(File.generated(config, path, content=texts[name].read_text("utf-8")))
    for name, text in texts.items():
        for target in _targets(text.read_text("utf-8"), name):
            known = target in PAGES or target.startswith("docs/")
            if not known and (ROOT / target).is_file() and files.get_file_from_path(target) is None:
                files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    name = next((name for name, path in PAGES.items() if path == here), f"docs/{here}")
    return FENCE.sub(_display, _outside_of_code(markdown, name, here))


def _outside_of_code(markdown: str, name: str, here: str) -> str:
    """Links turned and formulas drawn wherever no code stands."""
    parts, end = [], 0
    for fence in [*FENCE.finditer(markdown), None]:
        text = markdown[end : fence.start() if fence else None]
        for i, piece in enumerate(CODE.split(text)):
            if i % 2 == 0:
                # A line that begins with <math> would end its paragraph; one with <span> does not.
                piece = INLINE.sub(lambda m: f"<span>{convert(m[1])}</span>", piece)
            parts.append(piece)
        if fence:
            parts.append(fence[0])
            end = fence.end()
    return LINK.sub(lambda m: f"{m[1]}{_turned(m[2], name, here)}{m[3]}", "".join(parts))


def _display(fence: re.Match[str]) -> str:
    if fence[1] != "math":
        return fence[0]
    known = fence[2].replace("{aligned}", "{align*}")  # the one of the two that the converter has
    return convert(known, display="block")


def _targets(text: str, name: str) -> Iterator[str]:
    """The files of the repository that a text links to, from its root."""
    for link in LINK.finditer(text):
        if "://" not in link[2]:
            yield posixpath.normpath(posixpath.join(posixpath.dirname(name), link[2]))


def _turned(link: str, name: str, here: str) -> str:
    """A link of the file ``name``, from where that file stands in the site."""
    if "://" in link or link.startswith("mailto:"):
        return link
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
    place = PAGES.get(target) or target.removeprefix("docs/")
    return posixpath.relpath(place, posixpath.dirname(here) or ".")
