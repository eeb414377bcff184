"""The one exception that a user is meant to read, and faults of disks and cards in words."""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something that the user can put right.

    The message is one sentence that says what is wrong, where (file, row, key), and what to do.
    The command line prints it alone, and so does a notebook; a traceback appears only with
    ``--debug`` (``DPO_LITE_DEBUG=1``).
    """

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython shows in place of a traceback."""
        whole = os.environ.get("DPO_LITE_DEBUG")
        return traceback.format_exception(self) if whole else [f"UserError: {self}"]


FULL = "make room there and do it again; a run goes on with `dpo-lite train --resume`"
HINTS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: "that disk takes no file so large; choose a folder on another one",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.EACCES: "choose a folder that is yours, or have its rights changed",
    errno.EPERM: "choose a folder that is yours, or have its rights changed",
    errno.EISDIR: "a folder has the name of a file there; move it away",
    errno.ENOTDIR: "a part of that path is a file; choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "the disk does not answer as it should; choose a folder on another one",
}
WITHIN = re.compile(r"\(os error (\d+)\)")  # as programs in Rust tell it, safetensors among them
TORCH = "inline_container.cc"  # of torch.save, which says no more


def disk_fault(error: BaseException | None) -> str | None:
    """One sentence where a full disk or a missing right is what failed, else None.

    Looks through what the error was raised from: libraries wrap the system's own.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in HINTS:
            return _words(error.errno, error.filename2 or error.filename)
        number = WITHIN.search(str(error))
        if number and int(number[1]) in HINTS:
            return _words(int(number[1]))
        if TORCH in str(error):
            return f"A file could not be written whole: {FULL}."
        error = error.__cause__ or error.__context__
    return None


def _words(number: int, path: object = None) -> str:
    where = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else "A file"
    return f"{where} cannot be written or read ({os.strerror(number)}): {HINTS[number]}."


# What is said where a card's memory runs out past PyTorch's allocator: in CUDA itself (page-locked
# memory, graphs), in Triton, and in cuBLAS, which makes its handle at the first product.
PAST_THE_ALLOCATOR = re.compile(
    r"(CUDA|HIP) error: out of memory|Triton Error \[\w+\]: out of memory"
    r"|BLAS\w*_STATUS_(ALLOC_FAILED|NOT_INITIALIZED when calling \W?\w+Create)"
)


def memory_ran_out(error: BaseException) -> bool:
    """Whether it was a card's; by names and words, so that who asks need not import torch."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and PAST_THE_ALLOCATOR.search(str(error)) is not None


def out_of_memory(error: BaseException) -> str | None:
    """A GPU's memory that ran out where nothing could be given up, in a sentence; else None."""
    if not memory_ran_out(error):
        return None
    return (
        "The GPU's memory ran out; free the card of other programs, or take a smaller base or "
        "shorter texts (data.max_length)."
    )


def in_words(error: BaseException) -> str | None:
    """One sentence of what a user, a disk or a card has caused; None: a fault of the program."""
    if isinstance(error, UserError):
        return str(error)
    return disk_fault(error) or out_of_memory(error)


@contextmanager
def disk_faults_told() -> Iterator[None]:
    """Raises UserError in place of a disk's fault; also a decorator."""
    try:
        yield
    except OSError as error:
        words = disk_fault(error)
        if words is None:
            raise
        raise UserError(words) from error
