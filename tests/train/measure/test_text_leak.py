"""What a text gives away is found by a classifier of the texts, whatever the head makes of them."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from train.measure.bias_audit import rule_folds
from train.measure.text_leak import measure_text, text_only_scores

NUMBER = 240
LABEL = np.arange(NUMBER) % 2


@pytest.fixture
def pictures():
    """Six sources a class; scores that say nothing."""
    source = [f"s{label}{i // 2 % 6}" for i, label in enumerate(LABEL)]
    score = np.random.default_rng(1).normal(size=NUMBER)
    return pd.DataFrame({"label": LABEL, "source": source, "score": score})


def measured(pictures, text):
    parts = {name: pictures["score"].to_numpy() for name in ("image only", "same text")}
    return measure_text(pictures, torch.from_numpy(text).float(), parts, rule_folds(pictures)[0], {}, {})


def noise():
    return np.random.default_rng(0).normal(size=(NUMBER, 4))


def test_texts_that_say_the_class_are_a_leak_though_the_head_ignores_them(pictures):
    figures = measured(pictures, noise() + 2 * LABEL[:, None])
    assert figures["auc"]["text only"]["value"] > 0.95
    assert figures["auc"]["a text at all"]["value"] == 0.5
    expected = f"a classifier of the texts alone has a ROC AUC of {figures['auc']['text only']['value']:.3f}."
    assert expected in figures["warning"]
    assert "a text at all" not in figures["warning"]


@pytest.mark.parametrize(("written", "shares"), [(LABEL == 1, "0.0 % .* 100.0 %"), (LABEL == 0, "100.0 % .* 0.0 %")])
def test_texts_of_one_class_alone_are_a_leak(pictures, written, shares):
    figures = measured(pictures, noise() * written[:, None])
    assert figures["pictures_with_text"] == {"real": float(written[0]), "generated": float(written[1])}
    assert figures["auc"]["a text at all"]["value"] == float(written[1])
    real, _, generated = shares.partition(" .* ")
    assert f"{real} of real and {generated} of generated pictures have a text at all" in figures["warning"]


def test_texts_that_say_nothing_are_no_leak(pictures):
    figures = measured(pictures, noise() * (np.arange(NUMBER) // 2 % 3 > 0)[:, None])
    assert figures["warning"] is None
    assert set(figures["auc"]) == {"image and text", "image only", "same text", "text only", "a text at all"}


def test_a_text_of_one_source_is_no_leak_of_others(pictures):
    """The classifier is held out by source: what it learns of a source says nothing of the next."""
    of_source = pd.factorize(pictures["source"])[0]
    text = 5 * np.eye(12)[of_source] + 0.1 * np.random.default_rng(0).normal(size=(NUMBER, 12))
    assert measured(pictures, text)["auc"]["text only"]["value"] < 0.7


def test_the_classifier_is_fitted_without_the_fold_that_it_scores():
    text = torch.from_numpy(noise()).float()
    rows = np.arange(NUMBER)
    folds = [(rows[rows % 3 != fold], rows[rows % 3 == fold]) for fold in range(3)]
    scores = text_only_scores(text, LABEL, folds)
    fitted, scored = folds[1]
    scaler = StandardScaler().fit(text.numpy()[fitted])
    alone = LogisticRegression(C=0.1, max_iter=2000).fit(scaler.transform(text.numpy()[fitted]), LABEL[fitted])
    expected = alone.decision_function(scaler.transform(text.numpy()[scored]))
    np.testing.assert_allclose(scores[scored], expected)


def test_what_cannot_be_held_out_is_not_measured(pictures):
    text = torch.from_numpy(noise()).float()
    figures = measure_text(pictures.assign(label=0), text, {}, [], {}, {})
    assert figures["auc"]["text only"] is None
    assert figures["warning"] is None
