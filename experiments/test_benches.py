"""The two benches of this folder on a tiny tower: what they train, fit and print."""

import json
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from modeling import RobustClipImageProcessor
from tests.pictures import picture
from tests.tiny import VISION
from train.data.records import DataArguments, load_records
from train.features.making import build_feature_bank

sys.path.insert(0, str(Path(__file__).parent))
import backbone_tuning  # noqa: E402
import more_data  # noqa: E402


@pytest.fixture
def data(tmp_path):
    """Thirty pictures of ten sources."""
    labels = [i % 2 for i in range(30)]
    datasets.Dataset.from_dict(
        {
            "image": [{"bytes": picture(i, label), "path": None} for i, label in enumerate(labels)],
            "id": [f"p{i}" for i in range(30)],
            "label": labels,
            "source": [f"s{i % 10}" for i in range(30)],
        }
    ).cast_column("image", datasets.Image(decode=False)).to_parquet(tmp_path / "data.parquet")
    return tmp_path / "data.parquet"


@pytest.fixture
def tower(tmp_path):
    """Twelve blocks, as LAYERS wants."""
    torch.manual_seed(0)
    folder = tmp_path / "tower"
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION | {"num_hidden_layers": 12})).save_pretrained(folder)
    RobustClipImageProcessor(size=32).save_pretrained(folder)
    return folder


def run(module, monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["bench", *(str(argument) for argument in arguments)])
    module.main()
    return capsys.readouterr().out


def test_arms_are_trained_and_measured_beside_the_first(data, tower, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(backbone_tuning, "default_backbone", lambda: tower)
    arms = {name: arm._replace(size=32) for name, arm in backbone_tuning.ARMS.items() if arm.size == 224}
    monkeypatch.setattr(backbone_tuning, "ARMS", arms | {"frozen, 48 pixels": backbone_tuning.Arm(size=48)})
    chosen = ["frozen", "frozen, mirrored too", "frozen, 48 pixels", "LayerNorms", "LoRA"]
    output = tmp_path / "output"
    printed = run(backbone_tuning, monkeypatch, capsys, data, "--output", output, "--arms", *chosen)
    assert "15 real and 15 generated pictures of 10 sources" in printed
    figures = json.loads((output / "results.json").read_text())
    assert list(figures) == [*chosen[:4], "LayerNorms, half way", "LoRA", "LoRA, half way"]
    assert figures["frozen"]["difference"]["value"] == 0
    stored = {arm: torch.cat([_scores(output, arm, group) for group in range(5)]) for arm in chosen}
    assert {scores.shape for scores in stored.values()} == {(30, 2)}
    for arm in chosen[1:]:
        assert not torch.allclose(stored[arm], stored["frozen"]), arm
    (output / "views-32.npy").unlink()  # a second call has all fits, and needs no pixels
    assert run(backbone_tuning, monkeypatch, capsys, data, "--output", output, "--arms", *chosen) == printed


def _scores(output, arm, group):
    return backbone_tuning.load_file(backbone_tuning.fit_path(output, arm, group))["scores"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("norm", lambda of: "norm" in of), ("lora_", lambda of: "lora_" in of), ("", lambda of: True)],
)
def test_the_part_that_is_named_is_trained(tower, name, expected):
    model = CLIPVisionModelWithProjection.from_pretrained(tower)
    trained = list(backbone_tuning.train_part(model, name, torch.device("cpu")))
    names = {of for of, parameter in model.named_parameters() if parameter.requires_grad}
    assert names == {of for of, _ in model.named_parameters() if expected(of)}
    assert len(trained) == len(names) > 0


def test_the_regression_is_scikit_learns():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(200, 12)).astype(np.float32)
    labels = (features[:, 0] + generator.normal(size=200) > 0).astype(int)
    weights = generator.uniform(0.5, 2, size=200)
    weights = (weights / weights.mean()).astype(np.float32)
    expected = LogisticRegression(C=backbone_tuning.INVERSE_PENALTY, tol=1e-8).fit(features, labels, weights)
    given = (torch.from_numpy(features), torch.tensor(labels, dtype=torch.float32), torch.from_numpy(weights))
    probe = backbone_tuning.regression(*given)
    np.testing.assert_allclose(probe.weight.detach().numpy(), expected.coef_, atol=1e-4)
    np.testing.assert_allclose(probe.bias.detach().numpy(), expected.intercept_, atol=1e-4)


def test_parts_of_the_data(data, tower, tmp_path, monkeypatch, capsys):
    build_feature_bank(load_records(DataArguments(data=str(data))), tmp_path / "bank", backbone=str(tower), views=2)
    printed = run(more_data, monkeypatch, capsys, tmp_path / "bank")
    assert "| 25 % of the sources" in printed
    whole = [line.split("|")[2:] for line in printed.splitlines() if line.startswith("| 100 %")]
    assert whole[0] == whole[1]  # all sources, and all pictures of each, are the same data
    assert int(whole[0][0]) == 30


def test_a_part_has_both_classes(data):
    pictures = load_records(DataArguments(data=str(data))).select_columns(["label", "source"]).to_pandas()
    for part in more_data.PARTS.values():
        chosen = part(pictures, 0.5, np.random.default_rng(0))
        assert set(pictures["label"][chosen]) == {0, 1}
        assert 10 <= chosen.sum() <= 20
