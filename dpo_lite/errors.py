"""The one exception that a user is meant to read, and another's that is a fact of the machine."""


class UserError(Exception):
    """Something that the user can put right.

    The message is one sentence that says what is wrong, where (file, row, key), and what to do.
    The command line prints it alone; a traceback appears only with ``--debug``.
    """


def out_of_memory(error: BaseException) -> str | None:
    """A GPU's memory that ran out where nothing could be given up, in a sentence; else None.

    By its name, so that who asks need not import torch.
    """
    if type(error).__name__ != "OutOfMemoryError":
        return None
    return (
        "The GPU's memory ran out; free the card of other programs, or take a smaller base or "
        "shorter texts (data.max_length)."
    )
