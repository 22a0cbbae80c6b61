"""What sets of a size cannot show, against simulation and by hand; what an evaluation says of it."""

import numpy as np
import pytest

from modeling.embedded import DEFAULT_SOURCE
from train.measure.limits import chance_auc, pictures_for, rate_bound
from train.report.evaluation_file import read_evaluation
from train.report.limits import limits_sentences


@pytest.mark.parametrize(("real", "generated"), [(10, 10), (30, 8), (50, 50)])
def test_scores_that_say_nothing_reach_that_auc_in_one_set_of_20(real, generated):
    scores = np.random.default_rng(0).random((2000, real + generated))
    ranks = scores.argsort(axis=1).argsort(axis=1)[:, real:].sum(axis=1) - generated * (generated - 1) / 2
    reached = ranks / (real * generated) >= chance_auc(real, generated)
    assert np.mean(reached) == pytest.approx(0.05, abs=0.015)
    assert chance_auc(2, 2) == 1


def test_the_bound_of_a_rate_is_where_no_error_comes_one_time_in_twenty():
    assert (1 - rate_bound(299)) ** 299 == pytest.approx(0.05)
    assert pictures_for(0.01) == 299 and rate_bound(299) <= 0.01 < rate_bound(298)


def test_a_large_evaluation_has_no_such_sentence():
    assert limits_sentences(read_evaluation(DEFAULT_SOURCE)) == []


def test_each_limit_is_said_where_it_begins():
    evaluation = read_evaluation(DEFAULT_SOURCE)

    def said(real, generated, real_sources=20, generated_sources=20):
        evaluation["pictures"] = {"real": real, "generated": generated}
        evaluation["sources"] = {"real": real_sources, "generated": generated_sources}
        return limits_sentences(evaluation)

    assert said(299, 100) == []
    assert said(298, 100)[0].startswith("Few real pictures: even where none of 298 is called generated, the rate may ")
    assert said(299, 100, 19)[0].startswith("Few sources: 19 of real pictures. Intervals over fewer than 20")
    assert said(2, 2, 2, 2) == [
        "Few pictures: with 2 real and 2 generated, scores that say nothing reach a ROC AUC of 1.00 in one set of 20.",
        "Few real pictures: even where none of 2 is called generated, the rate may be 77.6 % (95 % confidence). To "
        "show less than 1 % takes 299.",
        "Few sources: 2 of real pictures and 2 of generated pictures. Intervals over fewer than 20 sources are too "
        "narrow, and new sources may differ more than these do.",
    ]
    assert said(0, 300) == [] and said(300, 0) == []
