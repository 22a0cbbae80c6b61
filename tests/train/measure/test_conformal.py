"""The conformal threshold keeps its promise in simulation."""

import math

import numpy as np
import pytest

from train.measure.conformal import conformal_operating_point, photographs_for

DRAWS = 1000


@pytest.mark.parametrize("photographs", [50, 200, 1000])
@pytest.mark.parametrize("target", [0.05, 0.1])
def test_the_promise_holds_on_average_over_draws(photographs, target):
    """Uniform probabilities: the rate of a threshold t is 1 - t exactly."""
    rng = np.random.default_rng(0)
    points = [conformal_operating_point(rng.random(photographs), target) for _ in range(DRAWS)]
    rates = np.array([1 - min(point.threshold, 1) for point in points])
    error = 3 * rates.std() / math.sqrt(DRAWS)
    assert rates.mean() <= target + error
    assert abs(rates.mean() - points[0].expected_fpr) <= error
    within = np.mean(rates <= points[0].fpr_bound_95)
    assert abs(within - 0.95) <= 3 * math.sqrt(0.95 * 0.05 / DRAWS)


@pytest.mark.parametrize("photographs", [50, 200, 1000])
def test_the_promise_holds_with_ties_and_a_small_target(photographs):
    rng = np.random.default_rng(1)
    population = (rng.beta(0.3, 3, size=200_000) * 20).round() / 20  # 21 different values
    rates = []
    for _ in range(DRAWS):
        point = conformal_operating_point(rng.choice(population, photographs), 0.01)
        rates.append((population >= point.threshold).mean())
    assert np.mean(rates) <= 0.01


def test_the_rank_counts_by_hand():
    probabilities = np.arange(1, 20) / 20  # 19 photographs
    point = conformal_operating_point(probabilities, 0.05)
    assert (point.flagged, point.expected_fpr) == (0, pytest.approx(0.05))  # above the largest of 19
    assert point.threshold == math.nextafter(0.95, 2)
    assert conformal_operating_point(probabilities, 0.1).flagged == 1


def test_too_few_photographs_promise_nothing_and_flag_nothing():
    point = conformal_operating_point([1.0] * 98, 0.01)
    assert point.threshold > 1
    assert conformal_operating_point([0.5] * 99, 0.01).threshold < 1


@pytest.mark.parametrize(
    ("probabilities", "target", "message"),
    [
        ([], 0.1, "one or more"),
        ([0.5, np.nan], 0.1, "one or more"),
        ([2.0], 0.1, "one or more"),
        ([0.5], 0, "target_fpr"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(probabilities, target, message):
    with pytest.raises(ValueError, match=message):
        conformal_operating_point(probabilities, target)


@pytest.mark.parametrize("target", [0.01, 0.05])
def test_so_many_photographs_bring_the_bound_under_twice_the_target(target):
    enough = photographs_for(target, 2 * target)
    fewer = enough - round(1 / target)  # one photograph less above the threshold
    bounds = [conformal_operating_point(np.arange(n) / n, target).fpr_bound_95 for n in (fewer, enough)]
    assert bounds[1] <= 2 * target < bounds[0]
