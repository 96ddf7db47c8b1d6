"""What goes on beside a block of code, in a thread of its own."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def repeating(action: Callable[[], None], *, every: float) -> Generator[None, None, None]:
    """The action every so many seconds while the block runs."""
    over = threading.Event()

    def loop() -> None:
        while not over.wait(every):
            action()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
