"""The Compare tab in headless Chromium: generate, stop, blind vote, export, two tabs at once."""

import contextlib
import json
import re

import pytest

from tests.ui.pages import holds, says, settled

pytestmark = [pytest.mark.browser, pytest.mark.slow]  # a model is at work behind the page
PATIENCE = 120_000  # milliseconds: a worker that imports torch on a machine with other things to do


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tests.compare.test_lockstep import make_run

    folder = tmp_path_factory.mktemp("page")
    for seed, name in enumerate(["one", "two.b"]):
        make_run(folder / "runs", name, seed)
    (folder / "runs" / "one" / "samples.jsonl").write_text(
        "".join(
            json.dumps({"when": "before", "prompt": p, "answer": ""}) + "\n"
            for p in ("Hello, who are you?", "<img src=x onerror=alert(1)>")
        )
    )
    return folder


@pytest.fixture(scope="module")
def browser(chromium):
    return chromium


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("dialog", lambda dialog: page.faults.append(dialog.message))
    page.on(
        "request",
        lambda r: page.faults.append(r.url) if not r.url.startswith((address, "data:")) else None,
    )
    open_tab(page, address)
    yield page
    assert page.faults == []
    context.close()


def open_tab(page, address):
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    settled(page)
    page.click("button[role=tab]:has-text('Compare')")
    page.wait_for_selector("#compare-run input")
    page.wait_for_function("document.querySelector('#compare-run input').value != ''")
    page.wait_for_function("document.querySelector('#compare-prompt textarea').value != ''")


PROMPTS = {"one": 3, "two.b": 1}  # that each run was asked


def choose(page, run):
    page.click("#compare-run input")
    page.click(f"ul[role=listbox] li:has-text('{run}')")
    says(page, "#compare-place", f"1 of {PROMPTS[run]}")


def generate(page):
    """Of a page that has no answers yet: they come when Generate has been switched off."""
    page.click("#compare-generate")
    page.wait_for_selector("#compare-answers .dl-answer")
    page.wait_for_selector("#compare-generate:not([disabled])")
    return page.locator("#compare-answers .dl-said").all_inner_texts()


def test_reference_and_policy_stand_side_by_side(page):
    choose(page, "one")
    texts = generate(page)
    assert len(set(texts)) == 2
    assert all(texts)
    assert page.locator(".dl-answer header b").all_inner_texts() == ["reference", "one"]
    says(page, ".dl-answer header", "reward")
    page.wait_for_selector(".dl-said mark")
    page.check("#compare-tokens input")
    page.wait_for_selector(".dl-token")
    page.wait_for_selector(".dl-token-legend")
    says(page, "#compare-command", "dpo-lite compare one --prompt 'Are bats blind?'")
    page.wait_for_function("document.querySelector('#compare-loaded').innerText.includes('myths')")


def test_a_run_that_was_clicked_in_runs_is_the_one_that_compare_asks(visit, address):
    """The tab was never opened until then, and another run had been chosen in it."""
    page = visit(address)
    says(page, "#recipes-command", "dpo-lite train quickstart")
    page.get_by_role("tab", name="Runs").click()
    page.click("#runs-table tr[data-run='one'] .dl-name")
    says(page, "#runs-detail", "one")
    page.click("#runs-compare:not([disabled])")
    page.wait_for_function("document.querySelector('#compare-prompt textarea')?.value")
    holds(page, "#compare-run input", "one")
    says(page, "#compare-place", "1 of 3")
    assert not page.locator("#compare-pages textarea, #compare-pages input").first.is_visible()


def at_strength(page, strength):
    """What the columns say then."""
    page.fill("#compare-strength input[type=number]", strength)
    page.locator("#compare-strength input[type=number]").blur()
    says(page, "#compare-command", f"--strength {strength}")
    page.click("#compare-generate")
    says(page, ".dl-answer:nth-child(2) header b", f"one@{strength}")
    page.wait_for_selector("#compare-generate:not([disabled])")
    return page.locator("#compare-answers .dl-said").all_inner_texts()


@pytest.mark.long
def test_the_strength_sets_the_policys_column(page):
    choose(page, "one")
    reference, policy = generate(page)
    assert policy != reference
    assert at_strength(page, "0") == [reference, reference]
    command = page.locator("#compare-command code").inner_text()
    assert command == "dpo-lite compare one --prompt 'Are bats blind?' --no-policy --strength 0"
    halfway = at_strength(page, "0.5")
    assert halfway[0] == reference
    assert halfway[1] != ""


@pytest.mark.long
def test_paging_through_the_runs_prompts_and_markup_in_them(page):
    choose(page, "one")
    page.click("#compare-next")
    page.wait_for_function("document.querySelector('#compare-place').innerText.includes('2 of 3')")
    page.click("#compare-next")
    page.wait_for_function(
        "document.querySelector('#compare-prompt textarea').value.includes('onerror')"
    )
    generate(page)
    assert page.locator("#compare-all img").count() == 0
    page.click("#compare-back")
    page.wait_for_function("document.querySelector('#compare-place').innerText.includes('2 of 3')")


def test_what_was_typed_stays_whatever_comes_late(page):
    page.fill("#compare-prompt textarea", "Do fish sleep?")
    page.click("#compare-run input")
    page.click("ul[role=listbox] li:has-text('two.b')")
    page.wait_for_function("document.querySelector('#compare-command').innerText.includes('two.b')")
    page.wait_for_function("document.querySelector('#compare-place').innerText.trim() === ''")
    assert page.input_value("#compare-prompt textarea") == "Do fish sleep?"
    page.fill("#compare-prompt textarea", "")
    choose(page, "one")  # an empty field is filled
    page.click("#compare-next")
    says(page, "#compare-place", "2 of 3")
    page.click("#compare-run input")
    page.click("ul[role=listbox] li:has-text('two.b')")  # which was not asked that: it stays
    page.wait_for_function("document.querySelector('#compare-place').innerText.trim() === ''")
    assert page.input_value("#compare-prompt textarea") == "Hello, who are you?"


@pytest.mark.long
def test_nothing_asked_is_told(page):
    page.fill("#compare-prompt textarea", " ")
    page.click("#compare-generate")
    page.wait_for_selector("#compare-told .dl-bad")
    assert "Type a prompt" in page.locator("#compare-told").inner_text()


def long_answer(page):
    """An answer that takes long: no column of noise ends soon at a high temperature."""
    page.click("#compare-sampling button")
    page.fill("#compare-temperature input[type=number]", "2")
    page.fill("#compare-max-new-tokens input[type=number]", "1024")
    page.locator("#compare-max-new-tokens input[type=number]").blur()
    page.wait_for_function("document.querySelector('#compare-command').innerText.includes('1024')")
    page.click("#compare-generate")
    page.wait_for_function("(document.querySelector('.dl-said')?.innerText || '').length > 40")


WORKING = "document.querySelector('#status-bar').innerText.includes('working')"


def idle(page):
    page.wait_for_function(
        "!document.querySelector('#status-bar').innerText.includes('working')", timeout=20_000
    )


def test_stop_stops_the_generation_and_keeps_what_was_said(page):
    long_answer(page)
    page.click("#compare-stop")
    page.wait_for_selector("#compare-generate:not([disabled])")
    said = page.locator(".dl-said").first.inner_text()
    assert len(said) > 40
    idle(page)
    assert page.locator(".dl-said").first.inner_text() == said


@pytest.mark.long
def test_closing_the_page_stops_the_generation(page, browser, address):
    playwright = pytest.importorskip("playwright.sync_api")
    other = browser.new_context().new_page()
    open_tab(other, address)
    long_answer(other)
    for seed in range(1, 10):  # an answer may end by chance before the status line looks again
        with contextlib.suppress(playwright.TimeoutError):
            page.wait_for_function(WORKING, timeout=3_000)
            break
        other.fill("#compare-seed input", str(seed))
        other.wait_for_selector("#compare-generate:not([disabled])")
        other.click("#compare-generate")
    other.close()
    idle(page)


@pytest.mark.long
def test_two_tabs_ask_at_once_and_both_are_answered(page, browser, address):
    other = browser.new_context().new_page()
    open_tab(other, address)
    for tab in (page, other):
        tab.click("#compare-generate")
    for tab in (page, other):
        tab.wait_for_selector(".dl-answer header:has-text('reward')")
    other.close()


def test_blind_vote_reveal_win_rate_export_and_back_to_recipes(page, folder):
    choose(page, "two.b")
    page.check("#compare-blind input")
    generate(page)
    page.wait_for_selector("#compare-vote button")
    assert page.locator(".dl-answer header").all_inner_texts() == ["A", "B"]
    page.locator("#compare-rates").click()  # away from the fields
    page.keyboard.press("1")
    page.wait_for_selector("#compare-told .dl-good")
    names = page.locator(".dl-answer header b").all_inner_texts()
    assert sorted(names) == ["reference", "two.b"]
    assert page.locator(".dl-answer.dl-won header b").inner_text() == names[0]
    page.wait_for_selector("#compare-vote", state="hidden")
    row = page.locator("#compare-rates tbody tr").first.inner_text()
    assert re.search(r"two\.b\s+reference\s+(100|0)%", row)

    page.click("#compare-export")
    page.wait_for_selector("#compare-exported .dl-good")
    (kept,) = (folder / "my-recipes" / "votes.jsonl").read_text().splitlines()
    assert json.loads(kept)["prompt"] == "Are bats blind?"
    assert "model.adapter=runs/two.b/adapter" in page.locator("#compare-exported").inner_text()
    page.click("#compare-export")
    page.wait_for_function(
        "document.querySelector('#compare-exported').innerText.includes('exists')"
    )
    page.fill("#compare-file input, #compare-file textarea", "../votes.jsonl")
    page.click("#compare-export")
    page.wait_for_function(
        "document.querySelector('#compare-exported').innerText.includes('plain file name')"
    )
    page.fill("#compare-file input, #compare-file textarea", "more.jsonl")
    page.click("#compare-export")
    says(page, "#compare-exported", "more.jsonl")
    page.click("#compare-open-recipes")
    for told in ("more.jsonl", "run.name=two.b-votes-1", "model.adapter=runs/two.b/adapter"):
        says(page, "#recipes-command", told)
    says(page, "#recipes-command", "reference=start")


def test_a_round_of_votes_by_key(page, folder):
    votes = folder / "runs" / "votes.jsonl"
    before = len(votes.read_text().splitlines()) if votes.exists() else 0
    choose(page, "one")
    page.click("#compare-mode label:has-text('round')")
    page.click("#round-source label:has-text('lines')")
    page.fill("#round-lines textarea", "Are bats blind?\nDo fish sleep?")
    page.click("#round-start")
    for number, key in enumerate(["ArrowLeft", "ArrowUp"]):
        page.wait_for_selector(f".dl-arena[data-pair='{number}'] button[data-verdict]")
        assert page.locator(".dl-arena header").all_inner_texts() == ["Left", "Right"]
        if number == 0:
            page.locator("#compare-rates").click()  # away from the fields
        page.keyboard.press(key)
    page.wait_for_function(
        "document.querySelector('#round-arena').innerText.includes('The round is over')"
    )
    says(page, "#round-progress", "2 voted")
    kept = [json.loads(line) for line in votes.read_text().splitlines()[before:]]
    assert [vote["verdict"] for vote in kept] == ["A", "tie"]
    assert {vote["prompt"] for vote in kept} == {"Are bats blind?", "Do fish sleep?"}
    says(page, "#round-progress", "interval")


def test_thumbs_and_one_preference_on_open_answers(page, folder):
    votes = folder / "runs" / "votes.jsonl"
    before = len(votes.read_text().splitlines()) if votes.exists() else 0
    choose(page, "one")
    generate(page)
    page.click(".dl-say[data-said=good][data-letter=B]")
    page.wait_for_selector(".dl-say[data-said=good][aria-pressed=true]")
    page.click(".dl-say[data-said=best][data-letter=A]")
    page.wait_for_selector(".dl-answer.dl-won[data-place=A]")
    thumb, pair = (json.loads(line) for line in votes.read_text().splitlines()[before:])
    assert ([c["label"] for c in thumb["columns"]], thumb["verdict"]) == (["one"], "A")
    assert (len(pair["columns"]), pair["verdict"], pair["blind"]) == (2, "A", False)


def test_a_conversation_goes_on_from_the_preferred_answer(page, folder):
    choose(page, "one")
    page.click("#compare-mode label:has-text('Chat')")
    page.fill("#chat-user textarea", "Are bats blind?")
    page.click("#chat-send")
    page.click("#chat-shown button[data-do=best][data-place='1']")
    page.wait_for_selector("#chat-shown .dl-won")
    (_, preferred) = page.locator("#chat-shown .dl-said").all_inner_texts()
    page.fill("#chat-user textarea", "Do fish sleep?")
    page.click("#chat-send:not([disabled])")
    page.click("#chat-shown button[data-turn='1'][data-do=good][data-place='0']")
    page.wait_for_selector("#chat-shown button[data-turn='1'][aria-pressed=true]")
    votes = (folder / "runs" / "votes.jsonl").read_text().splitlines()
    pair, thumb = (json.loads(line) for line in votes[-2:])
    assert pair["prompt"] == [{"role": "user", "content": "Are bats blind?"}]
    assert [turn["role"] for turn in thumb["prompt"]] == ["user", "assistant", "user"]
    assert thumb["prompt"][1]["content"].split() == preferred.split()


def test_free_ends_what_is_loaded(page):
    generate(page)
    page.click("#compare-free")
    page.wait_for_function(
        "document.querySelector('#compare-loaded').innerText.includes('nothing')"
    )
