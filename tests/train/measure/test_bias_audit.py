"""The audit finds the leak that is there, and none that is not."""

import io
import re
import shlex

import imagehash
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modeling.deliveries import STANDARD_DELIVERIES
from modeling.embedded import ROOT
from modeling.images import ImageError, open_image
from train.features.file_facts import HASH_SIDE, file_facts
from train.measure.bias_audit import MOST_FITTED, _at_most, _rule_scores, audit_bias, rule_folds
from train.measure.duplicates import LIMIT, check_sources_apart, find_duplicates
from train.measure.sources import join_sources

EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in (".jpg", ".webp"))


def encoded(seed=0, file_format="JPEG", size=(64, 48), **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(buffer, file_format, **options)
    return buffer.getvalue()


def facts_of(content):
    return file_facts(content, open_image(content))


def pictures(number=160, sources=8, **facts):
    """Both classes from sources of their own, scores a little better than chance; files alike except in `facts`."""
    rng = np.random.default_rng(0)
    label = np.arange(number) % 2
    frame = pd.DataFrame(
        {
            "record_id": [f"p{i}" for i in range(number)],
            "label": label,
            "source": [f"s{i % 2}-{i // 2 % (sources // 2)}" for i in range(number)],
            "score": rng.normal(size=number) + label,
            "format": "JPEG",
            "width": 640,
            "height": 480,
            "file_bytes": rng.integers(40_000, 60_000, number),
            "jpeg_quality": 88.0,
            "metadata": "",
            "perceptual_hash": [rng.bytes(HASH_SIDE**2 // 8).hex() for _ in range(number)],
        }
    )
    return frame.assign(**{name: value(frame) if callable(value) else value for name, value in facts.items()})


def rule(audit, name):
    return next(row["auc"] for row in audit["rules"] if row["facts"] == name)


def test_a_data_set_whose_generated_pictures_are_all_png_is_caught():
    leaky = pictures(
        format=lambda rows: np.where(rows.label == 1, "PNG", "JPEG"),
        jpeg_quality=lambda rows: np.where(rows.label == 1, np.nan, 90.0),
    )
    audit = audit_bias(leaky)
    assert rule(audit, "format")["value"] == 1
    assert {"format", "JPEG quality", "all together"} <= set(audit["gives_away"])
    assert "aspect" not in audit["gives_away"]
    assert "never looks at the pictures" in audit["warning"]
    # No cell of equal facts has both classes: nothing is left to match.
    assert audit["matched"]["pictures"] == {"real": 0, "generated": 0}
    assert audit["matched"]["auc"] is None
    assert audit["counts"]["format"] == {"real": {"JPEG": 80}, "generated": {"PNG": 80}}


def test_real_files_that_leak_are_caught():
    contents = [encoded(seed, "PNG" if seed % 2 else "JPEG") for seed in range(60)]
    facts = pd.DataFrame([facts_of(content) for content in contents])
    audit = audit_bias(pictures(60, sources=4).drop(columns=facts.columns).join(facts))
    assert "format" in audit["gives_away"]


def test_files_that_are_alike_give_nothing_away():
    audit = audit_bias(pictures())
    assert audit["gives_away"] == []
    assert audit["warning"] is None
    for name in ("format", "size", "aspect", "JPEG quality", "metadata"):
        assert rule(audit, name)["value"] == 0.5
    assert audit["matched"]["pictures"] == {"real": 80, "generated": 80}
    assert audit["matched"]["auc"]["value"] == pytest.approx(audit["matched"]["auc_before"]["value"])


def test_a_fact_that_all_files_share_scores_as_a_forest_would_score_it():
    frame = pictures(60, sources=3)
    folds, _ = rule_folds(frame)
    column = np.zeros((60, 1))
    nearly = np.vstack([column[:-1], [[1.0]]])  # one picture differs: a forest is fitted
    assert (_rule_scores(column, frame, folds, MOST_FITTED) == 0.5).all()
    unlike = np.isin(np.arange(60), np.concatenate([scored for fitted, scored in folds if 59 in fitted]))
    assert (_rule_scores(nearly, frame, folds, MOST_FITTED)[~unlike] == 0.5).all()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        (
            "size",
            {"width": lambda rows: np.where(rows.label == 1, 1280, 640), "height": lambda rows: rows.width * 3 // 4},
        ),
        ("aspect", {"height": lambda rows: np.where(rows.label == 1, 640, 480)}),
        ("metadata", {"metadata": lambda rows: np.where(rows.label == 0, "exif+icc", "")}),
        ("bytes a pixel", {"file_bytes": lambda rows: 30_000 + 40_000 * rows.label}),
    ],
)
def test_every_fact_can_give_the_classes_away(name, changed):
    audit = audit_bias(pictures(**changed))
    assert rule(audit, name)["value"] == 1
    assert name in audit["gives_away"]


def test_a_detector_that_reads_the_size_is_unmasked_on_matched_pictures():
    """Three quarters of each class are of one size; the detector's score is that size."""
    wide = np.random.default_rng(1).random(400) < np.where(np.arange(400) % 2 == 1, 0.75, 0.25)
    frame = pictures(400, width=np.where(wide, 1280, 640), score=wide.astype(float))
    matched = audit_bias(frame)["matched"]
    assert matched["auc_before"]["value"] > 0.7
    assert matched["auc"]["value"] == pytest.approx(0.5)


def test_classes_of_one_source_each_are_audited_by_pictures_and_say_so():
    frame = pictures(source=lambda rows: np.where(rows.label == 1, "made", "taken"))
    audit = audit_bias(frame.assign(format=np.where(frame.label == 1, "PNG", "JPEG")))
    assert "may share a source" in audit["protocol"]
    assert "format" in audit["gives_away"]


def test_one_class_has_no_rule():
    audit = audit_bias(pictures().query("label == 0"))
    assert "one class is missing" in audit["protocol"]
    assert all(row["auc"] is None for row in audit["rules"])
    assert audit["matched"]["auc"] is None


def test_facts_are_those_of_the_file():
    exif = Image.Exif()
    exif[0x0131] = "camera"
    facts = facts_of(encoded(0, "JPEG", (80, 40), quality=70, exif=exif.tobytes(), comment=b"hello"))
    assert {name: facts[name] for name in ("format", "width", "height", "metadata")} == {
        "format": "JPEG",
        "width": 80,
        "height": 40,
        "metadata": "exif+comment",
    }
    text = PngInfo()
    text.add_text("parameters", "a cat")
    assert facts_of(encoded(0, "PNG", pnginfo=text))["metadata"] == "text"
    assert facts_of(encoded(0, "PNG"))["jpeg_quality"] is None
    with pytest.raises(ImageError):
        file_facts(b"no picture", Image.new("RGB", (40, 40)))


@pytest.mark.parametrize("quality", [30, 50, 75, 88, 95])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(quality):
    assert facts_of(encoded(0, quality=quality))["jpeg_quality"] == pytest.approx(quality, abs=1)


@pytest.mark.parametrize("delivery", [name for name in STANDARD_DELIVERIES if not name.startswith("crop")])
def test_a_delivered_picture_is_a_duplicate_of_itself_and_of_no_other(delivery):
    clean, delivered = [], []
    for path in EXAMPLES:
        picture = open_image(path)
        clean.append(imagehash.phash(picture, hash_size=HASH_SIDE))
        changed = STANDARD_DELIVERIES[delivery](picture, np.random.default_rng(0))
        delivered.append(imagehash.phash(changed, hash_size=HASH_SIDE))
    for i, one in enumerate(clean):
        near = [j for j, other in enumerate(delivered) if one - other <= LIMIT]
        assert near == [i]


def test_duplicates_across_sources_classes_and_the_training_set_are_counted():
    frame = pictures(40)
    hashes = frame["perceptual_hash"].tolist()
    hashes[4] = hashes[0]  # s0-0 and s0-2: two sources, one class
    flipped = int(hashes[8], 16) ^ 0b111  # three bits apart
    hashes[9] = f"{flipped:0{HASH_SIDE**2 // 4}x}"  # the other class
    frame["perceptual_hash"] = hashes
    training = frame.iloc[[8, 20]].assign(record_id=["t8", "t20"])
    found = find_duplicates(frame, training)
    assert (found["pairs"], found["pairs_of_two_sources"], found["pairs_of_two_classes"]) == (2, 2, 1)
    assert found["examples"] == [("p0", "p4", 0), ("p8", "p9", 3)]
    assert found["in_training"] == {"pictures": 3, "examples": [("p8", "t8", 0), ("p20", "t20", 0), ("p9", "t8", 3)]}
    assert find_duplicates(frame)["in_training"] is None


def test_sources_that_share_pictures_are_refused_with_what_joins_them():
    frame = pictures(40)
    check_sources_apart(frame)
    hashes, names = frame["perceptual_hash"].to_numpy(copy=True), ["s0", "my b", "s2", "s3", "s4"]
    frame["source"] = np.array(names)[np.arange(40) % 5]
    hashes[[4, 6]] = hashes[[2, 1]]  # s4 and s2; both pictures of `my b`
    hashes[11] = hashes[2]  # `my b` and s2
    frame["perceptual_hash"] = hashes
    with pytest.raises(ValueError, match="^2 near-duplicates lie in two sources") as refused:
        check_sources_apart(frame)
    entries = shlex.split(re.search(r"--merge_sources (.*), or leave", str(refused.value))[1])
    assert entries == ["s2=my b", "s4=my b"]
    join_sources(frame, entries)
    check_sources_apart(frame)


def test_a_rule_is_fitted_on_a_part_of_very_many_pictures():
    frame = pictures(width=lambda rows: np.where(rows.label == 1, 1280, 640))
    whole = audit_bias(frame)
    part = audit_bias(frame, most_fitted=60)  # of the 64 or fewer of a class outside each fold
    assert rule(part, "size") == rule(whole, "size")
    assert len(_at_most(np.arange(160), frame["label"].to_numpy(), 60)) == 120
    rows = np.arange(100)
    assert _at_most(rows, frame["label"].to_numpy(), 60) is rows


def test_a_perfect_leak_is_caught_in_a_dozen_pictures():
    frame = pictures(12, sources=4)
    audit = audit_bias(frame.assign(format=np.where(frame.label == 1, "PNG", "JPEG")))
    assert "format" in audit["gives_away"]


def test_an_animation_that_is_damaged_after_its_first_frame_has_facts():
    frames = [Image.effect_noise((64, 64), 80).convert("RGB") for _ in range(3)]
    buffer = io.BytesIO()
    text = PngInfo()
    text.add_text("parameters", "a cat")
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], pnginfo=text)
    content = buffer.getvalue()
    facts = file_facts(content[: len(content) // 2 + 2000], open_image(content))
    assert (facts["format"], facts["metadata"]) == ("PNG", "text")


def test_a_thousand_copies_are_not_half_a_million_pairs():
    frame = pictures(1000).assign(perceptual_hash="0" * (HASH_SIDE**2 // 4))
    found = find_duplicates(frame, frame.iloc[:5])
    assert found["pairs"] == 999
    assert found["in_training"]["pictures"] == 1000


def test_a_large_set_is_searched_for_equal_hashes_only():
    frame = pictures(40)
    hashes = frame["perceptual_hash"].tolist()
    hashes[4] = hashes[7] = hashes[0]
    frame["perceptual_hash"] = hashes
    training = pd.concat([frame.iloc[[0, 20]]] * 30)
    found = find_duplicates(frame, training, most_comparisons=1000)
    assert (found["limit"], found["pairs"]) == (0, 2)
    assert found["examples"] == [("p0", "p4", 0), ("p4", "p7", 0)]
    assert found["in_training"]["pictures"] == 4
