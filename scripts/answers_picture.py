"""Answers of a real model before and after as a picture, in the cards of the page's Compare tab.

    python -m scripts.answers_picture    # docs/real-answers.png, of benchmarks/real_answers.json

The first ``OF_ASKED`` of the prompts that should be declined and the first ``OF_HARMLESS`` of those
that should not, in the order in which they were written down before the training. Needs Chromium
(``python -m playwright install chromium``, or ``CHROMIUM=/usr/bin/chromium``).
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks import real_answers
from dpo_lite.ui.compare_views import answer_cards
from dpo_lite.ui.parts import esc

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "real-answers.png"
OF_ASKED, OF_HARMLESS = 3, 1
WIDTH, SCALE, COLOURS = 860, 1.5, 24  # a README's column is 830 to 1,012 pixels wide
OWN_STYLE = """
body { margin: 0; padding: 16px 18px 18px; background: var(--dl-ground); color: var(--dl-ink);
  font: 15px/1.5 "DejaVu Sans", sans-serif; }
h2 { font-size: 15px; font-weight: 650; margin: 13px 2px 5px; }
h2:first-child { margin-top: 0; }
.dl-answer { min-height: 0; padding: 6px 13px 9px; }
.dl-answer header { color: var(--dl-muted); font-size: 12.5px; margin: 0; }
.dl-said { font-size: 14px; line-height: 1.45; }
"""


def page(found: dict[str, Any]) -> str:
    """Each prompt over its two answers; one that was cut at its limit ends in an ellipsis."""
    answers = found["alone"]["answers"]
    parts = []
    for record in answers["asked"][:OF_ASKED] + answers["harmless"][:OF_HARMLESS]:
        columns = [
            {
                "label": label,
                "text": record[who]["text"] + ("" if record[who]["ended"] else " …"),
            }
            for who, label in (("reference", "before"), ("policy", "after"))
        ]
        parts.append(f"<h2>{esc(record['prompt'])}</h2>{answer_cards(columns)}")
    style = (ROOT / "dpo_lite" / "ui" / "style.css").read_text("utf-8")
    return f'<!doctype html><meta charset="utf-8"><style>{style}{OWN_STYLE}</style>{"".join(parts)}'


def main() -> None:
    found = json.loads(real_answers.RESULTS.read_text("utf-8"))
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=os.environ.get("CHROMIUM"), args=["--no-sandbox"]
        )
        window = browser.new_page(
            viewport={"width": WIDTH, "height": 100}, device_scale_factor=SCALE
        )
        window.set_content(page(found))
        drawn = window.screenshot(full_page=True)
        browser.close()
    image = Image.open(io.BytesIO(drawn)).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes, {image.size}")


if __name__ == "__main__":
    main()
