"""The Gaussian of a bank beside the textbook's formula, and held-out distances beside a plain loop."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from modeling import RobustClipConfig
from modeling.cautions.known_data import KNOWN_DATA_FILE, KnownData
from modeling.embedded import DEFAULT_SOURCE
from tests.tiny import VISION
from train.data.records import DataArguments, load_records
from train.features.making import build_feature_bank
from train.fit.known_data import KnownDataArguments, fit_gaussian, held_out_distances, known_data_of, write_known_data
from train.report.evaluation_file import read_evaluation, write_evaluation


def embeddings(count=60, size=5):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + 3).astype(np.float32)


def test_the_whitener_is_a_root_of_the_inverse_covariance():
    embeds = embeddings()
    mean, whitener = fit_gaussian(embeds)
    covariance = LedoitWolf().fit(embeds).covariance_
    np.testing.assert_allclose(mean, embeds.mean(0), rtol=1e-5)
    np.testing.assert_allclose(whitener @ whitener.T @ covariance, np.eye(5), atol=1e-3)


def test_pictures_that_are_all_the_same_have_distance_zero():
    mean, whitener = fit_gaussian(np.ones((4, 3), np.float32))
    assert np.isfinite(whitener).all()
    assert np.linalg.norm((np.ones(3) - mean) @ whitener) == 0


def test_a_picture_is_measured_against_the_other_sources_only():
    embeds, sources = embeddings(), np.arange(60) % 3
    found = held_out_distances(embeds, sources.astype(str))
    for index in (0, 1, 31):
        others = LedoitWolf().fit(embeds[sources != sources[index]])
        expected = mahalanobis(embeds[index], others.location_, np.linalg.inv(others.covariance_))
        assert found[index] == pytest.approx(expected, rel=1e-3)


@pytest.fixture
def bank(parquet, backbone, tmp_path):
    records = load_records(DataArguments(data=str(parquet)))
    return build_feature_bank(records, tmp_path / "bank", backbone=str(backbone), views=2)


def fitted_on(backbone, sha256):
    evaluation = read_evaluation(DEFAULT_SOURCE)
    evaluation["made_by"] |= {"backbone": backbone, "backbone_sha256": sha256}
    return evaluation


@pytest.fixture
def head(bank, tmp_path):
    """What `fit --head_output` leaves, as far as known data needs it."""
    folder = tmp_path / "head"
    RobustClipConfig(vision_config=dict(VISION), backbone_name="owner/clip").save_pretrained(folder)
    write_evaluation(folder, fitted_on("owner/clip", bank.info["backbone_sha256"]))
    (folder / "head.safetensors").write_bytes(b"as it was")
    return folder


def test_only_the_pictures_as_they_are_count(bank):
    config = RobustClipConfig(vision_config=dict(VISION), backbone_name="owner/clip", backbone_revision="abc")
    known = known_data_of(bank, config)
    clean = bank.image_embeds[torch.from_numpy(np.flatnonzero(bank.rows["view"] == 0))]
    assert len(clean) == 23
    torch.testing.assert_close(known.mean, clean.mean(0))
    assert known.backbone == ("owner/clip", "abc")
    assert known.made_from["pictures"] == "23"
    assert known.made_from["sources"] == "6"
    assert (known.quantiles.diff() >= 0).all()


def test_the_command_adds_the_file_and_leaves_the_head_alone(bank, head, tmp_path):
    write_known_data(KnownDataArguments(bank=str(tmp_path / "bank"), output=str(head), merge_sources=["s2=s0"]))
    assert (head / "head.safetensors").read_bytes() == b"as it was"
    known = KnownData.load(head, RobustClipConfig.from_pretrained(head))
    assert known.made_from["sources"] == "5"
    assert not list(head.glob(".*partial"))


def test_a_bank_of_another_backbone_is_refused(bank, head, tmp_path):
    write_evaluation(head, fitted_on("owner/other", "0" * 64))
    with pytest.raises(ValueError, match="was fitted on owner/other"):
        write_known_data(KnownDataArguments(bank=str(tmp_path / "bank"), output=str(head)))
    assert not (head / KNOWN_DATA_FILE).exists()
