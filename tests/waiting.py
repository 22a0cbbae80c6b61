"""Waiting for what another process or a page does."""

import time


def wait_for(condition, what="what the test waits for", seconds=120):
    """The first true value of `condition()`."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"After {seconds} seconds: not {what}."
        time.sleep(0.05)
    return value
