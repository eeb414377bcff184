"""The three questions, without a browser: what is proposed for their answers."""

import json
from dataclasses import replace

import pytest

from dpo_lite.recipe import RECIPES_FOLDER, library, load_recipe
from dpo_lite.recipe.edit import override_text
from dpo_lite.runs.folder import Run
from dpo_lite.ui import column_menus, labels, recipe_start, recipe_views, start, will_train
from dpo_lite.ui.form import check_text, fields
from dpo_lite.ui.recipe_draft import (
    START,
    Draft,
    as_shown,
    aside_words,
    browser_copy,
    open_draft,
    put_aside,
    restore_draft,
    take_back,
)

SHIPPED = library.shipped()


def recipe_of(draft):
    checked = check_text(draft.text)
    assert checked.faults == {}
    return checked.recipe


def write_rows(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def pairs(count):
    return [{"prompt": f"p {n}", "chosen": f"good {n}", "rejected": "bad"} for n in range(count)]


# --- what a click sends ---------------------------------------------------------------------------


def test_what_the_form_shows_goes_before_what_the_server_has_heard_of(tmp_path):
    copy = browser_copy(open_draft(START, tmp_path))
    shown = {"train.beta": "0.061", "adapter.r": "16", "train.loss": "ipo", "eval.prompts": "a\nb"}
    draft = as_shown(copy, copy["text"], shown, tmp_path)
    recipe = recipe_of(draft)
    assert (recipe.train.beta, recipe.train.loss, recipe.adapter.r) == (0.061, "ipo", 16)
    assert recipe.eval.prompts == ["a", "b"]
    assert "# pull to the reference" in draft.text


def test_the_page_at_first_is_launched_as_it_is_shown(tmp_path):
    """Before what the browser remembers stands there: no value and no name of that comes in."""
    remembered = open_draft("shipped:qwen3-4b", tmp_path)
    first = open_draft(START, tmp_path)
    checked = check_text(first.text)
    shown = {f.key: f.shown(checked.value(f.key)) for f in fields()}
    copy = browser_copy(remembered)
    assert as_shown(copy, first.text, shown, tmp_path) == first
    typed = as_shown(copy, first.text, shown | {"train.beta": "0.3"}, tmp_path)
    assert (typed.picked, recipe_of(typed).train.beta) == (START, 0.3)


def test_a_form_that_was_not_touched_changes_nothing(tmp_path):
    for entry in SHIPPED:
        draft = open_draft(f"shipped:{entry.name}", tmp_path)
        checked = check_text(draft.text)
        shown = {f.key: f.shown(checked.value(f.key)) for f in fields()}
        assert as_shown(browser_copy(draft), draft.text.strip(), shown, tmp_path) == draft


@pytest.mark.parametrize("menu", ["{sigmoid: 0.8, bco_pair: 0.2}", "", "nonsense"])
def test_a_sum_of_losses_stays_at_a_click_unless_something_else_is_written(tmp_path, menu):
    text = open_draft(START, tmp_path).text
    text = override_text(text, ["train.loss={sigmoid: 0.8, bco_pair: 0.2}"])
    copy = browser_copy(Draft(START, text, tmp_path))
    draft = as_shown(copy, text, {"train.loss": menu}, tmp_path)
    assert (draft.text == text) is (menu != "nonsense")


def test_text_and_form_changed_before_one_click_both_count(tmp_path):
    copy = browser_copy(open_draft(START, tmp_path))
    yaml = copy["text"].replace("epochs: 3", "epochs: 5")
    recipe = recipe_of(as_shown(copy, yaml, {"train.beta": "0.3", "train.epochs": "3"}, tmp_path))
    assert (recipe.train.beta, recipe.train.epochs) == (0.3, 5)


def test_another_recipe_keeps_the_changes_of_the_last_to_be_taken_back(tmp_path):
    first = open_draft(START, tmp_path)
    assert aside_words(put_aside(first, open_draft("shipped:qwen3-4b", tmp_path))) == ""
    changed = replace(first, text=first.text.replace("beta: 0.1 ", "beta: 0.7 "), card="3090")
    other = put_aside(changed, open_draft("shipped:qwen3-4b", tmp_path))
    assert aside_words(other) == "Back to quickstart with your changes: train.beta"
    assert other.card == "3090"
    third = put_aside(other, open_draft("shipped:zephyr-7b", tmp_path))  # unchanged
    again = restore_draft(browser_copy(third), tmp_path)  # as after a reload
    back = take_back(again)
    assert recipe_of(back).train.beta == 0.7
    assert back.aside is None


# --- the three questions --------------------------------------------------------------------------


def test_what_fits_the_card_comes_first_and_the_rest_says_what_it_needs():
    fitting, others = start.by_fit(SHIPPED, 0)
    assert fitting[0].name == "quickstart"
    assert all(entry.card.startswith("any computer") for entry in fitting)
    fitting, others = start.by_fit(SHIPPED, start.card_memory("3060", 0))
    assert "qwen3-4b" in {entry.name for entry in fitting}
    assert library.gigabytes(others[0].card) == 16
    shown = {base: words for words, base in start.models(SHIPPED, 12)}
    assert shown["Qwen/Qwen3-4B"] == "Qwen/Qwen3-4B"
    assert "needs 24 GB" in shown["Qwen/Qwen3-14B"]
    html = recipe_views.cards([], fitting, others, "shipped:quickstart", "a <3060>")
    assert "fit a &lt;3060&gt;" in html
    assert html.index("quickstart") < html.index("<details")


def test_a_model_brings_its_shipped_recipe_and_keeps_the_chosen_data(tmp_path):
    source = write_rows(tmp_path / "mine.jsonl", pairs(3))
    draft = recipe_start.new_data(open_draft(START, tmp_path), source)
    draft = start.choose_model(draft, "Qwen/Qwen3-4B", SHIPPED)
    recipe = recipe_of(draft)
    assert draft.origin == "qwen3-4b"
    assert (recipe.data.train, recipe.data.eval) == (source, None)
    assert recipe.train.lr == load_recipe("qwen3-4b").train.lr


@pytest.mark.parametrize("base", ["someone/Model-7B", "./my models/x", "a: b"])
def test_a_model_of_no_recipe_gets_a_plain_one(base, tmp_path):
    draft = start.choose_model(open_draft(START, tmp_path), base, SHIPPED)
    recipe = recipe_of(draft)
    assert (recipe.model.base, recipe.data.train) == (base, "builtin:myths")


@pytest.mark.parametrize(
    ("row", "task"),
    [
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, "dpo"),
        ({"prompt": "p", "completion": "a"}, "sft"),
        ({"prompt": "p", "completion": "a", "label": True}, "kto"),
        ({"prompt": "p"}, "ppo"),
    ],
)
def test_the_data_say_which_task_they_are_for(row, task, tmp_path):
    source = write_rows(tmp_path / "mine.jsonl", [row] * 3)
    for name in ("quickstart", "sft-quickstart", "kto-quickstart", "ppo-quickstart", "qwen3-4b"):
        draft = recipe_start.new_data(open_draft(f"shipped:{name}", tmp_path), source)
        expected = "ppo" if task == "dpo" and name == "ppo-quickstart" else task
        assert recipe_of(draft).task == expected, name


def test_columns_are_proposed_by_their_names_and_shown(tmp_path):
    rows = [{"Question": "q", "good_answer": "<b>yes</b>", "bad_answer": "no"}] * 2
    source = write_rows(tmp_path / "mine.jsonl", rows)
    recipe = recipe_of(recipe_start.new_data(open_draft(START, tmp_path), source))
    names = {"prompt": "Question", "chosen": "good_answer", "rejected": "bad_answer"}
    assert recipe.data.columns == names
    html = column_menus.seen_html(recipe_start.look(source, names))
    assert "&lt;b&gt;yes" in html
    assert html.index("prompt") < html.index("chosen") < html.index("rejected")
    assert column_menus.chosen_columns(["Question", "chosen", "(none)"]) == {"prompt": "Question"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("prompt", "chosen", "rejected"), None),
        (("Prompt", "Chosen", "Rejected"), None),
        (("Frage?", "chosen", "rejected"), None),  # no name of a prompt: the menus ask
        (("question", "chosen", "bad"), {"prompt": "question", "rejected": "bad"}),
    ],
)
def test_columns_that_fit_are_not_written_into_the_recipe(names, said, tmp_path):
    rows = [dict(zip(names, ("", 1, None), strict=True))]  # no row that can be read
    source = write_rows(tmp_path / "mine.jsonl", rows)
    assert recipe_start.look(source).fault
    draft = recipe_start.new_data(open_draft(START, tmp_path), source)
    assert recipe_of(draft).data.columns == said


def test_a_broken_line_and_an_old_encoding_are_one_click_each(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(
        "prompt,chosen,rejected\na,b,c,d\ne,f,g,h\nGröße?,groß,klein\n".encode("cp1252")
    )
    draft = recipe_start.new_data(open_draft(START, tmp_path), str(path))
    said = []
    while found := start.repair(recipe_start.seen_of(draft).fault):
        said.append(found[0])
        draft = replace(draft, text=start.repaired(draft.text, found[1]))
    assert said[:2] == ["Leave out line 2", "Leave out line 3"]
    assert "cp1252" in said[2]
    recipe = recipe_of(draft)
    assert (recipe.data.encoding, recipe.data.leave_out) == ("cp1252", ["mine.csv:2", "mine.csv:3"])
    assert recipe_start.seen_of(draft).first.responses == ["groß", "klein"]
    assert will_train.words(recipe).endswith("mine.csv, 1 row")
    columns = {"prompt": "chosen", "chosen": "prompt"}
    mapped = recipe_of(recipe_start.new_data(draft, str(path), columns))
    assert mapped.data.leave_out == recipe.data.leave_out


# --- beside Launch --------------------------------------------------------------------------------


def test_beside_launch_stands_what_will_be_trained(tmp_path):
    source = write_rows(tmp_path / "clean.jsonl", pairs(58))
    qwen = load_recipe("qwen3-4b", [f"data.train={source}"])
    assert will_train.words(qwen, "qwen3-4b") == "Qwen3-4B on clean.jsonl, 58 rows"
    assert will_train.words(qwen, "qwen3-4b", "25 min in all").endswith("58 rows, 25 min in all")
    write_rows(tmp_path / "clean.jsonl", pairs(7))
    assert "7 rows" in will_train.words(qwen)
    limited = load_recipe("qwen3-4b", [f"data.train={source}", "data.limit=5"])
    assert "5 rows" in will_train.words(limited)


def test_the_head_s_time_is_told_of_what_goes_as_long():
    shipped = load_recipe("quickstart")
    assert will_train.words(shipped, "quickstart").endswith("under a minute")
    named = load_recipe("quickstart", ["run.name=gentle"])
    assert will_train.words(named, "quickstart").endswith("under a minute")
    longer = load_recipe("quickstart", ["train.epochs=30"])
    assert "minute" not in will_train.words(longer, "quickstart")
    hub = load_recipe("qwen3-4b")  # rows that are not here are not counted
    assert "row" not in will_train.words(hub, "qwen3-4b")


def test_the_time_that_a_check_found_is_told():
    found = {"lines": ["time       42 updates of about 1.5 s, 63 s in all (the reference …)"]}
    assert recipe_views.time_found(found) == "63 s in all"
    found = {"lines": ["an epoch takes 8.0 to 14 h (35 to 60 % of the card's peak)"]}
    assert recipe_views.time_found(found) == "an epoch takes 8.0 to 14 h"
    assert recipe_views.time_found({"lines": ["split      1 micro-batch"]}) == ""


# --- what PPO needs -------------------------------------------------------------------------------


def test_ppo_says_which_reward_model_it_needs_until_it_is_there(tmp_path):
    recipe = load_recipe("ppo-quickstart")
    words, entry = start.missing_reward(recipe, tmp_path, SHIPPED)
    assert "no run reward-quickstart-1 yet" in words
    assert entry.name == "reward-quickstart"
    run = Run(tmp_path / "reward-quickstart-1")
    run.path.mkdir()
    (run.path / "recipe.yaml").write_text((RECIPES_FOLDER / "reward-quickstart.yaml").read_text())
    run.update_status(state="stopped")
    words, entry = start.missing_reward(recipe, tmp_path, SHIPPED)
    assert "is stopped" in words
    assert entry is None
    run.adapter.mkdir()
    assert start.missing_reward(recipe, tmp_path, SHIPPED) is None
    other = load_recipe("ppo-quickstart", ["ppo.reward=mine"])
    assert start.missing_reward(other, tmp_path, SHIPPED)[1].name == "reward-quickstart"
    for there in ("judge.py:score", "someone/reward", str(tmp_path)):
        other = load_recipe("ppo-quickstart", [f"ppo.reward={there}"])
        assert start.missing_reward(other, tmp_path, SHIPPED) is None
    for name in ("quickstart", "rlhf-quickstart"):
        assert start.missing_reward(load_recipe(name), tmp_path, SHIPPED) is None


def test_a_card_says_that_a_reward_model_comes_first():
    by_name = {entry.name: entry for entry in SHIPPED}
    assert recipe_views.needs(by_name["ppo-quickstart"]) == "a reward model (reward-quickstart)"
    assert recipe_views.needs(by_name["quickstart"]) == ""
    assert recipe_views.needs(by_name["rlhf-quickstart"]) == ""


# --- the form's words -----------------------------------------------------------------------------


def test_common_keys_have_plain_words_with_their_name_in_brackets():
    keys = {f.key: f for f in fields()}
    assert set(labels.LABELS) | set(labels.OF_TASKS) <= set(keys)
    assert [key for key, f in keys.items() if f.common and not f.label.endswith(")")] == []
    assert keys["train.lr"].label == "Learning rate (lr)"


def test_a_key_is_offered_to_the_tasks_that_it_is_for(tmp_path):
    shown = {
        name: {
            f.key
            for f in fields()
            if check_text(open_draft(f"shipped:{name}", tmp_path).text).offers(f.key)
        }
        for name in ("quickstart", "sft-quickstart", "kto-quickstart", "reward-quickstart")
    }
    assert "train.loss" in shown["quickstart"]
    assert "train.beta" not in shown["sft-quickstart"]
    assert "train.desirable_weight" in shown["kto-quickstart"] - shown["quickstart"]
    assert "train.centering" in shown["reward-quickstart"] - shown["quickstart"]
    filled = check_text("task: sft\ntrain: {beta: 0.3}\n")
    assert filled.offers("train.beta")
