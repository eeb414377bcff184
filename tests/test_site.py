"""README and docs as a site: it builds without a warning, and every link in it leads somewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocs", reason="mkdocs is not installed")


class Page(HTMLParser):
    """What a page links to, loads, and can be linked to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.places = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.places |= {found.get("id"), found.get("name")}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in ("img", "script", "link") and (found.get("src") or found.get("href")):
            self.loads.append(found.get("src") or found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path.read_text("utf-8")) for path in site.rglob("*.html")}


def test_every_document_is_a_page(pages, site):
    names = {str(path.relative_to(site)) for path in pages}
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} <= names
    assert {"index.html", "CONTRIBUTING.html", "CHANGELOG.html", "benchmarks/RESULTS.html"} <= names


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(pages, site):
    wrong = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                wrong += [(path.name, link)] if link in page.loads else []
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            places = pages.get(target, page).places | {""}
            if not target.is_file() or parts.fragment not in places:
                wrong.append((path.name, link))
    assert wrong == []


def test_formulas_are_drawn_and_none_is_left_as_text(site):
    text = (site / "theory.html").read_text("utf-8")
    assert text.count("<math") > 50
    assert text.count('display="block"') >= 10
    assert "<mi>&</mi>" not in text  # an environment that the converter does not know
    assert not re.search(r"<p>\s*</p>|<p>\s*,", text)  # a paragraph that a formula has cut in two
    assert not re.search(r"\\mathrm|\\pi|\$[a-z\\]", re.sub(r"(?s)<(code|pre).*?</\1>", "", text))


def test_the_menu_has_every_page(pages, site):
    menu = {unquote(urlsplit(link).path) for link in pages[site / "index.html"].links}
    assert {str(p.relative_to(site)) for p in pages} - {"404.html", "index.html"} <= menu
