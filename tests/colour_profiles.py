"""Small ICC profiles of known colour spaces, and the same spaces as plain arithmetic to compare with."""

import struct

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# x, y of red, green, blue and white, and the power of the curve; None is sRGB's curve.
SPACES = {
    "srgb": ((0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290), None),
    "p3": ((0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290), None),
    "adobe_rgb": ((0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290), 2.19921875),
    "prophoto": ((0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001, 0.3457, 0.3585), 1.8),
}


def to_d50(chromaticities):
    """Linear RGB to XYZ under D50. [3, 3]"""
    xy = np.array(chromaticities).reshape(4, 2)
    columns = np.stack([xy[:, 0] / xy[:, 1], np.ones(4), (1 - xy.sum(1)) / xy[:, 1]])
    white = columns[:, 3]
    primaries = columns[:, :3] * np.linalg.solve(columns[:, :3], white)
    return np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD @ primaries


def expected(pixels, space):
    """What values of a space look like in sRGB: float [..., 3] of 0..255, computed without any colour library."""
    chromaticities, power = SPACES[space]
    code = np.asarray(pixels) / 255
    srgb_curve = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    light = srgb_curve if power is None else code**power
    light = light @ (np.linalg.inv(to_d50(SPACES["srgb"][0])) @ to_d50(chromaticities)).T
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def s15(*numbers):
    return b"".join(struct.pack(">i", round(65536 * number)) for number in numbers)


def profile(tags, space=b"RGB ", kind=b"mntr", version=0x04200000, connection=b"XYZ "):
    """An ICC profile of these tags (name to bytes)."""
    start, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), version, kind, space, connection)
    header += bytes(12) + b"acsp" + bytes(28) + s15(*D50) + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + body


def matrix_profile(space):
    chromaticities, power = SPACES[space]
    matrix = to_d50(chromaticities)
    if power is None:
        numbers = s15(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + numbers
    else:
        curve = b"para" + bytes(4) + struct.pack(">HH", 0, 0) + s15(power)
    tags = {b"wtpt": b"XYZ " + bytes(4) + s15(*D50)}
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T, strict=True):
        tags[name] = b"XYZ " + bytes(4) + s15(*column)
    return profile(tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def grey_profile(power=1.8):
    curve = b"para" + bytes(4) + struct.pack(">HH", 0, 0) + s15(power)
    return profile({b"wtpt": b"XYZ " + bytes(4) + s15(*D50), b"kTRC": curve}, space=b"GRAY")


def cmyk_profile():
    """A press whose inks take 0.8 of the light each: 2 points a side, from C, M, Y and K to Lab."""
    levels = []
    for point in range(16):
        c, m, y, k = ((point >> shift) & 1 for shift in (3, 2, 1, 0))
        lightness = 255 * (1 - 0.25 * c - 0.35 * m - 0.1 * y) * (1 - 0.8 * k)
        levels += [lightness, 128 + 60 * (m - c / 2) * (1 - k), 128 + 60 * (y - c / 2) * (1 - k)]
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + s15(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += ramp * 4 + bytes(int(level) for level in levels) + ramp * 3
    wtpt = b"XYZ " + bytes(4) + s15(*D50)
    return profile(
        {b"wtpt": wtpt, b"A2B0": table}, space=b"CMYK", kind=b"prtr", version=0x02400000, connection=b"Lab "
    )
