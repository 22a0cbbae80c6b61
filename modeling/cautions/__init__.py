"""What about a picture makes its answer less certain than the figures say: `find_cautions`."""

from .finding import Caution, find_cautions
from .known_data import KNOWN_DATA_FILE, KnownData

__all__ = ["KNOWN_DATA_FILE", "Caution", "KnownData", "find_cautions"]
