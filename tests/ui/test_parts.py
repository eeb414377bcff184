"""Fragments of the page: what is given in comes out as text, never as markup."""

import re

import pytest

from dpo_lite.ui import parts

EVIL = "<img src=x onerror=\"alert('1')\">"


@pytest.mark.parametrize(
    "made",
    [
        parts.esc(EVIL),
        parts.command(EVIL),
        parts.command(["dpo-lite", EVIL]),
        parts.badge(EVIL),
        parts.note(EVIL, "bad"),
        parts.empty(EVIL, EVIL),
        parts.table([EVIL], [[EVIL]]),
        parts.bar({EVIL: 1.0}, 2.0, EVIL),
    ],
)
def test_no_markup_gets_through(made):
    assert "<img" not in made
    assert "&lt;img" in made
    inside_of_tags = re.findall(r"<[^>]*>", made)
    assert all('onerror="' not in tag for tag in inside_of_tags)


def test_a_command_is_shown_and_copied_as_the_shell_needs_it():
    made = parts.command(["dpo-lite", "train", "my recipe.yaml"])
    assert made.count("dpo-lite train &#x27;my recipe.yaml&#x27;") == 2


def test_a_bar_in_its_whole_and_over_it():
    fits = parts.bar({"weights": 2.0, "head": 1.0}, 6.0)
    assert [float(w) for w in re.findall(r"width:([\d.]+)%", fits)] == pytest.approx([33.33, 16.67])
    assert "3.0 of 6.0 GiB" in fits
    assert "dl-over" not in fits
    over = parts.bar({"weights": 8.0}, 6.0)
    assert "dl-over" in over
    assert "left:75.00%" in over  # where the whole ends


def test_a_bar_without_a_whole_is_its_parts():
    alone = parts.bar({"weights": 2.0, "head": 1.0}, None)
    assert "3.0 GiB in all" in alone
    assert "width:66.67%" in alone
    assert "<b " not in alone


def test_an_unknown_kind_is_a_fault_of_ours():
    with pytest.raises(ValueError, match="kind is one of"):
        parts.badge("x", "purple")


def test_what_stands_between_backticks_is_code():
    html = parts.note("Run `hf auth login` or <b>; a ` alone stays.", "warn")
    assert "Run <code>hf auth login</code> or &lt;b&gt;; a ` alone stays." in html
    assert "<code>&lt;i&gt;</code>" in parts.empty("Nothing", "`<i>`")


def test_half_a_letter_is_a_question_mark():
    """A server's answer is UTF-8, which has no half of a surrogate pair; JSON can spell one."""
    assert parts.esc("a\ud800<é") == "a?&lt;é"
