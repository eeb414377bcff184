"""A full disk and a missing right are one sentence, however deep the library that met them."""

import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from dpo_lite.errors import UserError, disk_fault, disk_faults_told, in_words


def caught(work):
    with pytest.raises((OSError, RuntimeError)) as found:
        work()
    return found.value


def test_the_file_what_is_wrong_and_what_to_do():
    error = OSError(errno.EROFS, "Read-only file system", "runs/a/recipe.yaml")
    assert disk_fault(error) == (
        "runs/a/recipe.yaml cannot be written or read (Read-only file system): choose a folder on "
        "a disk that can be written."
    )
    assert disk_fault(PermissionError(errno.EACCES, "", b"a")).startswith("a cannot be written")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_disk_that_is_full():
    assert "(No space left on device): make room" in disk_fault(
        caught(lambda: Path("/dev/full").write_text("a"))
    )
    tensors = {"a": torch.zeros(1 << 16)}
    assert "make room" in disk_fault(caught(lambda: torch.save(tensors, "/dev/full")))


def test_as_libraries_tell_it():
    rust = SafetensorError("Error while serializing: I/O error: No space left (os error 28)")
    assert "make room" in disk_fault(rust)

    def wrapped():
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError as error:
            raise RuntimeError("could not save") from error

    assert disk_fault(caught(wrapped)).startswith("A file cannot be written or read")


@pytest.mark.parametrize(
    "error",
    [
        None,
        ValueError("no"),
        FileNotFoundError(errno.ENOENT, "", "a"),
        ConnectionRefusedError(errno.ECONNREFUSED, "no"),
    ],
)
def test_other_faults_are_not_the_disks(error):
    assert disk_fault(error) is None


def test_what_is_told_in_place_of_it(tmp_path):
    file = tmp_path / "file"
    file.write_text("")

    @disk_faults_told()
    def write(path):
        path.mkdir()
        return "made"

    assert write(tmp_path / "folder") == "made"
    for _ in range(2):
        with pytest.raises(UserError, match="a part of that path is a file"):
            write(file / "folder")
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "a" / "b")


CREATING = "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"


@pytest.mark.parametrize(
    ("error", "ran_out"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (RuntimeError(CREATING), True),
        (RuntimeError(CREATING.replace("cublasCreate", "cublasSgemm")), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_memory_of_a_card_that_ran_out_wherever_it_did(error, ran_out):
    assert (in_words(error) is not None) == ran_out
