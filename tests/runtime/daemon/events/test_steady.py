"""A count that follows another one, but not its every flicker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from edgepose.runtime.daemon.events.steady import SteadyCount


def followed(counts: Iterable[int | None], after_s: float = 0.5, until_s: float = 2.0, fps: float = 10) -> list[int]:
    steady = SteadyCount(after_s, until_s)
    return [steady.update(index / fps, count) for index, count in enumerate(counts)]


def test_it_rises_after_one_delay_and_falls_after_the_other() -> None:
    counts = followed([1] * 10 + [0] * 30)
    assert counts.index(1) == 5
    assert counts[10:].index(0) in (19, 20)


def test_a_missed_and_a_phantom_frame_change_nothing() -> None:
    present = [1] * 20 + [0] + [1] * 20 + [0, 0] + [1] * 20
    assert set(followed(present)[6:]) == {1}
    assert set(followed([0] * 20 + [1] + [0] * 20 + [1, 1] + [0] * 20)) == {0}


def test_without_delays_it_follows_at_once() -> None:
    counts = [0, 1, 3, 0, 2]
    assert followed(counts, 0, 0) == counts


def test_it_rises_to_the_least_that_was_seen_and_then_further() -> None:
    counts = followed([2, 3, 2, 3, 3, 2] + [3] * 12)
    assert counts[6] == 2 and counts[-1] == 3 and 1 not in counts


def test_what_nobody_knows_changes_nothing() -> None:
    assert set(followed([1] * 10 + [None] * 100)[6:]) == {1}


def test_a_gap_is_taken_for_two_seconds_at_most() -> None:
    steady = SteadyCount(after_s=5, until_s=5)
    assert [steady.update(at, 1) for at in (0.0, 100.0, 101.0, 102.0, 103.1)] == [0, 0, 0, 0, 1]


@given(st.lists(st.integers(0, 4) | st.none(), max_size=80), st.sampled_from([0.0, 0.2, 1.0]), st.sampled_from([0.0, 0.3, 2.0]))
def test_it_never_says_what_was_never_seen(counts: Sequence[int | None], after_s: float, until_s: float) -> None:
    found = followed(counts, after_s, until_s)
    assert set(found) <= {0, *(count for count in counts if count is not None)}


@given(st.integers(0, 5), st.integers(0, 5))
def test_it_arrives_at_what_lasts(first: int, second: int) -> None:
    found = followed([first] * 30 + [second] * 40)
    assert found[29] == first and found[-1] == second
