"""What ends a command without a traceback."""


class UserError(Exception):
    """Something the user can mend; the message says what was wrong and what to do."""


class Stopped(Exception):
    """The user or the system ended a run; `args` are a line to say and the exit code."""
