"""Counting: each kind's rule, by examples from the literature, and what ties and empty polls come to."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.polls.counting import (
    AGREE,
    OBJECT,
    RANKED,
    STAND_ASIDE,
    Content,
    Kind,
    Profile,
    Result,
    count,
    is_valid,
    tally,
)

MEMPHIS, NASHVILLE, CHATTANOOGA, KNOXVILLE = range(4)
TENNESSEE: Profile = {
    (MEMPHIS, NASHVILLE, CHATTANOOGA, KNOXVILLE): 42,
    (NASHVILLE, CHATTANOOGA, KNOXVILLE, MEMPHIS): 26,
    (CHATTANOOGA, KNOXVILLE, NASHVILLE, MEMPHIS): 15,
    (KNOXVILLE, CHATTANOOGA, NASHVILLE, MEMPHIS): 17,
}
"""Where to put the capital of Tennessee, the example of Wikipedia's articles on voting methods; in percent."""


def letters(**ballots: int) -> Profile:
    """Ballots as papers write them: ``ACBED=5``."""
    return {tuple("ABCDE".index(letter) for letter in order): number for order, number in ballots.items()}


def test_the_capital_of_tennessee_depends_on_the_rule() -> None:
    firsts: Profile = {(ranking[0],): number for ranking, number in TENNESSEE.items()}
    assert count(Kind.SINGLE, 4, firsts).winners == (MEMPHIS,)
    by_points = count(Kind.POINTS, 4, TENNESSEE)
    assert by_points.winners == (NASHVILLE,)
    assert by_points.scores == (126, 194, 173, 107)
    assert count(Kind.SCHULZE, 4, TENNESSEE).winners == (NASHVILLE,)
    by_runoff = count(Kind.RUNOFF, 4, TENNESSEE)
    assert by_runoff.winners == (KNOXVILLE,)
    assert [round_.out for round_ in by_runoff.rounds] == [(CHATTANOOGA,), (NASHVILLE,), ()]
    assert by_runoff.rounds[-1].votes == {MEMPHIS: 42, KNOXVILLE: 58}


@pytest.mark.parametrize("kind", RANKED)
def test_a_result_is_read_as_it_was_stored(kind: Kind) -> None:
    found = count(kind, 4, TENNESSEE)
    assert Result.read(found.stored()) == found


def test_approval_in_tennessee() -> None:
    """Wikipedia, "Approval voting": everybody approves of their two nearest cities but Memphis' people of one."""
    approved = {
        (MEMPHIS,): 42,
        (NASHVILLE, CHATTANOOGA): 26,
        (CHATTANOOGA, KNOXVILLE): 15,
        (KNOXVILLE, CHATTANOOGA): 17,
    }
    found = count(Kind.SEVERAL, 4, approved)
    assert found.winners == (CHATTANOOGA,)
    assert found.scores == (42, 26, 58, 32)


def test_schulzes_first_example() -> None:
    """Schulze (2011), example 1: 45 voters; the order is E, A, C, B, D."""
    ballots = letters(ACBED=5, ADECB=5, BEDAC=8, CABED=3, CAEBD=7, CBADE=2, DCEBA=7, EBADC=8)
    found = count(Kind.SCHULZE, 5, ballots)
    assert found.winners == (4,)
    assert sorted(range(5), key=lambda option: -found.scores[option]) == [4, 0, 2, 1, 3]


def test_schulzes_second_example() -> None:
    """Schulze (2011), example 2: 30 voters; D wins."""
    ballots = letters(ACBD=5, ACDB=2, ADCB=3, BACD=4, CBDA=3, CDBA=3, DACB=1, DBAC=5, DCBA=4)
    assert count(Kind.SCHULZE, 4, ballots).winners == (3,)


def test_schulzes_example_without_a_unique_winner() -> None:
    """Schulze (2011), example 4: 9 voters; B and D are both potential winners."""
    assert count(Kind.SCHULZE, 4, letters(ABCD=3, CBDA=2, DABC=2, DBCA=2)).winners == (1, 3)


def test_in_a_runoff_of_equals_an_earlier_round_decides_who_leaves() -> None:
    # C leaves first. Then A and B have 4 each, D 5; in the first round A had 4 and B 3.
    ballots = letters(ABD=4, BAD=3, CBA=1, DAB=5)
    found = count(Kind.RUNOFF, 4, ballots)
    assert [round_.out for round_ in found.rounds] == [(2,), (1,), ()]
    assert found.winners == (0,)


def test_a_runoff_that_nothing_decides_is_a_tie() -> None:
    assert count(Kind.RUNOFF, 3, {(0, 1, 2): 2, (1, 0, 2): 2}).winners == (0, 1)
    assert count(Kind.RUNOFF, 2, {(0,): 1, (1,): 1}).winners == (0, 1)


def test_a_ballot_whose_options_have_all_left_counts_no_more() -> None:
    found = count(Kind.RUNOFF, 3, {(0,): 3, (1, 0): 2, (2,): 1})
    assert found.rounds[-1].votes == {0: 3, 1: 2}
    assert found.winners == (0,)


def test_of_dates_most_can_come_and_then_most_gladly() -> None:
    assert count(Kind.DATES, 3, {(2, 1, 0): 3, (0, 1, 2): 2}).winners == (1,)  # five can come if need be
    assert count(Kind.DATES, 2, {(2, 2): 1, (2, 1): 1}).winners == (0,)  # both suit two; the first one gladly
    assert count(Kind.DATES, 2, {(0, 0): 4}).winners == ()


def test_dots_are_added_up() -> None:
    assert count(Kind.DOTS, 3, {(3, 0, 0): 1, (0, 2, 1): 2}) == count(Kind.DOTS, 3, {(0, 4, 2): 1, (3, 0, 0): 1})
    assert count(Kind.DOTS, 3, {(3, 0, 0): 1, (0, 2, 1): 2}).winners == (1,)


def test_one_objection_stands_in_the_way_of_consent_and_standing_aside_does_not() -> None:
    assert count(Kind.CONSENT, 3, {(AGREE,): 1, (STAND_ASIDE,): 9}).winners == (AGREE,)
    assert count(Kind.CONSENT, 3, {(AGREE,): 99, (OBJECT,): 1}).winners == ()
    assert count(Kind.CONSENT, 3, {(STAND_ASIDE,): 2}).winners == ()


def test_the_least_resistance_wins_even_against_a_majority() -> None:
    """The pattern of Schrotta's introductions: a majority's favourite that a minority cannot bear."""
    found = count(Kind.RESISTANCE, 3, {(0, 3, 9): 3, (10, 2, 8): 2})
    assert found.scores == (20, 13, 43)
    assert found.winners == (1,)


@pytest.mark.parametrize("kind", Kind)
def test_of_an_empty_poll_nobody_is_the_winner(kind: Kind) -> None:
    assert count(kind, 3, {}).winners == ()
    assert count(kind, 3, {(0, 1, 2): 0}).scores == (0, 0, 0)


@pytest.mark.parametrize(
    ("kind", "content", "fits"),
    [
        (Kind.SINGLE, (1,), True),
        (Kind.SINGLE, (0, 1), False),
        (Kind.SINGLE, (), False),
        (Kind.SINGLE, (3,), False),
        (Kind.SEVERAL, (0, 2), True),
        (Kind.SEVERAL, (0, 1, 2), False),
        (Kind.SEVERAL, (1, 1), False),
        (Kind.DATES, (2, 1, 0), True),
        (Kind.DATES, (2, 3, 0), False),
        (Kind.DATES, (2, 1), False),
        (Kind.SCHULZE, (2, 0), True),
        (Kind.RUNOFF, (2, 2), False),
        (Kind.POINTS, (-1,), False),
        (Kind.DOTS, (2, 0, 0), True),
        (Kind.DOTS, (2, 1, 0), False),
        (Kind.DOTS, (0, 0, 0), False),
        (Kind.CONSENT, (2,), True),
        (Kind.RESISTANCE, (0, 10, 5), True),
        (Kind.RESISTANCE, (0, 11, 5), False),
        (Kind.RESISTANCE, (0, -1, 5), False),
    ],
)
def test_a_ballot_fits_its_kind_or_is_refused(kind: Kind, content: Content, fits: bool) -> None:
    assert is_valid(kind, content, 3, 2) is fits


rankings = st.dictionaries(
    st.sampled_from([order for size in (1, 2, 3, 4) for order in permutations(range(4), size)]),
    st.integers(1, 9),
    min_size=1,
    max_size=8,
)


@given(rankings)
def test_whoever_beats_each_other_wins_by_schulze_and_nobodys_name_matters(profile: Profile) -> None:
    def prefers(one: int, other: int) -> int:
        return sum(
            number
            for order, number in profile.items()
            if one in order and (other not in order or order.index(one) < order.index(other))
        )

    beats_all = [
        one for one in range(4) if all(prefers(one, other) > prefers(other, one) for other in range(4) if other != one)
    ]
    winners = count(Kind.SCHULZE, 4, profile).winners
    assert winners
    if beats_all:
        assert list(winners) == beats_all
    renamed = {tuple(3 - option for option in order): number for order, number in profile.items()}
    for kind in RANKED:
        mirrored = tuple(sorted(3 - option for option in count(kind, 4, renamed).winners))
        assert count(kind, 4, profile).winners == mirrored


@given(rankings)
def test_the_winner_of_a_runoff_has_a_majority_of_what_still_counts(profile: Profile) -> None:
    found = count(Kind.RUNOFF, 4, profile)
    last = found.rounds[-1].votes
    if len(found.winners) == 1:
        assert last[found.winners[0]] * 2 > sum(last.values()) or len(last) == 1
    else:
        assert len({last[option] for option in found.winners}) == 1


def test_a_tally_is_the_sum_of_its_ballots() -> None:
    assert tally(Kind.POINTS, 3, {(0, 1, 2): 2, (2,): 1}) == {(0, 0): 4, (1, 0): 2, (0, 1): 2, (2, 0): 2, (2, 1): 1}
    assert tally(Kind.DATES, 2, {(2, 1): 3, (1, 0): 1}) == {(0, 0): 3, (0, 1): 1, (1, 1): 3}
