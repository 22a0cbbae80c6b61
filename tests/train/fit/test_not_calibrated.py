"""A fit that ranks worse than chance on sources that it has not seen: nothing of it is lost, and all of it says so."""

import numpy as np

from modeling.detector import Detector
from tests.pictures import picture
from tests.train.tiny_bank import write_bank_to_fit
from tests.train.tiny_training import arguments
from train.fit.commands import fit_and_report
from train.fit.options import FitArguments
from train.measure.sources import split
from train.publish.card import local_card
from train.report.evaluation_file import read_evaluation


def turned_in_one_half(rows, embeds):
    """What means generated in one fold means real in the other."""
    sign = 1 - 2 * split(rows, "source", 2)
    embeds[:, 0] = 9 * sign * (2 * rows["label"] - 1)
    return embeds


def test_figures_and_head_are_kept_where_nothing_can_be_calibrated(backbone, tmp_path, capsys):
    bank, output = write_bank_to_fit(tmp_path / "bank", backbone, turned_in_one_half), tmp_path / "out"
    settings = {"max_steps": 15, "per_device_train_batch_size": 64, "learning_rate": 1e-2}
    fit_and_report(FitArguments(bank=str(bank), folds=2, head_depth=1), arguments(output, **settings))
    evaluation = read_evaluation(output)
    assert evaluation["auc"]["value"] < 0.5
    assert evaluation["fit"]["calibration"] is None
    for verdicts in (evaluation["verdicts"], evaluation["fit"]["verdicts"]):
        assert [verdicts[name]["uncertain"]["value"] for name in ("real", "generated")] == [1, 1]
    said = "Not calibrated: held-out scores do not rise from real to generated"
    printed = capsys.readouterr().out
    assert 0 <= printed.find(said) < printed.index("ROC AUC")
    for text in (
        (output / "README.md").read_text(),
        (output / "report" / "report.md").read_text(),
        local_card(output),
    ):
        assert said in text
        assert "thresholds aim at" not in text and "How the thresholds were chosen" not in text
    detector = Detector.from_pretrained(output)
    config = detector.model.config
    assert (config.calibration_scale, config.calibration_bias, config.operating_point) == (1, 0, None)
    assert detector.detect(picture(3, 1)).verdict == "uncertain"
    assert np.isfinite(detector.detect(picture(3, 1)).probability)
