"""What the page owes to whoever sees little, or works it by keyboard: contrasts, names, reach.

The contrasts of our own colours are reckoned here without a browser. The rest is what axe-core
finds on each tab, in light, in dark and on a phone, with something in the tab to look at.
"""

import re
from pathlib import Path

import pytest

from dpo_lite.ui import server
from tests.ui.pages import says, settled

STYLE = (Path(server.__file__).parent / "style.css").read_text(encoding="utf-8")
TEXTS = ("ink", "muted", "accent", "good", "warn", "bad", "info")
GROUNDS = ("card", "ground", "hover")


def colours(mode):
    """Our colours by name, as the style sheet lists them for ``light`` or ``dark``."""
    light, dark = re.findall(r"^[:.][^{]*\{([^}]*--dl-ink: #[^}]*)\}", STYLE, re.M)
    return dict(re.findall(r"--dl-([\w-]+): (#\w{6})", dark if mode == "dark" else light))


def contrast(one, other):
    """WCAG 2.1's contrast ratio of two colours in hex, by their relative luminances."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_ratio_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_words_stand_out_by_4_5_and_edges_by_3(mode):
    ours = colours(mode)
    pairs = [(text, ground) for text in TEXTS for ground in GROUNDS if text != "accent"]
    pairs += [(kind, f"{kind}-soft") for kind in ("good", "warn", "bad", "info")]
    pairs += [("ink", f"{kind}-soft") for kind in ("good", "warn", "bad", "info", "accent")]
    pairs += [("accent", "card"), ("accent", "ground"), ("muted", "accent-soft")]
    faint = {p: round(contrast(ours[p[0]], ours[p[1]]), 2) for p in pairs}
    assert {pair: ratio for pair, ratio in faint.items() if ratio < 4.5} == {}
    edges = {g: round(contrast(ours["edge"], ours[g]), 2) for g in ("card", "ground")}
    assert {ground: ratio for ground, ratio in edges.items() if ratio < 3} == {}


@pytest.mark.parametrize("mode", ["", "_dark"])
def test_buttons_and_links_of_the_theme_stand_out(mode):
    theme, ours = server.theme(), colours("dark" if mode else "light")
    words = getattr(theme, f"button_primary_text_color{mode}")
    for fill in ("button_primary_background_fill", "button_primary_background_fill_hover"):
        assert contrast(words, getattr(theme, f"{fill}{mode}")) >= 4.5
    for text in ("link_text_color", "body_text_color_subdued", "input_placeholder_color"):
        for ground in ("card", "ground"):
            assert contrast(getattr(theme, f"{text}{mode}"), ours[ground]) >= 4.5


# --- in a browser ---------------------------------------------------------------------------------

LOOKS = {"light": ("light", 1280), "dark": ("dark", 1280), "narrow": ("light", 390)}
SCAN = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations.flatMap(
  rule => rule.nodes.map(node => [rule.id, node.target.join(" "), node.failureSummary]))"""
# What only Gradio can mend, as (rule, a part of the selector) with the reason. There is none now.
GRADIOS = {}
SHIFTED = """() => new Promise(done => {
  let sum = 0;
  new PerformanceObserver(list => {
    for (const one of list.getEntries()) if (!one.hadRecentInput) sum += one.value;
  }).observe({type: "layout-shift", buffered: true});
  setTimeout(() => done(sum), 300);
})"""


@pytest.fixture(scope="module")
def axe():
    package = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tests.compare.test_lockstep import make_run

    folder = tmp_path_factory.mktemp("page")
    run = make_run(folder / "runs", "one", 0)
    for step in range(1, 9):
        run.append("metrics.jsonl", {"step": step, "loss": 0.7 - step / 50, "rewards/margins": 1})
    return folder


@pytest.fixture
def page(chromium, address):
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{address}/?runs=one")
    settled(page)
    page.wait_for_selector("#recipes-cards [aria-pressed=true]")
    yield page
    context.close()


def faults(page, axe, where):
    """What axe finds in all three looks, less what is Gradio's."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(axe)
    found = []
    for look, (scheme, width) in LOOKS.items():
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", scheme == "dark")
        page.wait_for_timeout(700)  # colours change over, and reach.js looks again
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            found.append((where, look, "wider than the screen", wide))
        for rule, target, why in page.evaluate(SCAN):
            if not any(rule == r and part in target for r, part in GRADIOS):
                found.append((where, look, rule, target, why))
    page.evaluate("document.body.classList.remove('dark')")
    page.set_viewport_size({"width": 1280, "height": 900})
    return found


def show(page, tab):
    page.get_by_role("tab", name=tab).click()
    page.wait_for_selector(f"#tab-{tab.lower()}", state="visible")


# Fifteen looks at a page of many hundred elements, and answers of a model, take minutes.
@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.long
def test_axe_finds_nothing_on_any_tab(page, axe):
    page.click("#recipes-check")
    says(page, "#recipes-outcome", "Ready to launch")
    page.click("#recipes-more .label-wrap")
    found = faults(page, axe, "recipes")
    show(page, "Data")
    page.click("#data-examine")
    page.wait_for_selector("#data-example .dl-responses")
    found += faults(page, axe, "data")
    show(page, "Runs")
    page.wait_for_selector("#runs-curves polyline")
    for fold in ("runs-help", "runs-log-fold", "runs-manage"):
        page.click(f"#{fold} .label-wrap")
    page.click("#runs-delete")
    page.wait_for_selector("#runs-delete-no")
    found += faults(page, axe, "runs")
    page.keyboard.press("Escape")  # it is not deleted
    page.wait_for_selector("#runs-delete-no", state="hidden")
    show(page, "Compare")
    page.wait_for_function("document.querySelector('#compare-prompt textarea')?.value")
    page.click("#compare-generate")
    page.wait_for_selector("#compare-answers .dl-say")
    found += faults(page, axe, "compare")
    page.click("#compare-mode label:has-text('round')")
    page.click("#round-source label:has-text('lines')")
    page.fill("#round-lines textarea", "Are bats blind?")
    page.click("#round-start")
    page.wait_for_selector(".dl-arena button[data-verdict]")
    found += faults(page, axe, "round")
    page.click("#compare-mode label:has-text('Chat')")
    page.fill("#chat-user textarea", "Are bats blind?")
    page.click("#chat-send")
    page.wait_for_selector("#chat-shown button[data-do=best]")
    found += faults(page, axe, "chat")
    show(page, "Publish")
    page.click("#publish-preview")
    page.wait_for_selector("#publish-outcome .dl-note")
    found += faults(page, axe, "publish")
    assert found == []


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.long
def test_the_keyboard_reaches_all_and_nothing_moves(page):
    page.wait_for_timeout(4_000)  # two looks of the page's pulse
    assert page.evaluate(SHIFTED) < 0.1
    page.locator("#recipes-yaml .cm-content").focus()
    page.keyboard.press("Tab")  # leaves the editor
    assert page.evaluate("document.activeElement.closest('#recipes-save-name') !== null")
    page.locator("button[role=tab]").first.focus()
    seen, lost = set(), []
    for _ in range(40):
        page.keyboard.press("Tab")
        what, line = page.evaluate(
            "[document.activeElement.dataset.recipe || document.activeElement.closest('[id]')?.id,"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        seen.add(what)
        if what and line == "none":  # the body itself is no stop
            lost.append(what)
    assert {"recipes-start-model", "recipes-check", "recipes-launch", "shipped:quickstart"} <= seen
    assert lost == []  # whoever walks by keyboard sees where they are
