"""Separation of text, on vectors in a plane whose angles say what must come out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgevand.prompts import Embedded, Ensemble, Pair, separate

if TYPE_CHECKING:
    from numpy.typing import NDArray


def at(*degrees: float) -> NDArray[np.float64]:
    """Unit vectors of a plane."""
    return np.array([[math.cos(math.radians(one)), math.sin(math.radians(one))] for one in degrees])


def embedded(normal: NDArray[np.float64], abnormal: NDArray[np.float64], *, pairs: int = 0) -> Embedded:
    names = [f"n{i} {{}}" for i in range(len(normal))], [f"a{i} {{}}" for i in range(len(abnormal))]
    paired = tuple(Pair(n, a) for n, a in zip(names[0][-pairs:], names[1][-pairs:], strict=True)) if pairs else ()
    means = np.stack([normal.mean(axis=0), abnormal.mean(axis=0)])
    sides = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return Embedded(Ensemble("loss", tuple(names[0]), tuple(names[1]), paired), normal, abnormal, sides)


def test_cosine_and_swing_follow_from_the_angle_between_the_sides() -> None:
    found = separate([embedded(at(-10, 10), at(50, 70))])
    (group,) = found.groups
    assert group.cosine == pytest.approx(math.cos(math.radians(60)))
    assert group.swing == pytest.approx(100 * 2 * math.sin(math.radians(30)))
    assert (group.normal, group.abnormal, group.agreement, found.faults) == (2, 2, None, ())


def test_a_state_that_lies_on_the_other_side_is_named() -> None:
    found = separate([embedded(at(0, 5, 10), at(80, 85, 8))])
    (fault,) = found.faults
    assert (fault.kind, fault.group, fault.states) == ("astray", "loss", ("a2 {}",))
    assert "1 of 3 abnormal states lies nearer the other side" in fault.sentence


def test_a_state_is_not_held_against_its_own_pair() -> None:
    # n1 at 40 degrees: the mean of the other normals is at 0; that of the abnormals at 30 with its pair, 90 without.
    normal, abnormal = at(0, 40), at(90, -30)
    assert any("n1 {}" in fault.states for fault in separate([embedded(normal, abnormal)]).faults)
    assert all("n1 {}" not in fault.states for fault in separate([embedded(normal, abnormal, pairs=2)]).faults)


def test_a_state_alone_on_its_side_is_not_astray() -> None:
    assert separate([embedded(at(0), at(5))]).faults == ()


def test_pairs_that_point_against_each_other_are_named_and_agree_in_nothing() -> None:
    flat = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    shift = np.array([[0.1, 0.0, 0.0], [-0.1, 0.0, 0.0]])
    one = embedded(flat - shift, flat + shift, pairs=2)
    found = separate([one])
    assert found.groups[0].agreement == pytest.approx(0)
    opposed = [fault for fault in found.faults if fault.kind == "opposed"]
    assert [fault.states for fault in opposed] == [("a0 {}", "a1 {}")]
    assert "cosine -1.00" in opposed[0].sentence


@pytest.mark.parametrize(("degrees", "agreement"), [((0, 0), 1.0), ((0, 90), math.sqrt(0.5)), ((0, 120), 0.5)])
def test_agreement_is_the_length_of_the_mean_direction(degrees: tuple[float, float], agreement: float) -> None:
    abnormal = at(*degrees)
    found = separate([embedded(np.zeros((2, 2)), abnormal, pairs=2)])
    assert found.groups[0].agreement == pytest.approx(agreement)
