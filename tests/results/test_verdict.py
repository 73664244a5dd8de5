"""One verdict rule: the paired 95 % interval against every baseline."""

import math

import numpy as np
import pytest
from scipy import stats

from encore.results.verdict import comparative_verdict, confidence_interval, paired_difference


def test_interval_is_students():
    values = [1.0, 2.0, 4.0, 3.5]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    interval = confidence_interval(values)
    assert interval.low == pytest.approx(low)
    assert interval.high == pytest.approx(high)


def test_one_value_has_no_bounded_interval():
    assert math.isinf(confidence_interval([3.0]).high)


def test_a_clear_margin_holds_and_its_reverse_is_broken():
    method, baseline = [10.0, 11.0, 12.0], [5.0, 6.1, 6.9]
    assert comparative_verdict("higher", method, {"b": baseline})[0] is True
    assert comparative_verdict("higher", baseline, {"b": method})[0] is False
    assert comparative_verdict("lower", baseline, {"b": method})[0] is True
    assert comparative_verdict("lower", method, {"b": baseline})[0] is False


def test_an_interval_that_straddles_zero_is_open():
    assert comparative_verdict("higher", [10.0, 11.0, 12.0], {"b": [9.0, 12.0, 11.0]})[0] is None


@pytest.mark.parametrize("direction", ["higher", "lower"])
@pytest.mark.parametrize(
    ("differences", "due"),
    [
        ([-0.3, -0.2, -0.4], True),
        ([0.3, 0.2, 0.4], True),
        ([-4.0, -3.9, -4.1], False),
        ([0.9, -3.0, -1.0], None),
        ([-0.1, -0.2], None),
    ],
)
def test_about_as_good_means_within_the_margin(direction: str, differences: list[float], due: bool | None):
    sign = 1 if direction == "higher" else -1
    measured = [50 + sign * one for one in differences]
    holds, why = comparative_verdict(direction, measured, {"b": [50.0] * len(measured)}, margin=1.0)
    assert holds is due
    if len(measured) > 2:
        assert ("above -1" if direction == "higher" else "below +1") in why
    assert comparative_verdict(direction, measured, {"b": [50.0] * len(measured)})[0] is not True or differences[0] > 0


def test_fewer_than_three_seeds_are_open_however_clear():
    holds, why = comparative_verdict("higher", [10.0, 11.0], {"b": [1.0, 2.0]})
    assert holds is None
    assert "2 seeds" in why


def test_every_baseline_has_to_be_beaten():
    method = [10.0, 11.0, 12.0]
    weak, equal, strong = [1.0, 2.0, 3.1], [10.0, 11.5, 11.4], [20.0, 21.0, 22.1]
    assert comparative_verdict("higher", method, {"weak": weak, "equal": equal})[0] is None
    assert comparative_verdict("higher", method, {"weak": weak, "strong": strong})[0] is False


def test_pairing_removes_what_the_seeds_share():
    method = [10.0, 50.0, 90.0]
    baseline = [9.0, 48.9, 89.05]
    assert comparative_verdict("higher", method, {"b": baseline})[0] is True


def test_a_constant_difference_has_an_interval_of_no_width():
    difference = paired_difference([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    assert difference.low == difference.high == 1.0


def test_lists_of_different_length_cannot_be_paired():
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference([1.0], [1.0, 2.0])
