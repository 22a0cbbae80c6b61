"""What a file's header says of its picture, as plain values that can pass between processes."""

from dataclasses import asdict, dataclass, field
from typing import Any

from PIL import ImageFile

MAX_VALUE = 8 * 2**20  # bytes of one value between processes; what is longer is left out


@dataclass(frozen=True)
class Header:
    """A picture's header.

    Attributes:
        format: Pillow's name, such as "PNG".
        width: pixels, as stored.
        height: pixels.
        info: what Pillow read of the metadata, by its names ("exif", "xmp", "comment", "icc_profile", ...).
        quantization: a JPEG's tables by number.
        is_animated: there are several frames or pages.
    """

    format: str
    width: int
    height: int
    info: dict[str, Any] = field(default_factory=dict)
    quantization: dict[int, list[int]] = field(default_factory=dict)
    is_animated: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    @classmethod
    def of(cls, image: ImageFile.ImageFile, damage: tuple[type[Exception], ...]) -> "Header":
        """The header of an image that Pillow opened.

        Args:
            image: not decoded.
            damage: what readers raise for frames that cannot be found; then there are none.
        """
        info: dict[str, Any] = {name: value for name, value in image.info.items() if isinstance(name, str)}
        try:
            is_animated = bool(getattr(image, "is_animated", False))
        except damage:
            is_animated = False
        tables = getattr(image, "quantization", None) or {}
        return cls(image.format or "", *image.size, info, {n: list(table) for n, table in tables.items()}, is_animated)

    def packed(self) -> dict[str, Any]:
        """Ready for JSON; `unpacked` turns it back."""
        return asdict(self) | {"info": pack(self.info), "quantization": list(self.quantization.items())}

    @classmethod
    def unpacked(cls, fields: dict[str, Any]) -> "Header":
        """The header that was packed."""
        return cls(**fields | {"info": unpack(fields["info"]), "quantization": dict(fields["quantization"])})


def pack(info: dict[Any, Any]) -> dict[str, Any]:
    """The simple values of an image's `info`, ready for JSON: texts, bytes, numbers and tuples of numbers."""
    packed: dict[str, Any] = {}
    for name, value in info.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, bytes) and len(value) <= MAX_VALUE:
            packed[name] = {"bytes": value.decode("latin-1")}
        elif isinstance(value, str) and len(value) <= MAX_VALUE:
            packed[name] = str(value)
        elif value is None or type(value) in (bool, int, float):
            packed[name] = value
        elif isinstance(value, tuple) and all(type(item) in (int, float) for item in value):
            packed[name] = list(value)
    return packed


def unpack(packed: dict[str, Any]) -> dict[str, Any]:
    """What `pack` was given, its simple values."""
    return {
        name: value["bytes"].encode("latin-1")
        if isinstance(value, dict)
        else tuple(value)
        if isinstance(value, list)
        else value
        for name, value in packed.items()
    }


__all__ = ["Header", "pack", "unpack"]
