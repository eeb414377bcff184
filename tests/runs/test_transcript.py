"""What was printed stands in the log once, plain, also from before there was a run."""

import io
import subprocess
import sys

from dpo_lite.runs.transcript import Transcript, keep_in


def test_lines_from_before_and_after(tmp_path):
    shown = io.StringIO()
    console = Transcript(file=shown, force_terminal=True)
    console.print("[red]before[/]")
    keep_in(console, tmp_path / "log.txt")
    with console.status("a spinner"):
        console.print("after [b]", markup=False)
    assert (tmp_path / "log.txt").read_text() == "before\nafter [b]\n"
    assert "\x1b[31mbefore" in shown.getvalue()


def test_a_process_that_prints_into_the_log_does_so_once(tmp_path):
    log = tmp_path / "log.txt"
    code = (
        "import sys; from pathlib import Path\n"
        "from dpo_lite.runs.transcript import Transcript\n"
        "console = Transcript(); console.print('one'); console.keep_in(Path(sys.argv[1]))\n"
        "console.print('two')"
    )
    with open(log, "ab") as stream:
        subprocess.run([sys.executable, "-c", code, str(log)], stdout=stream, check=True)
    assert log.read_text() == "one\ntwo\n"
