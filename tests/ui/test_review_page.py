"""The audit of labels in headless Chromium: decided by keys, after a reload where it was, saved."""

import json

import pytest

from dpo_lite.recipe import parse_yaml
from tests.data.test_audit import flipped, made, polite
from tests.ui.pages import says, settled

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long]
FILE = "my-recipes/data/mine.jsonl"


def test_doubtful_labels_are_decided_by_keys_and_saved(visit, address, folder):
    pairs, wrong = flipped(made(400, polite), 0.05, seed=2)
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    (folder / FILE).parent.mkdir(parents=True)
    (folder / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))

    page = visit(address)
    says(page, "#recipes-command", "dpo-lite train quickstart")
    page.locator("#recipes-start-data input").fill(FILE)
    page.keyboard.press("Enter")
    says(page, "#recipes-command", f"data.train={FILE}")
    page.click("#recipes-audit")  # there as soon as pairs are seen
    says(page, "#data-command", f"dpo-lite data {FILE} --audit")
    says(page, "#audit-report", "What the labels follow from")
    says(page, "#audit-progress", "0 of 15 looked at")
    for key, words in (
        ("k", "1 kept"),
        ("d", "1 kept, 1 dropped"),
        ("f", "1 dropped, 1 turned round"),
        ("u", "2 of 15 looked at: 1 kept, 1 dropped"),
        ("f", "3 of 15 looked at"),
    ):
        page.locator("body").press(key)
        says(page, "#audit-progress", words)

    page.reload()
    settled(page)
    page.get_by_role("tab", name="Data").click()
    says(page, "#audit-progress", "3 of 15 looked at: 1 kept, 1 dropped, 1 turned round")
    says(page, "#audit-arena", "4 of 15")
    page.locator("#data-keys input, #data-keys textarea").first.press("d")  # somebody types
    page.get_by_role("button", name="Drop the pair").click()
    says(page, "#audit-progress", "4 of 15 looked at: 1 kept, 2 dropped")

    page.click("#audit-save")
    says(page, "#audit-saved", "398 of 400 rows")
    says(page, "#audit-saved", "--decisions my-recipes/reviews/mine-")
    new = FILE.replace("mine", "mine-reviewed-1")
    facts = json.loads((folder / f"{new}.json").read_text())
    assert facts["parent"] == FILE
    assert set(facts["dropped_rows"] + facts["flipped_rows"] + facts["kept_rows"]) <= wrong
    page.click("#audit-use")
    says(page, "#recipes-command", f"data.train={new}")
    yaml = page.locator("#recipes-yaml .cm-content").inner_text()
    assert parse_yaml(yaml, "")["data"]["train"] == new
