"""The errors that a user can cause, and can mend."""


class ParityError(Exception):
    """Unusable input: one line that says what was expected, what was received and what to do.

    The command line prints it without a traceback and ends with ``exit_status``.
    """

    exit_status = 2


class NotRunError(ParityError):
    """Something that was asked for did not run, and without it there is nothing to report."""

    exit_status = 3
