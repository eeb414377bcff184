"""From which checkpoint a run goes on: with a list of its files, and of older versions without."""

import pytest
import torch
from safetensors.torch import save_file

from dpo_lite.errors import UserError
from dpo_lite.files import write_json
from dpo_lite.model.tensor_files import load_tensors
from dpo_lite.runs import whole
from dpo_lite.training.checkpoints import checkpoint_written, fault, newest_whole, step_of

WEIGHTS = "adapter_model.safetensors"
NEEDED = (WEIGHTS, "optimizer.pt", "trainer_state.json")


def made(folder, *steps, listed=True):
    for step in steps:
        path = folder / f"checkpoint-{step}"
        with checkpoint_written(path):
            save_file({"a": torch.ones(50)}, path / WEIGHTS)
            torch.save({"state": torch.ones(50)}, path / "optimizer.pt")
            write_json(path / "trainer_state.json", {"global_step": step})
        if not listed:
            (path / whole.LIST).unlink()
    return folder


def cut(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize("listed", [True, False], ids=["with a list", "of an older version"])
@pytest.mark.parametrize("how", [cut, lambda content: b"", None], ids=["cut", "empty", "missing"])
@pytest.mark.parametrize("file", NEEDED)
def test_what_is_not_whole_is_passed_over_with_a_word(tmp_path, file, how, listed):
    made(tmp_path, 2, 4, 10, listed=listed)
    path = tmp_path / "checkpoint-10" / file
    content = path.read_bytes()
    path.unlink()
    if how:
        path.write_bytes(how(content))
    said = []
    assert newest_whole(tmp_path, NEEDED, said.append).name == "checkpoint-4"
    assert len(said) == 1
    assert said[0].startswith(f"checkpoint-10 is passed over: {file}")
    assert said[0].endswith("; going on from checkpoint-4")


def test_a_changed_bit_is_found(tmp_path):
    """By the hash in the list; without one, in what torch saved, by the archive's own sums."""
    for name, listed, file in (("a", True, WEIGHTS), ("b", False, "optimizer.pt")):
        made(tmp_path / name, 2, listed=listed)
        path = tmp_path / name / "checkpoint-2" / file
        at = path.read_bytes().index(torch.ones(50).numpy().tobytes()) + 8
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)
        assert fault(path.parent, NEEDED) is not None


def test_without_a_whole_one_it_begins_anew_and_says_so(tmp_path):
    assert newest_whole(tmp_path, NEEDED) is None
    made(tmp_path, 2, 4)
    for path in tmp_path.glob("*/optimizer.pt"):
        path.unlink()
    said = []
    assert newest_whole(tmp_path, NEEDED, said.append) is None
    assert said == [
        f"checkpoint-{n} is passed over: optimizer.pt is missing; no whole checkpoint is left"
        for n in (4, 2)
    ]


def test_a_list_does_not_stand_in_for_a_file_that_is_needed(tmp_path):
    made(tmp_path, 2)
    assert fault(tmp_path / "checkpoint-2", NEEDED) is None
    assert fault(tmp_path / "checkpoint-2", [*NEEDED, "value.safetensors"]) == (
        "value.safetensors is missing"
    )
    assert step_of(tmp_path / "checkpoint-2") == 2
    assert step_of(None) == 0


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_adapter_that_went_astray_is_one_sentence(tmp_path, value):
    save_file({"a": torch.ones(3), "b": torch.tensor([1.0, value])}, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match=r"holds NaN or infinity \(in b\): .*; take an earlier"):
        load_tensors(tmp_path / WEIGHTS)
