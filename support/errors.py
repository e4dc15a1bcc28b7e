"""What ends a command without a traceback."""


def printable(text):
    """One line that a terminal only shows: what would steer it, from a file say, as its escape."""
    kept = (c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    return "".join(kept)


class UserError(Exception):
    """Something the user can mend; the message says what was wrong and what to do."""


class Stopped(Exception):
    """The user or the system ended a run; `args` are a line to say and the exit code."""
