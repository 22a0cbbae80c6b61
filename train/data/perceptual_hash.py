"""A picture's perceptual hash: 256 bits that two deliveries of one picture nearly share, and two pictures do not."""

import imagehash
from PIL import Image

# bits of the hash: a square of low frequencies of the picture's brightness
HASH_SIDE = 16


def perceptual_hash(picture: Image.Image) -> str:
    """ImageHash's pHash of 256 bits in hexadecimal."""
    return str(imagehash.phash(picture, hash_size=HASH_SIDE))


def bits_apart(first: str, second: str) -> int:
    """In how many bits two hashes in hexadecimal differ."""
    return (int(first, 16) ^ int(second, 16)).bit_count()


__all__ = ["HASH_SIDE", "bits_apart", "perceptual_hash"]
