"""The colours that a file declares, turned into sRGB as a browser does: ICC profile, cICP or nclx, gAMA and cHRM.

Published with the weights as remote code: it imports only numpy and Pillow. A declaration that is broken, that does
not fit the picture's mode or that is not known is ignored, and so is one that says sRGB: pixels then stay as they are.

High dynamic range (PQ, HLG) is mapped to the range of an ordinary screen by the reference white operator of Chromium
(SMPTE ST 2094-50, in Skia): reference white, 203 nits, becomes half of the light for contents of 1,000 nits and more.
"""

import functools
import io
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageFilter

# What declares colours in `Image.info`; "cicp" is (primaries, transfer) by the numbers of ITU-T H.273, "max_light" the
# brightest pixel in nits. `modeling.images` sets both; the others are Pillow's and pillow-heif's.
DECLARATIONS = (
    "icc_profile",
    "icc_profile_type",
    "cicp",
    "max_light",
    "nclx_profile",
    "gamma",
    "chromaticity",
    "srgb",
)
MAX_PROFILE = 4 * 2**20  # bytes; the profile of a printing press has 0.5 to 3 MB
MAX_TAGS = 100
MAX_ELEMENTS = 16  # of a multi-process tag, which may name the same megabytes again and again
PROFILE_CLASSES = (b"mntr", b"scnr", b"prtr", b"spac")
PROFILE_SPACES = {"RGB": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}
SAME = 2  # of 255: a profile that moves no colour by more is sRGB with other roundings
GRID = 65  # points of a table on each side, the most that Pillow takes
REFERENCE_WHITE, USUAL_PEAK, BRIGHTEST = 203.0, 1000.0, 10_000.0  # nits

Chromaticities = tuple[tuple[float, float], ...]  # x and y of red, green, blue and white
D65 = (0.3127, 0.3290)
SRGB: Chromaticities = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65)
BT2020: Chromaticities = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65)
PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    9: BT2020,
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),
}
PQ, HLG = 16, 18
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def _from_srgb_curve(code: np.ndarray) -> np.ndarray:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def _to_srgb_curve(light: np.ndarray) -> np.ndarray:
    """Colours that sRGB lacks stay outside of 0..1: between the points of a table, clipped ones would be too dark."""
    size = np.abs(light)
    return np.copysign(np.where(size <= 0.0031308, 12.92 * size, 1.055 * size ** (1 / 2.4) - 0.055), light)


def _from_video_curve(code: np.ndarray) -> np.ndarray:
    """BT.709, BT.601 and BT.2020 as a screen shows them (BT.1886), which is not the inverse of a camera's curve."""
    return code**2.4


def _from_pq(code: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084; 1 is reference white."""
    power = code ** (32 / 2523)
    return (
        BRIGHTEST
        / REFERENCE_WHITE
        * (np.maximum(power - 0.8359375, 0.0) / (18.8515625 - 18.6875 * power)) ** (8192 / 1305)
    )


def _from_hlg(code: np.ndarray) -> np.ndarray:
    """ARIB STD-B67 to the light of the scene; 1 is its peak."""
    bright = (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.where(code <= 0.5, code**2 / 3, bright)


CURVES: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: _from_video_curve,
    4: lambda code: code**2.2,
    5: lambda code: code**2.8,
    6: _from_video_curve,
    8: lambda code: code,
    13: _from_srgb_curve,
    14: _from_video_curve,
    15: _from_video_curve,
    PQ: _from_pq,
    HLG: _from_hlg,
}


def _to_xyz(chromaticities: Chromaticities) -> np.ndarray:
    """From linear RGB to XYZ under D65, white adapted by Bradford's method: [3, 3]."""
    columns = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in chromaticities]).T
    white, d65 = columns[:, 3], np.array([D65[0] / D65[1], 1.0, (1 - sum(D65)) / D65[1]])
    primaries = columns[:, :3] * np.linalg.solve(columns[:, :3], white)
    return np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ d65 / (BRADFORD @ white)) @ BRADFORD @ primaries


def _between(source: Chromaticities, target: Chromaticities) -> np.ndarray:
    return np.linalg.solve(_to_xyz(target), _to_xyz(source))


def _darken(light: np.ndarray, peak: float) -> np.ndarray:
    """Light relative to reference white, up to `peak` nits, into 0..1.

    Up to reference white all is darkened alike; from there a parabola (a quadratic Bezier curve) leads to 1 at the
    peak.
    """
    highest = peak / REFERENCE_WHITE
    if highest <= 1.0:
        return np.minimum(light, 1.0)
    white = 1.0 - 0.5 * min(np.log2(highest) / np.log2(USUAL_PEAK / REFERENCE_WHITE), 1.0)
    middle = 0.35 + 0.65 / white, 0.35 * white + 0.65
    curve_x = 1.0 - 2 * middle[0] + highest, 2 * (middle[0] - 1.0), 1.0 - np.clip(light, 1.0, highest)
    # x(t) = light; the root is written so that it holds for a line, too
    root = np.sqrt(np.maximum(curve_x[1] ** 2 - 4 * curve_x[0] * curve_x[2], 0.0))
    t = -2 * curve_x[2] / (curve_x[1] + root)
    bright = white * (1 - t) ** 2 + 2 * middle[1] * t * (1 - t) + t**2
    return np.where(light <= 1.0, white * light, bright)


def _screen_light(code: np.ndarray, primaries: Chromaticities, transfer: int, peak: float) -> np.ndarray:
    """PQ or HLG values, [..., 3] in 0..1, as linear sRGB."""
    light = CURVES[transfer](code) @ _between(primaries, BT2020).T
    if transfer == HLG:  # the reference screen's own curve, by luminance
        luminance = np.maximum(light @ np.array([0.2627, 0.6780, 0.0593]), 1e-9)
        light *= (USUAL_PEAK / REFERENCE_WHITE) * luminance[..., None] ** 0.2
    brightest = np.maximum(light.max(-1, keepdims=True), 1e-9)
    return light * (_darken(brightest, peak) / brightest) @ _between(BT2020, SRGB).T


@functools.lru_cache(8)
def _table(primaries: Chromaticities, transfer: int, peak: float) -> ImageFilter.Color3DLUT:
    """From values of a colour space to sRGB, at a grid of points between which Pillow interpolates."""
    steps = np.linspace(0.0, 1.0, GRID)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")  # red runs fastest
    code = np.stack([red, green, blue], -1)
    if transfer in (PQ, HLG):
        light = _screen_light(code, primaries, transfer, peak)
    else:
        light = CURVES[transfer](code) @ _between(primaries, SRGB).T
    return ImageFilter.Color3DLUT(GRID, _to_srgb_curve(light).astype(np.float32).ravel())


def _from_space(picture: Image.Image, primaries: Chromaticities, transfer: int, peak: float) -> Image.Image:
    """An RGB picture of a colour space as sRGB."""
    if transfer not in (PQ, HLG, 13):  # a curve alone is exact; a table is too coarse for the darkest of some
        picture, transfer = _recode(picture, CURVES[transfer]), 13
    if transfer == 13 and np.allclose(primaries, SRGB, atol=2e-3):
        return picture
    return picture.filter(_table(primaries, transfer, peak))


def _recode(picture: Image.Image, curve: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    """Each value of an RGB picture from its curve to that of sRGB."""
    levels = np.rint(255 * _to_srgb_curve(curve(np.arange(256) / 255))).astype(int).clip(0, 255).tolist()
    return picture.point(levels * 3)


def _from_cicp(picture: Image.Image, info: Mapping[Any, Any], cicp: tuple[Any, Any]) -> Image.Image:
    primaries, transfer = PRIMARIES.get(cicp[0]), cicp[1]
    if primaries is None or transfer not in CURVES:
        return picture
    peak = info.get("max_light")
    peak = float(np.clip(peak, REFERENCE_WHITE, BRIGHTEST)) if isinstance(peak, int | float) and peak else USUAL_PEAK
    return _from_space(picture, primaries, transfer, peak)


def _from_gamma(picture: Image.Image, info: Mapping[Any, Any]) -> Image.Image:
    """A PNG's gAMA with its cHRM. cHRM alone says nothing, nor does the usual gamma of 1 / 2.2 alone."""
    gamma, chromaticity = info["gamma"], info.get("chromaticity")
    if not isinstance(gamma, float) or not 0.1 <= gamma <= 5:
        return picture
    if not isinstance(chromaticity, tuple) or len(chromaticity) != 8:
        return picture if abs(gamma - 1 / 2.2) < 0.01 else _recode(picture, lambda code: code ** (1 / gamma))
    white, *primaries = zip(chromaticity[::2], chromaticity[1::2], strict=True)
    try:
        picture_space: Chromaticities = (*primaries, white)
        if not np.isfinite(_between(picture_space, SRGB)).all():
            return picture
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return picture
    return _from_space(_recode(picture, lambda code: code ** (1 / gamma)), picture_space, 13, USUAL_PEAK)


def _profile_tags(profile: bytes) -> dict[bytes, int] | None:
    """Where each tag of an ICC profile begins; `None` for one that is no profile or too costly to read."""
    if not 132 <= len(profile) <= MAX_PROFILE or profile[36:40] != b"acsp":
        return None
    (count,) = struct.unpack_from(">I", profile, 128)
    if count > MAX_TAGS or 132 + 12 * count > len(profile):
        return None
    tags = {}
    for name, start, _ in struct.iter_unpack(">4sII", profile[132 : 132 + 12 * count]):
        tags[name] = start
        if profile[start : start + 4] == b"mpet" and profile[start + 12 : start + 16] > struct.pack(
            ">I", MAX_ELEMENTS
        ):
            return None
    return tags


def _profile_cicp(profile: bytes) -> tuple[int, int] | None:
    """Primaries and transfer of a profile for high dynamic range, whose other tags are for older readers."""
    start = (_profile_tags(profile) or {}).get(b"cicp")
    if start is None or profile[start : start + 4] != b"cicp" or start + 10 > len(profile):
        return None
    primaries, transfer = profile[start + 8], profile[start + 9]
    return (primaries, transfer) if transfer in (PQ, HLG) and profile[16:20] == b"RGB " else None


@functools.lru_cache(8)
def _profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; `None` where it is broken, for another mode, or sRGB itself."""
    if _profile_tags(profile) is None or profile[12:16] not in PROFILE_CLASSES:
        return None
    if profile[16:20] != PROFILE_SPACES.get(mode):
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "CMYK":
        return transform
    probe = _probe(mode)
    moved = np.abs(np.asarray(transform.apply(probe), int) - np.asarray(probe.convert("RGB"), int)).max()
    return None if moved <= SAME else transform


def _probe(mode: str) -> Image.Image:
    """A picture of all grey levels, or of colours from the whole cube."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(9, 81, 3))


def declares_colours(info: Mapping[Any, Any]) -> bool:
    """Whether anything in `Image.info` might move a picture's colours."""
    return any(info.get(key) is not None for key in ("icc_profile", "cicp", "nclx_profile", "gamma"))


def to_srgb(picture: Image.Image, info: Mapping[Any, Any]) -> Image.Image:
    """The sRGB picture that a viewer shows.

    Args:
        picture: in mode "RGB", "L" or "CMYK"; it is left alone.
        info: `Image.info` of the file.

    Returns:
        An "RGB" image without declarations. Where none applies, `picture` itself or Pillow's conversion of it.
    """
    shown = _converted(picture, info)
    if shown is not picture:
        shown.info = {key: value for key, value in info.items() if key not in DECLARATIONS}
    return shown


def _converted(picture: Image.Image, info: Mapping[Any, Any]) -> Image.Image:
    cicp: tuple[Any, Any] | None
    profile, nclx = info.get("icc_profile"), info.get("nclx_profile")
    cicp = info.get("cicp")  # a PNG's texts stand in `info`, too, under any name
    if not isinstance(cicp, tuple) or len(cicp) != 2:
        cicp = None
    if cicp is None and isinstance(profile, bytes):
        cicp = _profile_cicp(profile)
        if cicp is None:
            transform = _profile_transform(profile, picture.mode)
            return picture.convert("RGB") if transform is None else transform.apply(picture)
    if cicp is None and isinstance(nclx, dict):
        cicp = nclx.get("color_primaries"), nclx.get("transfer_characteristics")
    picture = picture if picture.mode == "RGB" else picture.convert("RGB")
    if cicp is not None:
        return _from_cicp(picture, info, cicp)
    return _from_gamma(picture, info) if "gamma" in info and "srgb" not in info else picture


__all__ = ["declares_colours", "to_srgb"]
