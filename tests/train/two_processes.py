"""Two processes that work together (gloo), as torchrun starts them."""

from torch.distributed import TCPStore

from tests.waiting import wait_for


def run_two(python, *command, statuses=(0, 0), **environment):
    """What the processes of ranks 0 and 1 printed, once they have ended as `statuses` says.

    The store where they meet is this process's, as it is torchrun's: it takes a free port and keeps it. A port that
    was only looked up may be another's by the time that rank 0 binds it, and rank 1 would wait there for minutes.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    together = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    together |= environment
    processes = [python.start(*command, RANK=rank, LOCAL_RANK=rank, **together) for rank in "01"]

    def have_ended():
        ended = [(process, status) for process, status in zip(processes, statuses, strict=True) if process.has_ended]
        # Where one fails, the other waits for it in vain.
        return len(ended) == 2 or any(process.result().returncode != status for process, status in ended)

    try:
        wait_for(have_ended, "the end of both", seconds=300)
    finally:
        results = [process.stop() for process in processes]
    assert tuple(result.returncode for result in results) == statuses, [result.stderr[-3000:] for result in results]
    return [result.stdout for result in results]
