"""docs/reference.md says what the docstrings say."""

import textwrap

from docs.make_reference import REFERENCE, module_reference, reference

SOURCE = '''
"""A module.

Args:
    nothing: here.
"""

LIMIT = 3
_HIDDEN = 4


@dataclass
class Settings:
    """What to do.

    Raises:
        ValueError: it is out of range,
            far out.

    After the section.
    """

    path: str = field(metadata={"help": "Where."})
    names: list[str] = field(default_factory=list, metadata={"help": f"At most {LIMIT}."})

    @property
    def size(self) -> int:
        """How many."""

    def _private(self):
        """Not shown."""


def halve(x: float, *, twice: bool = False) -> float:
    """Half of x.

    Example:
        >>> halve(3.0)
        1.5
    """


def other():
    """Not public."""


__all__ = ["LIMIT", "Settings", "halve"]
'''
EXPECTED = """
### some.module

A module.

**Args**

- `nothing`: here.

#### LIMIT

`3`

#### Settings

`class Settings`

What to do.

**Raises**

- `ValueError`: it is out of range,
  far out.

After the section.

**Fields**

- `path: str`: Where.
- `names: list[str] = []`: At most {LIMIT}.

#### Settings.size

`size -> int`

How many.

#### halve

`halve(x: float, *, twice: bool=False) -> float`

Half of x.

**Example**

- `halve(3.0)`
- `1.5`
"""


def test_the_reference_is_the_one_that_the_docstrings_give():
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "run python docs/make_reference.py"


def test_a_module_becomes_markdown():
    assert "\n".join(module_reference("some.module", textwrap.dedent(SOURCE))).strip() == EXPECTED.strip()
