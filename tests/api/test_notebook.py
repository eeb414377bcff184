"""The notebook that ships: it is whole, and runs from top to bottom where there is no terminal."""

import ast
import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
CELLS = [
    "".join(cell["source"])
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    if cell["cell_type"] == "code"
]


def test_it_is_python_as_it_stands_and_the_installation_is_commented():
    for cell in CELLS:
        ast.parse(cell)
    assert "# %pip install" in CELLS[0]


def test_no_outputs_are_kept_in_it():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.long  # half a minute: it trains twice
def test_it_runs_and_shows_what_came_of_it(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="pip install nbclient ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="pip install nbclient ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, 4)
    client = nbclient.NotebookClient(
        notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "\x1b" not in printed  # neither colours nor spinners
    assert "training    24 of 24" in printed
    assert not any(output.output_type == "display_data" for output in outputs)
    shown = [output["data"] for output in outputs if "data" in output]
    pages = [data["text/html"] for data in shown if "text/html" in data]
    run = next(page for page in pages if "quickstart-1" in page)
    assert "data:image/png;base64," in run
    assert "chosen claim, generated" in run
    answers = next(page for page in pages if "goldfish" in page and page != run)
    assert "reference (" in answers
    assert "quickstart-1 (" in answers
    assert "bats can see" in outputs[-2].data["text/plain"]
    assert (tmp_path / "runs" / "quickstart-1" / "adapter" / "adapter_config.json").is_file()
