"""The one exception for mistakes that a user can mend; everything else is a defect and keeps its
traceback.
"""


class UserError(Exception):
    """Its message is one line: the field or file, and the remedy. The command line exits with 2."""


class InUse(UserError):
    """Another command is at work on it."""
