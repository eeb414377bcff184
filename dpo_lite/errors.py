"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something that the user can put right.

    The message is one sentence that says what is wrong, where (file, row, key), and what to do.
    The command line prints it alone; a traceback appears only with ``--debug``.
    """
