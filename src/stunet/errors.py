"""The one exception whose message is meant for the person at the keyboard."""


class UserError(ValueError):
    """Something the user can mend: a bad file, an unknown name, an option that is missing.

    The message is one or two sentences: what is wrong, with which file, and what to do. The command line prints it
    without a traceback and exits with code 2.
    """
