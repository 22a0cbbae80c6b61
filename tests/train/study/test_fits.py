"""The fits of a study: which rows they see, what is stored, and that nothing stored is taken for another."""

from dataclasses import replace
from itertools import combinations
from threading import Thread

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from tests.train.tiny_bank import PICTURES, VIEWS
from tests.train.tiny_study import study, training
from train.embedding_dataset import score_embeddings
from train.features.bank import STANDARD_VIEW, FeatureBank
from train.fit.baselines import baseline_scores
from train.fit.head import fit_head, new_model
from train.fit.options import HeadArguments
from train.losses import robust_loss
from train.study.fits import Fit
from train.study.plan import Case


def outer(case, *seeds):
    return [Fit(case, seed, (group,)) for seed in seeds for group in range(3)]


def test_every_fit_leaves_out_whole_sources_and_standard_deliveries(banks, tmp_path):
    made = study(banks["image"], tmp_path)
    for left_out in [(0,), (1,), (2,), *combinations(range(3), 2)]:
        fitted, scored = made.training_rows(Fit(Case("x"), 0, left_out)), made.scored_rows(left_out)
        assert not set(made.sources[fitted]) & set(made.sources[scored])
        assert set(made.group[scored]) == set(left_out)
        assert made.view[fitted].min() == 0
        assert set(made.view[scored]) == {0, STANDARD_VIEW}
    assert set(made.view[made.training_rows(Fit(Case("x", views=1), 0, (0,)))]) == {0}


def test_a_case_is_not_fitted_on_what_it_is_without(banks, tmp_path):
    made = study(banks["image"], tmp_path)
    rows, every = made.banks[""].rows, made.training_rows(Fit(Case("x"), 0, (0,)))
    source = rows["source"][every[0]]
    of_source, real = (rows["source"][every] == source).to_numpy(), (made.labels[every] == 0)
    left_out = {"source": [source], "label": "real"}
    kept = made.training_rows(Fit(Case("x", without=[left_out]), 0, (0,)))
    assert np.array_equal(kept, every[~(of_source & real)])
    shares = [made.training_rows(Fit(Case("x", without=[{"label": "real", "share": s}]), 0, (0,))) for s in (0.3, 0.6)]
    assert set(every) > set(shares[0]) > set(shares[1])
    # All views of a picture or none, and the same pictures whatever else is held out.
    lost = set(rows["record_id"][np.setdiff1d(every, shares[0])])
    assert not lost & set(rows["record_id"][shares[0]])
    with pytest.raises(ValueError, match="names 'nowhere', which is no source of the bank"):
        made.training_rows(Fit(Case("x", without=[{"source": "nowhere"}]), 0, (0,)))


def test_scores_are_those_of_fit_head_on_the_other_sources(banks, tmp_path):
    made, case = study(banks["text"], tmp_path), Case("x", settings={"head_depth": 1, "learning_rate": 3e-3})
    made.make(outer(case, 3))
    scores = made.scores(case, [3])[:, 0]
    bank = FeatureBank.load(banks["text"])
    model = new_model(bank, HeadArguments(head_depth=1))
    for group in range(3):
        rows, held_out = np.flatnonzero(made.group != group), made.scored_rows((group,))
        fit_head(model, bank, rows, training(tmp_path, seed=3, learning_rate=3e-3))
        expected = score_embeddings(model, bank.image_embeds[held_out], bank.text_embeds[held_out])
        assert np.array_equal(scores[held_out], expected)
    assert np.isnan(scores).sum() == PICTURES * (VIEWS - 1)


def test_a_fit_that_is_there_is_not_made_again_and_another_one_is(banks, tmp_path):
    case = Case("x")
    study(banks["image"], tmp_path).make(outer(case, 0, 1))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "fits").iterdir()}
    assert len(files) == 6
    gone = sorted(files)[2]
    expected = load_file(gone)["scores"]
    gone.unlink()
    again, same = study(banks["image"], tmp_path), Case("the same", settings={"cvar_weight": 0.5})
    again.make([*outer(case, 0, 1), *outer(same, 1)])
    assert again.is_same(case, same, 0)
    assert not again.is_same(case, Case("another", settings={"cvar_weight": 0.4}), 0)
    assert torch.equal(load_file(gone)["scores"], expected)
    assert all(path.stat().st_mtime_ns == time for path, time in files.items() if path != gone)
    study(banks["image"], tmp_path, learning_rate=1e-3).make(outer(case, 0))
    assert len(list((tmp_path / "fits").iterdir())) == 9


@pytest.mark.parametrize(("inputs", "left_out"), [("all", {}), ("image", {"text_embeds": None})])
def test_a_baseline_sees_the_inputs_of_its_case(banks, tmp_path, inputs, left_out):
    made, bank = study(banks["text"], tmp_path), FeatureBank.load(banks["text"])
    fit = Fit(Case("x", baseline="logistic regression", inputs=inputs), 0, (0,))
    made.make([fit])
    rows, held_out = made.training_rows(fit), made.scored_rows((0,))
    expected = baseline_scores("logistic regression", replace(bank, **left_out), rows, held_out)
    assert np.array_equal(made.stored(fit)["scores"], expected)


def test_processes_on_one_folder_leave_each_other_the_fit_that_they_are_at(banks, tmp_path):
    made, case = study(banks["image"], tmp_path), Case("x", baseline="logistic regression")
    made.make(outer(case, 0))
    held, free, _ = sorted(made.folder.iterdir())
    held.unlink()
    free.unlink()
    with FileLock(f"{held}.lock", thread_local=False) as lock:
        other = Thread(target=study(banks["image"], tmp_path).make, args=(outer(case, 0),))
        other.start()
        while not free.is_file():
            other.join(0.01)
        assert not held.is_file()
        lock.release()
        other.join()
    assert held.is_file()
    assert not list(made.folder.glob("*.lock"))


def test_ratios_keep_the_number_of_pictures_and_nest_the_rare_class(banks, tmp_path):
    made = study(banks["image"], tmp_path)
    labels, records = made.labels, made.banks[""].rows["record_id"].to_numpy()
    earlier_real, totals = None, set()
    for ratio in (1, 10, 100):
        rows = made.training_rows(Fit(Case("x", ratio=ratio), 0, (1,)))
        assert 1 not in made.group[rows]
        real, generated = (set(records[rows[labels[rows] == label]]) for label in (0, 1))
        assert len(rows) == VIEWS * (len(real) + len(generated))
        assert len(real) == max(1, round((len(real) + len(generated)) / (ratio + 1)))
        assert earlier_real is None or real < earlier_real
        earlier_real = real
        totals.add(len(real) + len(generated))
    assert len(totals) == 1
    of_other_seed = made.training_rows(Fit(Case("x", ratio=1), 1, (1,)))
    assert not np.array_equal(of_other_seed, made.training_rows(Fit(Case("x", ratio=1), 0, (1,))))


@pytest.mark.parametrize("changes", [{}, {"cvar_over": "sources", "label_smoothing_factor": 0.2}])
def test_the_landscape_is_that_of_the_stored_head_on_its_training_rows(banks, tmp_path, changes):
    made, case = study(banks["text"], tmp_path, **changes), Case("no SAM", settings={"sam_rho": 0.0})
    fit = Fit(case, 0, (0,), keep_head=True)
    made.make([fit, Fit(case, 0, (0,))])
    measured = made.landscape(case, 0, with_grid=False)
    bank = FeatureBank.load(banks["text"])
    model, rows = new_model(bank, HeadArguments()), made.training_rows(fit)
    settings = training(tmp_path, seed=0, sam_rho=0.0, **changes)
    fit_head(model, bank, rows, settings)
    scores = torch.from_numpy(score_embeddings(model, bank.image_embeds[rows], bank.text_embeds[rows]))
    sources = torch.from_numpy(bank.rows["source"].factorize()[0][rows]) if changes else None
    labels = torch.tensor(bank.rows["label"].to_numpy()[rows])
    expected = robust_loss(scores, labels, sources=sources, label_smoothing=settings.label_smoothing_factor)
    assert measured["loss"] == pytest.approx(expected.loss.item(), rel=1e-5)
    assert measured["sharpness"]["rho"] == 0.05
