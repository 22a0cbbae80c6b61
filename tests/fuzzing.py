"""Random damage to small files, the same in every run: what fuzz targets feed to the code that they attack."""

import random
from collections.abc import Iterator, Sequence

# Numbers at which lengths and counts overflow, change their sign or mean "none".
EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def mutations(seed: int, corpus: Sequence[bytes], words: Sequence[bytes], number: int) -> Iterator[tuple[int, bytes]]:
    """Damaged copies of the corpus, one after another.

    Args:
        seed: other numbers give other damage.
        corpus: the files to start from.
        words: what the code under attack looks for; they are put anywhere.
        number: of copies.

    Yields:
        The place in the corpus, and the damaged copy.
    """
    rng = random.Random(seed)
    for _ in range(number):
        index = rng.randrange(len(corpus))
        data = bytearray(corpus[index])
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            rng.choice((_flip, _put_edge, _put_word, _cut, _repeat, _splice))(rng, data, words, corpus)
        yield index, bytes(data)


def _place(rng: random.Random, data: bytearray) -> int:
    return rng.randrange(len(data) + 1)


def _flip(rng: random.Random, data: bytearray, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 255, rng.randrange(256)))


def _put_edge(rng: random.Random, data: bytearray, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    size, at = rng.choice((2, 4)), _place(rng, data)
    number = rng.choice(EDGES) % 256**size
    data[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))


def _put_word(rng: random.Random, data: bytearray, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    word, at = rng.choice(words) * rng.choice((1, 1, 1, 50)), _place(rng, data)
    data[at : at + rng.choice((0, len(word)))] = word


def _cut(rng: random.Random, data: bytearray, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    at = _place(rng, data)
    del data[at : at + rng.choice((1, 8, 100, len(data)))]


def _repeat(rng: random.Random, data: bytearray, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    at = _place(rng, data)
    data[at:at] = data[at : at + rng.choice((1, 8, 100))] * rng.choice((1, 20))


def _splice(rng: random.Random, data: bytearray, words: Sequence[bytes], corpus: Sequence[bytes]) -> None:
    """The beginning of one file and the end of another."""
    other = rng.choice(corpus)
    data[_place(rng, data) :] = other[rng.randrange(len(other) + 1) :]


__all__ = ["EDGES", "mutations"]
