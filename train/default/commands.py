"""`python -m train default`."""

from .options import DefaultArguments
from .running import make_default


def default(arguments: DefaultArguments) -> None:
    """Make the default, and print what was written and how long each step took."""
    steps, written = make_default(arguments)
    print(steps.table())
    print(f"written: {', '.join(map(str, written)) or 'nothing, all is as it was'}")
