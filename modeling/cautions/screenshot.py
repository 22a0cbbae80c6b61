"""Whether a file says of itself that it is a screenshot, or is one by its size and content.

What a shot of a screen shows may be a photograph, but its pixels are the screen's: scaled, sharpened, with letters
around it.
"""

import re

from ..file_metadata import DESCRIPTION, MAKE, MODEL, SOFTWARE, USER_COMMENT, FileMetadata

# Pixels of common telephones, tablets and computer screens, short side first. Sizes that generators use (1024 x 1024,
# 1024 x 1536, 1024 x 1792, 768 x 1344 and the like) are not among them.
SCREENS = frozenset(
    {
        *((640, 1136), (720, 1280), (720, 1520), (720, 1600), (750, 1334), (828, 1792), (1080, 1920), (1080, 2160)),
        *((1080, 2220), (1080, 2280), (1080, 2340), (1080, 2400), (1080, 2408), (1080, 2412), (1125, 2436)),
        *((1170, 2532), (1179, 2556), (1206, 2622), (1242, 2208), (1242, 2688), (1284, 2778), (1290, 2796)),
        *((1320, 2868), (1344, 2992), (1440, 2560), (1440, 2960), (1440, 3088), (1440, 3120), (1440, 3200)),
        *((1488, 2266), (1536, 2048), (1620, 2160), (1640, 2360), (1668, 2224), (1668, 2388), (2048, 2732)),
        *((768, 1366), (800, 1280), (864, 1536), (900, 1440), (900, 1600), (1050, 1680), (1200, 1920), (1440, 3440)),
        *((1504, 2256), (1600, 2560), (1664, 2560), (1800, 2880), (1864, 2880), (1964, 3024), (2160, 3840)),
        *((2234, 3456), (1824, 2736)),
    }
)
LOSSLESS = ("PNG", "BMP")


def says_screenshot(metadata: FileMetadata) -> bool:
    """Whether the file's metadata names a screenshot: telephones, macOS and Linux desktops write so."""
    texts = [metadata.exif.get(tag, "") for tag in (USER_COMMENT, DESCRIPTION, SOFTWARE)]
    texts += [metadata.texts.get(name, "") for name in ("Software", "Comment", "Description")]
    return any(re.search(r"\bscreen-?shot\b", text[:65536], re.IGNORECASE) for text in (*texts, metadata.xmp))


def has_screen_size(metadata: FileMetadata, size: tuple[int, int]) -> bool:
    """Whether a lossless file is exactly as large as a common screen and names no camera."""
    if metadata.format not in LOSSLESS or tuple(sorted(size)) not in SCREENS:
        return False
    return not (metadata.exif.get(MAKE) or metadata.exif.get(MODEL))


__all__ = ["SCREENS", "has_screen_size", "says_screenshot"]
