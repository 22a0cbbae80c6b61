"""Two processes that work together (gloo), as torchrun would start them."""

from tests.running_page import free_port


def start_two(python, *command, **environment):
    """The processes of ranks 0 and 1."""
    together = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    together |= environment
    return [python.start(*command, RANK=rank, LOCAL_RANK=rank, **together) for rank in "01"]


def run_two(python, *command):
    """What each of both printed, once both have ended well."""
    results = [process.result() for process in start_two(python, *command)]
    assert [result.returncode for result in results] == [0, 0], [result.stderr[-3000:] for result in results]
    return [result.stdout for result in results]
