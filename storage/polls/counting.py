"""Counting: what a ballot of each kind holds, and the rule by which each kind finds its winner."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

Content = tuple[int, ...]
"""What a ballot says. Options are positions from 0. Kinds of ``EACH`` hold one number for each option, the others
options: one, some, or all in the voter's order."""

Profile = Mapping[Content, int]
"""How many ballots say the same."""

MOST_RESISTANCE = 10
YES, IF_NEED_BE, NO = 2, 1, 0
AGREE, STAND_ASIDE, OBJECT = 0, 1, 2
"""The options of a consent poll."""


class Kind(StrEnum):
    """What is put on a ballot, and how it is counted."""

    SINGLE = "single"
    SEVERAL = "several"
    DATES = "dates"
    POINTS = "points"
    RUNOFF = "runoff"
    SCHULZE = "schulze"
    DOTS = "dots"
    CONSENT = "consent"
    RESISTANCE = "resistance"


RANKED = (Kind.POINTS, Kind.RUNOFF, Kind.SCHULZE)
EACH = (Kind.DATES, Kind.DOTS, Kind.RESISTANCE)
ONE_PRESS = (Kind.SINGLE, Kind.SEVERAL, Kind.CONSENT)
"""Kinds where one press is a whole ballot, or adds to one."""


@dataclass(frozen=True, slots=True)
class Round:
    """A round of the instant run-off: the votes of each option still in it, and who leaves it."""

    votes: Mapping[int, int]
    out: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """The winners (several: a tie; none: nobody voted, or nothing was agreed on), and what each option got.

    ``scores`` are votes, approvals, points, dots, total resistance; for dates those who can come at all, for the
    Schulze method how many other options it is at least as strong as, for the run-off its votes in its last round.
    """

    winners: tuple[int, ...]
    scores: tuple[int, ...]
    rounds: tuple[Round, ...] = ()

    def stored(self) -> str:
        """As its row keeps it."""
        rounds = [[sorted(found.votes.items()), found.out] for found in self.rounds]
        return json.dumps([self.winners, self.scores, rounds])

    @classmethod
    def read(cls, stored: str) -> "Result":
        """From its row."""
        winners, scores, rounds = json.loads(stored)
        return cls(tuple(winners), tuple(scores), tuple(Round(dict(votes), tuple(out)) for votes, out in rounds))


def is_valid(kind: Kind, content: Content, options: int, most: int) -> bool:
    """Whether a ballot can be counted. ``most`` is how many may be chosen, or dots given."""
    if kind in EACH:
        if len(content) != options or min(content, default=-1) < 0:
            return False
        if kind is Kind.DOTS:
            return 1 <= sum(content) <= most
        return max(content) <= (YES if kind is Kind.DATES else MOST_RESISTANCE)
    chosen = len(set(content)) == len(content) and all(0 <= option < options for option in content)
    if kind in RANKED:
        return chosen and len(content) >= 1
    return chosen and 1 <= len(content) <= (most if kind is Kind.SEVERAL else 1)


def weights(kind: Kind, content: Content, options: int) -> dict[tuple[int, int], int]:
    """What a ballot adds to the tally, by option and slot: that part of each rule that can be added up.

    Slot 0 is the count that is shown: votes, points, dots, resistance; of dates the plain yes. Slot 1 holds, of
    dates, “if need be”, of rankings the first places.
    """
    if kind is Kind.DATES:
        return {(option, 0 if said == YES else 1): 1 for option, said in enumerate(content) if said != NO}
    if kind in EACH:
        return {(option, 0): amount for option, amount in enumerate(content) if amount}
    if kind in RANKED:
        places = {(option, 0): options - 1 - place for place, option in enumerate(content) if place < options - 1}
        return places | {(content[0], 1): 1}
    return {(option, 0): 1 for option in content}


def tally(kind: Kind, options: int, profile: Profile) -> dict[tuple[int, int], int]:
    """What the kept tally must be after these ballots."""
    found: dict[tuple[int, int], int] = {}
    for content, number in profile.items():
        for place, amount in weights(kind, content, options).items():
            found[place] = found.get(place, 0) + amount * number
    return found


def count(kind: Kind, options: int, profile: Profile) -> Result:
    """The result of a poll. The rule of each kind is told by the function in ``RULES``."""
    profile = {content: number for content, number in profile.items() if number}
    if not profile:
        return Result((), (0,) * options)
    return RULES[kind](options, profile, tally(kind, options, profile))


Rule = Callable[[int, Profile, Mapping[tuple[int, int], int]], Result]
Added = Mapping[tuple[int, int], int]


def plurality(options: int, _profile: Profile, added: Added) -> Result:
    """Whoever has most votes wins: plurality for one choice; for several, approval voting.

    Brams and Fishburn, "Approval Voting", American Political Science Review 72 (1978).
    """
    return _highest(_shown(options, added))


def dates(options: int, _profile: Profile, added: Added) -> Result:
    """The date at which most can come, "if need be" included; among those the one with most plain yes.

    The ballot of scheduling polls as Zou, Meir and Parkes describe it, "Strategic Voting Behavior in Doodle Polls",
    CSCW 2015.
    """
    yes = _shown(options, added)
    can_come = [yes[option] + added.get((option, 1), 0) for option in range(options)]
    best = max(zip(can_come, yes, strict=True))
    winners = tuple(option for option in range(options) if (can_come[option], yes[option]) == best)
    return Result(winners if best[0] else (), tuple(can_come))


def points(options: int, _profile: Profile, added: Added) -> Result:
    """Of *m* options the first of a ballot gets *m* - 1 points, the next *m* - 2, those left out none.

    Borda, "Mémoire sur les élections au scrutin", Histoire de l'Académie royale des sciences, 1781 (1784).
    """
    return _highest(_shown(options, added))


def runoff(options: int, profile: Profile, _added: Added) -> Result:
    """Until one has more than half of the ballots that still count, the last one leaves, and its ballots pass on.

    Instant run-off, Robert's Rules of Order (11th ed.), § 45, preferential voting. Of several last ones that one
    leaves which had fewer votes in the nearest earlier round that tells them apart; whom no round tells apart leave
    together, and when they are all that remain, it is a tie.
    """
    remaining = set(range(options))
    rounds: list[Round] = []
    scores = [0] * options
    while True:
        votes = dict.fromkeys(sorted(remaining), 0)
        for content, number in profile.items():
            first = next((option for option in content if option in remaining), None)
            if first is not None:
                votes[first] += number
        for option, number in votes.items():
            scores[option] = number
        most = max(votes.values())
        leading = tuple(option for option, number in votes.items() if number == most)
        last = tuple(option for option, number in votes.items() if number == min(votes.values()))
        for earlier in reversed(rounds):
            fewest = min(earlier.votes[option] for option in last)
            last = tuple(option for option in last if earlier.votes[option] == fewest)
        if most * 2 > sum(votes.values()) or len(last) == len(remaining):
            rounds.append(Round(votes, ()))
            return Result(leading, tuple(scores), tuple(rounds))
        rounds.append(Round(votes, last))
        remaining -= set(last)


def schulze(options: int, profile: Profile, _added: Added) -> Result:
    """Every two options are compared; a chain of victories is as strong as its weakest, and the strongest path counts.

    Schulze, "A new monotonic, independent of clones, reversal symmetric, and Condorcet-consistent single-winner
    election method", Social Choice and Welfare 36 (2011), by winning votes; options left out of a ballot are equal
    and behind the others. Several winners are those the paper calls potential winners.
    """
    prefers = [[0] * options for _ in range(options)]
    for content, number in profile.items():
        behind = set(range(options))
        for option in content:
            behind.discard(option)
            for other in behind:
                prefers[option][other] += number
    every = range(options)
    path = [[prefers[i][j] if prefers[i][j] > prefers[j][i] else 0 for j in every] for i in every]
    for through in every:
        for i in every:
            for j in every:
                if len({i, j, through}) == 3:
                    path[i][j] = max(path[i][j], min(path[i][through], path[through][j]))
    scores = tuple(sum(path[i][j] >= path[j][i] for j in every if j != i) for i in every)
    return Result(tuple(option for option in every if scores[option] == options - 1), scores)


def dots(options: int, _profile: Profile, added: Added) -> Result:
    """Everybody has the same number of dots to give out as they like; most dots win.

    Diceman, "Dotmocracy Handbook" (2010); as an election rule it is cumulative voting.
    """
    return _highest(_shown(options, added))


def consent(options: int, _profile: Profile, added: Added) -> Result:
    """A proposal is adopted when nobody objects with a reason; who stands aside does not stand in its way.

    Endenburg, "Sociocracy: The Organization of Decision-Making" (1998), the principle of consent.
    """
    said = _shown(options, added)
    return Result((AGREE,) if said[AGREE] and not said[OBJECT] else (), tuple(said))


def resistance(options: int, _profile: Profile, added: Added) -> Result:
    """Everybody says from 0 to 10 how much speaks against each option; the least total resistance wins.

    Visotschnig and Schrotta, "Das SK-Prinzip. Wie man Konflikte ohne Machtkämpfe löst" (2005): systemic consensing.
    """
    against = _shown(options, added)
    return Result(tuple(o for o in range(options) if against[o] == min(against)), tuple(against))


RULES: Mapping[Kind, Rule] = {
    Kind.SINGLE: plurality,
    Kind.SEVERAL: plurality,
    Kind.DATES: dates,
    Kind.POINTS: points,
    Kind.RUNOFF: runoff,
    Kind.SCHULZE: schulze,
    Kind.DOTS: dots,
    Kind.CONSENT: consent,
    Kind.RESISTANCE: resistance,
}


def _shown(options: int, added: Added) -> list[int]:
    return [added.get((option, 0), 0) for option in range(options)]


def _highest(scores: Sequence[int]) -> Result:
    most = max(scores)
    return Result(tuple(o for o, score in enumerate(scores) if score == most) if most else (), tuple(scores))
