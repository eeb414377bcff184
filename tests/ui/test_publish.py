"""The Publish tab: its pieces, and a dry run and a push in a browser."""

import contextlib
import os
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from dpo_lite.errors import UserError
from dpo_lite.hub.login import Code
from dpo_lite.hub.push import preview
from dpo_lite.recipe import load_recipe
from dpo_lite.ui import publish_views as views
from dpo_lite.ui.client import Worker
from dpo_lite.ui.page import build
from dpo_lite.ui.shared import Page
from tests.hub.conftest import hub, make_run, run  # noqa: F401  (fixtures)
from tests.ui.conftest import serve
from tests.ui.pages import says, settled


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr("dpo_lite.hub.card_metadata.base_licence", lambda base: {})


def test_runs_are_found_by_name_alone(run):  # noqa: F811
    runs = run.path.parent
    assert views.run_names(runs) == ["demo-1"]
    assert views.known_run(runs, "demo-1").path == run.path
    assert views.checkpoints(run) == [views.RESULT]
    for name in ("../runs/demo-1", str(run.path), ".", "", None, "other"):
        with pytest.raises(UserError):
            views.known_run(runs, name)
    for name in ("../x", "/tmp/x", "a/b", "", ".hidden"):
        with pytest.raises(UserError, match="Name the merged model"):
            views.merge_folder(name)
    assert views.merge_folder("x-1") == Path("merged/x-1")


def test_the_archive_holds_the_adapter_of_one_run(run, tmp_path):  # noqa: F811
    with zipfile.ZipFile(views.zipped(run, tmp_path)) as archive:
        assert sorted(archive.namelist()) == [
            "demo-1/adapter_config.json",
            "demo-1/adapter_model.safetensors",
            "demo-1/recipe.yaml",
        ]


def test_what_is_shown_is_escaped(make_run):  # noqa: F811
    run = make_run(data={"train": "/x/<img src=x>.jsonl"})  # noqa: F811
    staged = preview(run, repo="me/demo")
    assert "<img" not in views.files_table(staged)
    metadata, text = views.card_parts(staged.card)
    assert "library_name: peft" in metadata
    assert "curves.png" not in text


def test_an_adapter_of_the_builtin_model_can_be_looked_at(make_run):  # noqa: F811
    run = make_run(model={"base": "builtin:myths"})  # noqa: F811
    with pytest.raises(UserError, match="not on the Hub"):
        preview(run, repo="me/demo")
    staged = preview(run, looking=True)
    assert staged.repo == "user/demo-1"
    assert "builtin:myths" in views.card_parts(staged.card)[1]
    recipe = load_recipe(run.recipe_file)
    assert "Download it or merge it" in views.not_for_the_hub(recipe, None)
    assert views.not_for_the_hub(recipe, "me/base") == ""


def test_a_fault_speaks_of_fields_and_not_of_flags(run):  # noqa: F811
    for options in ({}, {"repo": "demo"}, {"repo": "me/demo", "checkpoint": "7"}):
        with pytest.raises(UserError) as fault:
            preview(run, **options)
        assert "--" not in views.in_fields(fault.value)


def test_the_code_to_log_in_with_is_escaped():
    html = views.login_html(Code("<b>", 'https://hub.example/?a="b"', {}))
    assert "<b>" not in html
    assert 'rel="noopener noreferrer"' in html
    assert '"b"' not in html


def test_the_command_lines():
    line = views.push_command("r-1", "me/x", "200", "some/base", False)
    assert (
        " ".join(line)
        == "dpo-lite push r-1 --repo me/x --checkpoint 200 --base-id some/base --public"
    )
    line = views.push_command("r-1", "", views.RESULT, "", True)
    assert line[-2:] == ["user/name", "--private"]
    line = views.merge_command("r-1", "", False, True)
    assert " ".join(line) == "dpo-lite merge r-1 merged/r-1 --no-measure --modelfile"


def test_the_gguf_fold(tmp_path):
    line = views.gguf_command("r-1", "", ["q4_k_m", "q8_0"], True)
    assert " ".join(line) == "dpo-lite export r-1 exports/r-1-gguf --to gguf --quant q8_0,q4_k_m"
    assert views.gguf_command("r-1", "x", [], False)[-2:] == ["q8_0", "--no-measure"]
    assert views.quants(["q4_k_m", "f16", "other"]) == "f16,q4_k_m"
    with pytest.raises(UserError, match="Choose a quantisation"):
        views.quants([])
    with pytest.raises(UserError, match="Name the folder"):
        views.gguf_folder("../x")
    done = {
        "folder": "exports/a",
        "files": ["a-Q8_0.gguf"],
        "rows": [["q8_0", "9 MiB", "1.5", "<b>", "0.1", "0.2"]],
        "warnings": ["q8_0: the preference is lost in part"],
        "notes": [],
        "commands": ["llama-cli -m exports/a/a-Q8_0.gguf -cnv"],
    }
    html = views.gguf_note(done)
    assert "KL to the adapter" in html
    assert "dl-warn" in html
    assert "&lt;b&gt;" in html
    assert "llama-cli" in html


def test_the_menu_follows_a_new_selection_and_no_old_one():
    names = ["c", "b", "a"]
    assert views.chosen_run(names, None, None, None) == "c"
    assert views.chosen_run(names, None, ["a"], None) == "a"
    assert views.chosen_run(names, "c", ["a"], ["b"]) == "a"  # clicked since on Runs
    assert views.chosen_run(names, "c", ["a"], ["a"]) == "c"  # chosen here since
    assert views.chosen_run(names, "b", ["gone"], ["a"]) == "b"
    assert views.chosen_run(names, "gone", [], ["a"]) == "c"
    assert views.chosen_run([], "gone", ["a"], None) is None


def test_the_menu_shows_the_run_that_a_link_names(make_run, tmp_path):  # noqa: F811
    for name in ("one", "two"):
        make_run(name=name)
    page = Page(runs=tmp_path / "runs", recipes=tmp_path, worker=Worker(tmp_path))
    loaded = next(e.fn for e in build(page).fns.values() if e.name == "loaded_page")
    for link in ("one", "two", "../x,two"):
        request = SimpleNamespace(query_params={"runs": link})
        menu = loaded(None, [], None, request)[2]
        assert menu.value == link.rpartition(",")[2]


@pytest.fixture
def address(run, hub, tmp_path):  # noqa: F811
    """The page over one finished run, logged in on the small Hub."""
    with (
        open(tmp_path / "page.log", "wb") as log,
        serve(tmp_path, environment=hub.environment(tmp_path / "hf"), log=log) as url,
    ):
        yield url


@pytest.mark.slow
@pytest.mark.browser
def test_a_dry_run_and_a_push_in_a_browser(address, hub, tmp_path, chromium):  # noqa: F811
    with contextlib.closing(chromium.new_context()) as context:
        page = context.new_page()
        page.set_default_timeout(120_000)  # a worker imports torch, and others may do so too
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(address)
        settled(page)
        page.wait_for_selector("#recipes-cards >> text=quickstart")
        page.get_by_role("tab", name="Publish").first.click()
        page.wait_for_selector("#publish-account >> text=may write to me, lab")
        page.fill("#publish-repo textarea, #publish-repo input", "demo")
        page.click("#publish-preview")
        page.wait_for_selector("#publish-outcome >> text=names no owner")
        page.fill("#publish-repo textarea, #publish-repo input", "me/demo")
        page.click("#publish-preview")
        page.wait_for_selector("#publish-outcome >> text=nothing was uploaded")
        assert hub.repos == {}
        says(page, "#publish-files", "adapter_model.safetensors")
        says(page, "#publish-card", "A LoRA adapter for")
        says(page, "#publish-command", "dpo-lite push demo-1 --repo me/demo")
        if shots := os.environ.get("DPO_LITE_SHOTS"):
            for theme in ("light", "dark"):
                for width in (1280, 390):
                    page.set_viewport_size({"width": width, "height": 900})
                    page.evaluate(
                        "t => document.body.classList.toggle('dark', t === 'dark')", theme
                    )
                    page.screenshot(path=f"{shots}/publish-{theme}-{width}.png", full_page=True)
            page.set_viewport_size({"width": 1280, "height": 900})
        page.click("#publish-push")
        page.wait_for_selector("#publish-outcome >> text=Published at")
        assert "(private, a new repository)" in page.inner_text("#publish-outcome")
        assert len(hub.repos["me/demo"].commits) == 2
        with page.expect_download() as download:
            page.click("#publish-zip")
        assert download.value.suggested_filename == "demo-1.zip"
        assert not re.search("hf_[A-Za-z0-9]{20}", page.content())
    assert "hf_Write" not in (tmp_path / "page.log").read_text()
