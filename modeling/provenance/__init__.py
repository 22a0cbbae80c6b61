"""What a file says of its origin, apart from its pixels: `read_provenance`."""

from .reading import Evidence, Provenance, read_provenance

__all__ = ["Evidence", "Provenance", "read_provenance"]
