"""Memory that runs out: in PyTorch's allocator, and past it."""

import pytest
import torch

from dpo_lite.errors import UserError
from dpo_lite.model.device_memory import told, until_it_fits

CUBLAS = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"


def running_out(error):
    """Work for which there is room once something was given up, what raised until then, and what
    was given up."""
    errors = []

    def work():
        if not errors:
            raise error
        return "done"

    return work, errors


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(CUBLAS)]
)
def test_work_is_done_again_wherever_memory_ran_out(error):
    work, errors = running_out(error)
    assert until_it_fits(work, errors.append) == "done"
    (found,) = errors
    assert isinstance(found, torch.OutOfMemoryError)
    assert str(found) == str(error)


def test_another_fault_is_not_taken_for_it():
    work, errors = running_out(RuntimeError("CUDA error: device-side assert triggered"))
    with pytest.raises(RuntimeError, match="device-side assert"):
        until_it_fits(work, errors.append)
    assert errors == []


def test_where_nothing_can_be_given_up_it_is_a_sentence():
    sentence = "no room in the memory of the GPU for a test; go away"
    with pytest.raises(UserError, match=sentence), told("a test", "go away"):
        raise RuntimeError(CUBLAS)
