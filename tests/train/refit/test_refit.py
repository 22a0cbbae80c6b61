"""A tiny head is corrected on a kind that it gets wrong, and judged by sources that no correction saw."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modeling import RobustClipForImageClassification, RobustClipImageProcessor
from modeling.checkpoints import SET_ASIDE_FILE
from modeling.detector import Detector
from modeling.embedded import CARD_FILE, EXPECTED_SCORES
from modeling.proof import write_expected
from tests.train.tiny_bank import WIDTH, write_bank_to_fit
from train.data.options import DataArguments
from train.embedding_dataset import score_embeddings
from train.evaluate import evaluate_checkpoint
from train.features.bank import FeatureBank
from train.measure.set_aside import set_aside_of
from train.refit.commands import refit
from train.refit.options import RefitArguments

# One direction tells the classes apart, and one tells whether a picture is of the new kind.
CLASS, KIND = 0, 1


def known_kind(rows, embeds):
    """Pictures that the head is right about."""
    embeds[:, CLASS] += 6 * rows["label"].to_numpy() - 3
    embeds[:, KIND] *= 0.3
    return embeds


def new_kind(rows, embeds):
    """Pictures of either class that the head takes for generated."""
    embeds[:, CLASS] += 4
    embeds[:, KIND] += 6
    return embeds


def with_an_odd_source(rows, embeds):
    """The same with real pictures of one source that are of the new kind, and that the head is right about."""
    embeds = known_kind(rows, embeds)
    odd = (rows["source"] == "s0").to_numpy() & (rows["label"] == 0).to_numpy()
    embeds[odd, CLASS] += 2
    embeds[odd, KIND] += 6
    return embeds


def like_the_odd_source(rows, embeds):
    """Pictures of either class that look as the real ones of that source do."""
    return with_an_odd_source(rows.assign(label=0, source="s0"), embeds)


def of_class(label, prefix):
    """Pictures of one class, under sources of other names."""
    return lambda rows: rows[rows["label"] == label].assign(source=prefix + rows["source"])


def write_some(folder, backbone, embeds_of, change):
    """A bank with those of the tiny bank's rows that `change` keeps."""
    write_bank_to_fit(folder, backbone, change=lambda rows: change(rows).reset_index(drop=True))
    rows = FeatureBank.load(folder).rows
    embeds = embeds_of(rows, np.random.default_rng(1).normal(size=(len(rows), WIDTH)))
    np.save(folder / "image_embeds.npy", embeds.astype(np.float32))
    return folder


@pytest.fixture
def checkpoint(backbone, tmp_path):
    """A head that knows the direction of the class alone, with pictures that were set aside."""
    model = RobustClipForImageClassification.from_backbone(
        str(backbone), use_text=False, head_depth=1, head_width=4, generated_threshold=0.8, real_threshold=0.2
    ).eval()
    torch.manual_seed(0)
    model.reset_head()
    with torch.no_grad():
        model.head.layers[0].weight.mul_(0.05)
        model.head.layers[0].weight[:, CLASS] = torch.tensor([1.0, 1.0, -1.0, -1.0])
        model.head.layers[-1].weight.copy_(torch.tensor([[1.0, 1.0, -1.0, -1.0]]))
    folder, processor = tmp_path / "shipped", RobustClipImageProcessor(size=32)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    write_expected(model, processor, folder)
    bank = FeatureBank.load(write_bank_to_fit(tmp_path / "aside", backbone, with_an_odd_source))
    rows = bank.rows.assign(source=bank.rows["source"] + bank.rows["label"].astype(str))
    set_aside_of(FeatureBank(rows, bank.image_embeds, None, bank.info), model).save(folder)
    return folder


@pytest.fixture
def false_alarms(backbone, tmp_path):
    return write_some(tmp_path / "new", backbone, new_kind, of_class(0, "art-"))


def run(checkpoint, bank, output, **options):
    refit(RefitArguments(output=str(output), checkpoint=str(checkpoint), **options), DataArguments(data=str(bank)))


def test_false_alarms_alone_teach_a_kind_and_cost_nothing_elsewhere(
    checkpoint, false_alarms, backbone, tmp_path, capsys
):
    before = {file.name: file.read_bytes() for file in checkpoint.iterdir()}
    run(checkpoint, false_alarms, tmp_path / "copy")
    assert "Better by all that was measured." in capsys.readouterr().out
    assert {file.name: file.read_bytes() for file in checkpoint.iterdir()} == before
    copy, correction = (
        Detector.from_pretrained(tmp_path / "copy"),
        json.loads((tmp_path / "copy" / "config.json").read_text())["corrections"][0],
    )
    assert correction["pictures"] == {"real": 120, "generated": 0}
    assert correction["base"]["version"] == Detector.from_pretrained(checkpoint).version != copy.version
    flagged = correction["held_out"]["false_positive_rate"]
    assert flagged["before"] > 0.8
    assert flagged["after"] < 0.2
    assert correction["set_aside"]["true_positive_rate"]["after"] > 0.9
    fresh = FeatureBank.load(write_some(tmp_path / "fresh", backbone, known_kind, lambda rows: rows))
    right = (score_embeddings(copy.model, fresh.image_embeds) > 0) == (fresh.rows["label"] == 1)
    assert right.mean() > 0.95
    assert (copy.model.config.real_threshold, copy.model.config.generated_threshold) == (0.2, 0.8)
    assert "set aside" in copy.model.config.operating_point["measured_on"]
    weights, old = (load_file(folder / "model.safetensors") for folder in (tmp_path / "copy", checkpoint))
    moved = {name for name, tensor in weights.items() if not torch.equal(tensor, old[name])}
    assert moved == {name for name in weights if name.startswith("head.") and name.endswith(("weight", "bias"))}


def test_the_copy_says_what_it_carries_and_is_the_same_each_time(checkpoint, false_alarms, tmp_path):
    copy = tmp_path / "copy"
    for folder in (copy, tmp_path / "other"):
        run(checkpoint, false_alarms, folder)
    assert all(file.read_bytes() == (tmp_path / "other" / file.name).read_bytes() for file in copy.iterdir())
    assert {path.name for path in copy.iterdir()} >= {EXPECTED_SCORES, CARD_FILE, "config.json"}
    assert not (copy / SET_ASIDE_FILE).exists()
    card = (copy / CARD_FILE).read_text()
    assert "Corrected by 120 real pictures of 6 sources" in card
    assert "It was found better than its base" in card
    detector = Detector.from_pretrained(copy)
    name = f"copy + correction of {detector.corrections[0]['date']}"
    assert detector.name == detector.detect_many([b"no picture"])[0].to_dict()["model"] == name
    evaluation, _ = evaluate_checkpoint(copy, FeatureBank.load(false_alarms), name="copy")
    assert evaluation["checkpoint"]["name"] == name
    assert evaluation["checkpoint"]["in_sample"]
    with pytest.raises(ValueError, match="was corrected before"):
        run(copy, false_alarms, tmp_path / "again")


def test_a_correction_that_harms_real_pictures_is_refused_unless_asked_for(checkpoint, backbone, tmp_path, capsys):
    bank = write_some(tmp_path / "new", backbone, like_the_odd_source, of_class(1, "odd-"))
    with pytest.raises(ValueError, match=r"^Not better\. .*Nothing was written") as caught:
        run(checkpoint, bank, tmp_path / "copy")
    assert re.search(
        r"Of 72 of the real pictures that were set aside \d+ more are called generated", str(caught.value)
    )
    assert not (tmp_path / "copy").exists()
    assert "real, called generated" in capsys.readouterr().out
    run(checkpoint, bank, tmp_path / "copy", anyway=True)
    assert "Not better." in capsys.readouterr().out
    assert not Detector.from_pretrained(tmp_path / "copy").corrections[0]["better"]
    assert "**It was not found better" in (tmp_path / "copy" / CARD_FILE).read_text()


def real(rows, source):
    return rows[rows["label"] == 0].assign(source=source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[rows["label"] == 0].head(30), "needs 20 pictures of 4 sources.*got 15 of 6"),
        (lambda rows: real(rows, "one"), "got 120 of 1"),
        (lambda rows: rows.assign(source=rows["source"].where(rows["label"] == 0, "g")), "2 sources of generated"),
        (lambda rows: real(rows, rows["source"] + "0"), "was set aside to judge by"),
    ],
)
def test_pictures_that_cannot_judge_a_correction_are_refused(change, message, checkpoint, backbone, tmp_path):
    bank = write_some(tmp_path / "new", backbone, new_kind, change)
    with pytest.raises(ValueError, match=message):
        run(checkpoint, bank, tmp_path / "copy")


def test_checkpoints_and_banks_that_do_not_belong_together_are_refused(
    checkpoint, false_alarms, tiny_text_folder, tmp_path
):
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="exists: choose a new folder"):
        run(checkpoint, false_alarms, tmp_path / "there")
    with pytest.raises(ValueError, match="reads text"):
        run(tiny_text_folder, false_alarms, tmp_path / "copy")
    info = json.loads((false_alarms / "bank.json").read_text())
    (false_alarms / "bank.json").write_text(json.dumps(info | {"backbone_sha256": "another"}))
    with pytest.raises(ValueError, match="another backbone"):
        run(checkpoint, false_alarms, tmp_path / "copy")
    (checkpoint / SET_ASIDE_FILE).unlink()
    with pytest.raises(ValueError, match="has no set_aside.safetensors"):
        run(checkpoint, false_alarms, tmp_path / "copy")
