"""The one exception for mistakes that a user can mend; everything else is a defect and keeps its
traceback.
"""


class UserError(Exception):
    """Its message is one line: the field or file, and the remedy. The command line exits with 2."""


class InUse(UserError):
    """Another command is at work on it."""


class NotApplicable(UserError):
    """The stage has nothing to work on here; a run of all stages ends well before it."""
