"""How many drawn pairs wait for a vote, with one of them open."""

import json
from types import SimpleNamespace

from dpo_lite.compare.ballots import ENDING
from dpo_lite.runs.folder import create_run
from dpo_lite.ui.compare_drawn import button_of, waiting_for
from dpo_lite.ui.compare_layout import NO_ANSWERS


def test_the_pair_that_is_open_does_not_wait(tmp_path):
    create_run(tmp_path, "one", "one").recipe_file.write_text("task: dpo\n")
    lines = [
        {"policy": "one", "prompt": p, "conversation": [], "answers": [f"{p} a", f"{p} b"]}
        for p in ("first", "second")
    ]
    (tmp_path / f"r{ENDING}").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = SimpleNamespace(runs=tmp_path)
    assert [p.prompt for p in waiting_for(page, "one", NO_ANSWERS)] == ["first", "second"]
    columns = [{"text": "first b"}, {"text": "first a"}]  # as they are shown, in any order
    opened = NO_ANSWERS | {"prompt": "first", "columns": columns}
    left = waiting_for(page, "one", opened)
    assert [p.prompt for p in left] == ["second"]
    assert button_of(left).value == "Next drawn pair (1 wait)"
    assert waiting_for(page, None, opened) == []
