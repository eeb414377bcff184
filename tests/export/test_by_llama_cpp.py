"""The user's own llama.cpp: which programs are run on what, and what is said where one fails.

In place of llama.cpp stand two scripts that write what they were asked into the file.
"""

import sys

import pytest

from dpo_lite.errors import UserError
from dpo_lite.export import by_llama_cpp
from dpo_lite.export.to_gguf import export_gguf
from tests.cats import write_cats
from tests.export.test_strength import untrained_run

CONVERT = """import pathlib, sys
folder, out, kind = sys.argv[1], sys.argv[3], sys.argv[5]
assert (pathlib.Path(folder) / "config.json").is_file()
print("INFO: converting", kind)
pathlib.Path(out).write_text("converted to " + kind)
"""
QUANTISE = """import pathlib, sys
source, out, kind = sys.argv[1:]
if kind == "IQ9_X":
    print("main: invalid ftype 'IQ9_X'")
    sys.exit(1)
pathlib.Path(out).write_text(pathlib.Path(source).read_text() + ", then " + kind)
"""


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "llama.cpp"
    (place / "build" / "bin").mkdir(parents=True)
    (place / "convert_hf_to_gguf.py").write_text(CONVERT)
    quantiser = place / "build" / "bin" / "llama-quantize"
    quantiser.write_text(f"#!{sys.executable}\n{QUANTISE}")
    quantiser.chmod(0o755)
    return place


def test_what_is_missing_is_told_before_anything_is_written(folder, monkeypatch):
    with pytest.raises(UserError, match=r"no convert_hf_to_gguf.py in it"):
        by_llama_cpp.find(folder / "build", ["f16"])
    with pytest.raises(UserError, match="letters, digits"):
        by_llama_cpp.find(folder, ["../x"])
    assert by_llama_cpp.find(folder, ["q3_k_s"]).quantiser.parent.name == "bin"
    (folder / "build" / "bin" / "llama-quantize").unlink()
    monkeypatch.setenv("PATH", str(folder))
    assert by_llama_cpp.find(folder, ["q8_0"]).quantiser is None
    with pytest.raises(UserError, match=r"q3_k_s needs llama\.cpp's llama-quantize"):
        by_llama_cpp.find(folder, ["q8_0", "q3_k_s"])


@pytest.mark.skipif(sys.platform == "win32", reason="a script is no program there")
def test_a_run_by_the_users_own_programs(tiny_base, tmp_path, folder):
    write_cats(tmp_path, train=range(4), test=range(4, 10))
    run = untrained_run(
        tmp_path / "runs" / "a", tiny_base, data={"train": str(tmp_path / "train.jsonl")}
    )
    out = tmp_path / "out"
    done = export_gguf(run, out, "q8_0,q3_k_s", measure=False, llama_cpp=folder)
    assert [file.read_text() for file in done.files] == [
        "converted to q8_0",
        "converted to f16, then Q3_K_S",
    ]
    assert sorted(path.name for path in out.iterdir()) == [
        *("Modelfile", "a-Q3_K_S.gguf", "a-Q8_0.gguf", "llama.cpp.log")
    ]
    log = (out / "llama.cpp.log").read_text()
    assert "INFO: converting q8_0" in log
    assert "--outtype f16" in log
    with pytest.raises(UserError, match=r"llama-quantize failed: main: invalid ftype 'IQ9_X'"):
        export_gguf(run, tmp_path / "other", "iq9_x", measure=False, llama_cpp=folder)
    assert [path.name for path in tmp_path.glob("*other*")] == ["other.llama.cpp.log"]
    assert "invalid ftype" in (tmp_path / "other.llama.cpp.log").read_text()
