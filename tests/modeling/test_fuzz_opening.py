"""The fuzz target for opening: a damaged file gives a picture within the limits or a sentence, and nothing else.

`python -m pytest -m long tests/modeling/test_fuzz_opening.py` goes on for some minutes with other damage.
"""

import logging

import pytest

from modeling.images import MAX_PIXELS, MIN_SIDE, ImageError, open_image, read_header
from modeling.opening_process import end_workers
from modeling.sentences import LANGUAGES
from tests.fuzzing import mutations
from tests.modeling.opening_corpus import CORPUS, WORDS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.fixture(scope="module", autouse=True)
def no_worker_left():
    yield
    end_workers()


def check(data):
    """Open one file; whether that gave a picture."""
    try:
        header = read_header(data)
        assert header.width * header.height <= MAX_PIXELS
    except ImageError as error:
        header = None
        assert all(error.sentence(language) for language in LANGUAGES)
    try:
        picture = open_image(data)
    except ImageError as error:
        assert all(error.sentence(language) for language in LANGUAGES)
        return False
    assert header is not None
    assert picture.mode == "RGB" and min(picture.size) >= MIN_SIDE
    assert len(picture.tobytes()) == 3 * picture.width * picture.height
    return True


def attack(seed, number, caplog):
    """Damage the corpus; enough must still be opened, or the target attacks nothing. No worker may fall."""
    with caplog.at_level(logging.WARNING, "modeling.images"):
        opened = sum(check(data) for _, data in mutations(seed, list(CORPUS.values()), WORDS, number))
    assert opened > 0.1 * number
    assert not [record.message for record in caplog.records if "given up" in record.message]


@pytest.mark.parametrize("name", CORPUS)
def test_every_file_of_the_corpus_is_opened_before_it_is_damaged(name):
    assert check(CORPUS[name])


def test_damaged_files(caplog):
    attack(1, 1_200, caplog)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 20))
def test_much_damage(seed, caplog):
    attack(seed, 10_000, caplog)
