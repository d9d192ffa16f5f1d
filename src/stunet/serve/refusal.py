"""Why a request is refused: a status of HTTP and a sentence."""

from stunet.errors import UserError


class RefusedError(UserError):
    """A request that is not carried out.

    Attributes:
        status: of HTTP, 400 to 599.
    """

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


def nothing_there(what: str) -> RefusedError:
    """An answer for what does not exist or belongs to another user; it does not say which."""
    return RefusedError(404, f"There is no such {what}.")
