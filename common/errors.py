"""The errors that a user can cause, and can mend."""


class ParityError(Exception):
    """Unusable input: one line that says what was expected, what was received and what to do.

    The command line prints it without a traceback and ends with exit status 2.
    """
