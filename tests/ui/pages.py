"""What tests do and see on the page's Recipes tab."""

import contextlib

import pytest


def settled(page):
    """Wait until Gradio has drawn all and listens; what is typed before that is lost to it."""
    page.wait_for_selector("body[data-settled]", state="attached")


def says(page, where, text):
    """Wait until an element shows a text."""
    page.wait_for_function(
        "([where, text]) => document.querySelector(where)?.innerText.includes(text)",
        arg=[where, text],
    )


def holds(page, where, value):
    """Wait until a field holds a text."""
    page.wait_for_function(
        "([where, value]) => document.querySelector(where)?.value === value", arg=[where, value]
    )


def field_holds(page, key, value):
    holds(page, f"#recipes-{key.replace('.', '-')} [data-testid=textbox]", value)


@contextlib.contextmanager
def held_answers(page):
    """The server's answers to a page that is opened anew come when the block ends."""
    held, holding = [], True

    def answer(route):
        if holding:
            held.append(route)
        else:
            route.continue_()

    page.route("**/queue/data**", answer)
    yield
    holding = False
    for route in held:
        route.continue_()


def field(page, key):
    return page.locator(f"#recipes-{key.replace('.', '-')} [data-testid=textbox]")


def put(page, key, value):
    """Type into a field as a person does: who sees that it did not take types it again.

    A field that has just been unfolded is deaf for a moment, and the answer to one change fills in
    the whole form anew.
    """
    from playwright.sync_api import TimeoutError

    if not field(page, key).is_visible():
        page.locator("#recipes-more button").first.click()
    for patience in (2_000, 5_000, 10_000, 30_000):  # a busy machine takes its time
        field(page, key).fill("")
        field(page, key).fill(value)
        try:
            page.wait_for_function(
                "words => document.querySelector('#recipes-command').innerText.includes(words)",
                arg=f"{key}={value}",
                timeout=patience,
            )
        except TimeoutError:
            continue
        return
    pytest.fail(f"{key} is not taken")
