"""The one exception that a person, not a programmer, is meant to read."""


class UserError(Exception):
    """Something the user can put right. The command line prints it without a traceback."""
