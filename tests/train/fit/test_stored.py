"""The key of a stored fit changes with everything that decides it, and a file that differs is not loaded."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from docs.house import imports, modules
from modeling.embedded import ROOT
from tests.train.tiny_training import arguments
from train.features.bank import FeatureBank
from train.fit.stored import CODE, fit_key, load_fit, store_fit

# What these make or write is not a fit: a bank is in the key by its fingerprint.
BEFORE_A_FIT = ("train.data", "train.features", "train.publish", "train.report")
# Options are in the key by their values; figures and the key itself change no score.
DECIDES_NOTHING = {
    "train/arguments.py",
    "train/fit/options.py",
    "train/fit/stored.py",
    "train/measure/bootstrap.py",
    "train/measure/metrics.py",
    "train/measure/schema.py",
    "train/options.py",
}


@pytest.fixture
def bank():
    rows = pd.DataFrame({"label": [0, 1] * 4, "source": list("aabbccdd"), "view": 0})
    return FeatureBank(rows, torch.zeros(8, 4), torch.zeros(8, 4), {"fingerprint": "x"})


def test_the_key_changes_with_everything_that_decides_a_fit(bank, tiny_config, tmp_path):
    fitted, scored, config = np.arange(6), np.array([6, 7]), tiny_config()
    training = arguments(tmp_path)
    renamed = replace(bank, rows=bank.rows.assign(source=list("aaaaccdd")))
    keys = [
        fit_key(bank, fitted, scored, config, training),
        fit_key(replace(bank, info={"fingerprint": "y"}), fitted, scored, config, training),
        fit_key(replace(bank, text_embeds=None), fitted, scored, config, training),
        fit_key(renamed, fitted, scored, config, training),
        fit_key(bank, fitted[1:], scored, config, training),
        fit_key(bank, fitted, scored[1:], config, training),
        fit_key(bank, fitted, scored, tiny_config(head_depth=1), training),
        fit_key(bank, fitted, scored, tiny_config(image_layers=[1]), training),
        fit_key(bank, fitted, scored, config, replace(training, sam_rho=0.1)),
        fit_key(bank, fitted, scored, config, replace(training, balance_shapes=True)),
        fit_key(bank, fitted, scored, config, replace(training, seed=7)),
        fit_key(bank, fitted, scored, config, "logistic regression"),
        fit_key(bank, fitted, scored, config, training, inputs="text only"),
    ]
    assert len(set(keys)) == len(keys)


def test_the_key_stays_where_only_the_place_or_the_log_differs(bank, tiny_config, tmp_path):
    fitted, scored, config = np.arange(6), np.array([6, 7]), tiny_config()
    key = fit_key(bank, fitted, scored, config, arguments(tmp_path))
    elsewhere = arguments(tmp_path / "other", logging_strategy="steps", logging_steps=3, save_strategy="epoch")
    assert fit_key(bank, fitted, scored, config, elsewhere) == key
    moved = replace(bank, rows=bank.rows.assign(source=list("aabbccee")))  # a source that the fit does not see
    assert fit_key(moved, fitted, scored, config, arguments(tmp_path)) == key


def test_the_key_covers_the_code_that_decides_a_fit():
    graph, files = imports(ROOT), modules(ROOT)
    reached, pending = set(), ["train.fit.held_out"]
    while pending:
        name = pending.pop()
        if name not in reached and not name.startswith(BEFORE_A_FIT):
            reached.add(name)
            pending += [other for other in graph[name] if other.startswith("train")]
    reached = {str(files[name].relative_to(ROOT)) for name in reached}
    assert reached - set(CODE) == DECIDES_NOTHING
    assert set(CODE) - reached == {
        "modeling/configuration_robust_clip.py",
        "modeling/modeling_robust_clip.py",
        "train/features/bank.py",  # `narrow` chooses what the head reads of a bank
        "train/study/fits.py",  # and a study which inputs and rows
    }


def test_what_was_stored_is_loaded_and_nothing_else(tmp_path):
    path, shapes = tmp_path / "fits" / "fit.safetensors", {"scores": (3,), "seconds": ()}
    store_fit(path, {"scores": torch.arange(3.0), "seconds": torch.tensor(2.0)})
    assert load_fit(path, shapes)["scores"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"must hold 'scores' of shape \(2,\), got \(3,\): delete it"):
        load_fit(path, shapes | {"scores": (2,)})
    with pytest.raises(ValueError, match=r"must hold 'head' of shape \(1, 2\), got none: delete it"):
        load_fit(path, shapes | {"head": (1, 2)})
    with pytest.raises(ValueError, match=r"must hold 'seconds' of shape none at all, got \(\): delete it"):
        load_fit(path, {"scores": (3,)})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="is damaged .*: delete it, and it is made again"):
        load_fit(path, shapes)
