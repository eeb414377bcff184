"""The Recipes and Data tabs without a browser: drafts, uploads, and their HTML."""

import errno
import gzip
import json
from dataclasses import replace

import pytest

from dpo_lite.errors import UserError
from dpo_lite.recipe import RECIPES_FOLDER, library, load_recipe, parse_yaml
from dpo_lite.ui import data_views, recipe_views, tab_data
from dpo_lite.ui.form import check_text, fields
from dpo_lite.ui.recipe_draft import (
    START,
    Draft,
    left_out,
    open_draft,
    restore_draft,
    with_data,
    with_field,
)
from dpo_lite.ui.uploads import keep_upload

QUICKSTART = (RECIPES_FOLDER / "quickstart.yaml").read_text()


@pytest.mark.parametrize("name", ["quickstart", "qwen3-4b", "zephyr-7b"])
def test_the_command_line_says_exactly_what_the_page_launches(name, tmp_path):
    """A draft's words, read as the command line reads them, give the draft's recipe."""
    text = open_draft(f"shipped:{name}", tmp_path).text
    for change in (
        {"train": {"beta": 0.3, "lr": 1e-5}},
        {"eval": {"prompts": ["a: b, c", "it's\n[x]"]}},
        {"data": {"train": [{"source": "a b", "weight": 2.0}, "c"], "columns": {"prompt": "q"}}},
        {"run": {"name": "5e-6"}, "hub": {"private": False}},
    ):
        values = parse_yaml(text, "")
        for section, keys in change.items():
            values[section] = values.get(section, {}) | keys
        draft = Draft(f"shipped:{name}", json.dumps(values), tmp_path)
        recipe = check_text(draft.text).recipe
        word, *overrides = draft.command_words(recipe)
        assert load_recipe(word, overrides) == recipe


def test_ones_own_is_named_by_its_file_and_a_broken_one_must_be_saved(tmp_path):
    library.save_own(QUICKSTART, "mine", tmp_path)
    draft = open_draft("own:mine", tmp_path)
    recipe = check_text(draft.text).recipe
    assert draft.command_words(recipe) == [str(tmp_path / "mine.yaml")]
    library.save_own("x: 1", "mine", tmp_path, overwrite=True)
    with pytest.raises(UserError, match="save this text first"):
        draft.command_words(recipe)


@pytest.mark.parametrize("picked", ["own:../../etc/passwd", "own:gone", "shipped:none", "", "x:y"])
def test_what_cannot_be_opened_is_the_quickstart(picked, tmp_path):
    assert open_draft(picked, tmp_path) == open_draft(START, tmp_path)
    assert restore_draft({"picked": picked, "text": "a: 1"}, tmp_path).picked == START


@pytest.mark.parametrize("kept", [None, 1, {}, {"picked": 1, "text": "x"}, {"picked": START}])
def test_what_the_browser_kept_need_not_make_sense(kept, tmp_path):
    assert restore_draft(kept, tmp_path) == open_draft(START, tmp_path)


def test_other_data_take_the_keys_of_the_old_ones_along():
    text = (RECIPES_FOLDER / "qwen3-1.7b.yaml").read_text()
    values = parse_yaml(with_data(text, "x.jsonl", ["data.limit=5", "train.beta=9"]), "")
    assert "eval" not in values
    data = values["data"]
    assert data["train"] == "x.jsonl"
    assert data["limit"] == 5
    assert "eval" not in data
    assert data["template"] == {"enable_thinking": False}


def field_of(key):
    return next(f for f in fields() if f.key == key)


def test_the_form_leaves_out_what_belongs_to_the_data_it_replaces(tmp_path):
    draft = open_draft("shipped:qwen3-4b", tmp_path)
    assert left_out(draft) == []
    draft = with_field(draft, field_of("data.columns"), "{prompt: question}")  # of one's own data
    draft = with_field(draft, field_of("data.train"), "p")
    recipe = check_text(draft.text).recipe
    assert recipe.data.train == "p"
    assert recipe.data.eval is None
    assert recipe.data.columns == {"prompt": "question"}
    (line,) = left_out(draft)
    assert line.startswith("data.eval, eval.prompts, eval.limit of the recipe are left out")
    draft = with_field(draft, field_of("eval.limit"), "1000")  # set anew, and typed on
    draft = with_field(draft, field_of("data.train"), "pairs.jsonl")
    assert check_text(draft.text).recipe.eval.limit == 1000
    assert left_out(draft)[0].startswith("data.eval, eval.prompts of the recipe")
    word, *overrides = draft.command_words(check_text(draft.text).recipe)
    assert load_recipe(word, overrides) == check_text(draft.text).recipe


def test_the_form_lets_the_reference_follow_the_adapter(tmp_path):
    library.save_own("reference: base\n" + QUICKSTART, "mine", tmp_path)
    draft = open_draft("own:mine", tmp_path)
    draft = with_field(draft, field_of("model.adapter"), "sft-1")
    assert check_text(draft.text).recipe.reference == "start"
    assert left_out(draft)[0].startswith("reference: base of the recipe is left out")
    draft = with_field(draft, field_of("reference"), "base")
    draft = with_field(draft, field_of("model.adapter"), "sft-12")
    recipe = check_text(draft.text).recipe
    assert recipe.starts_apart
    assert left_out(draft) == []
    word, *overrides = draft.command_words(recipe)
    assert load_recipe(word, overrides) == recipe
    assert "reference=base" in overrides


def test_a_recipe_that_is_gone_says_nothing_of_the_draft(tmp_path):
    assert left_out(Draft("own:gone", QUICKSTART, tmp_path)) == []
    broken = with_field(Draft("own:gone", QUICKSTART, tmp_path), field_of("data.train"), "x")
    assert "train: x" in broken.text


def test_uploads_are_kept_once_under_a_safe_name(tmp_path):
    folder = tmp_path / "data"

    def upload(name, content=b'{"a": 1}\n'):
        path = tmp_path / name
        path.write_bytes(content)
        return keep_upload(path, folder)

    assert upload("../x y.jsonl".replace("../", "..")) == folder / "x-y.jsonl"
    assert upload("x y.jsonl") == folder / "x-y.jsonl"
    assert upload("x y.jsonl", b'{"a": 2}\n') == folder / "x-y-2.jsonl"
    assert upload("a.jsonl.gz", gzip.compress(b"{}")) == folder / "a.jsonl.gz"
    for name in ("evil.py", "model.bin", "x.gz", "noending"):
        with pytest.raises(UserError, match="no data file"):
            upload(name)
    assert len(list(folder.iterdir())) == 3


def test_a_full_disk_keeps_nothing_of_an_upload(tmp_path, monkeypatch):
    def full(source, target):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    arrived = tmp_path / "rows.jsonl"
    arrived.write_bytes(b"{}")
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(UserError, match="make room there"):
        keep_upload(arrived, tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_cards_escape_and_mark_what_is_picked(tmp_path):
    (entry, *_) = library.shipped()
    odd = replace(entry, purpose="<img src=x onerror=alert(1)>", own=True)
    html = recipe_views.cards([odd], [entry], [], "shipped:quickstart")
    assert "<img" not in html
    assert html.count('aria-pressed="true"') == 1
    broken = replace(entry, recipe=None, fault="x is no key")
    assert "x is no key" in recipe_views.cards([], [broken], [], "")


def test_what_the_worker_finds_is_what_the_page_shows():
    """The real task's result, so that a key of it cannot be renamed unseen."""
    from dpo_lite.worker.tasks import plan

    class Silent:
        def say(self, text):
            pass

    result = plan(Silent(), None, QUICKSTART, "3090")
    html = recipe_views.planned(result, "3090", ["dpo-lite", "plan", "quickstart"])
    for told in ("It fits on 3090", "an epoch takes", "tokens per micro-batch", "weights"):
        assert told in html
    result |= {"fits": False, "advice": ["a smaller base"], "memory": 2**20}
    html = recipe_views.planned(result, "6GB", ["dpo-lite", "plan"])
    for told in ("does not fit on a card with 6GB", "a smaller base", "dl-over"):
        assert told in html


def test_the_report_names_rows_and_draws_each_part_to_one_scale(tmp_path):
    from dpo_lite.jobs.doctor import examine

    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"p {n}", "chosen": "<i>a</i>" * n, "rejected": "b"} for n in range(1, 20)]
    rows.insert(3, {"prompt": "<u>odd</u>", "chosen": "x", "rejected": "x"})
    path.write_text("\n".join(map(json.dumps, rows)))
    report = examine(str(path), shown=50)
    found = report.to_json() | {"notes": report.notes}
    html = data_views.doctor_report(found)
    assert "<td>3</td>" in html
    assert "<u>" not in html
    assert html.count("<svg") == 3
    example = data_views.example(found, 0)
    assert "preferred" in example
    assert "rejected" in example
    assert "<i>" not in example


def test_a_report_on_prompts_alone_speaks_of_no_answers(tmp_path):
    from dpo_lite.jobs.doctor import examine

    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"p {n}"}) + "\n" for n in range(20)))
    report = examine(str(path), ["data.pairs=prompts"])
    found = report.to_json() | {"notes": report.notes}
    html = data_views.doctor_report(found)
    assert "none: the policy answers by itself" in html
    assert html.count("<svg") == 1
    assert "preferred" not in html
    example = data_views.example(found, 0)
    assert "The prompt alone" in example
    assert "<mark>" not in example


def test_the_data_tab_s_menus_write_one_key_among_the_others():
    keys = tab_data.with_columns("data.limit=5 data.columns='{prompt: a}'", {"prompt": "my q"})
    assert tab_data.split(keys) == ["data.limit=5", "data.columns={prompt: my q}"]
    assert tab_data.columns_of(keys) == {"prompt": "my q"}
    assert tab_data.with_columns(keys, {}) == "data.limit=5"
    assert tab_data.columns_of("data.columns='{") == tab_data.columns_of("data.columns=x") == {}
