"""Stop a prediction from another thread."""

from threading import Event

from stunet.errors import Stopped
from stunet.inference.sliding import OnWindow


def stoppable(stop: Event, on_window: OnWindow | None = None) -> OnWindow:
    """A callback for windows that raises `Stopped` if the event is set, and otherwise calls `on_window`."""

    def told(done: int, total: int) -> None:
        """Stop here, or go on to the next window."""
        if stop.is_set():
            raise Stopped(f"The prediction was stopped after {done} of {total} windows.")
        if on_window is not None:
            on_window(done, total)

    return told
