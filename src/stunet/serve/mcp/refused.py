"""What a tool refuses by itself. Its sentence quotes nothing but what the caller said."""

from stunet.errors import UserError


class ToolRefusedError(UserError):
    """The sentence may go to a language model as it is; that of any other error may quote text of a file."""
