"""A poll in words: its kinds, how secret it is, its card in a group and in private, and its result."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from bot.choices import width
from bot.turn import Turn
from bot.types import Argument, Choice, Lines, Message, N, T, Text, Verbatim
from handlers.polls.reading import is_date
from storage.people import Group, Role
from storage.polls import voting
from storage.polls.counting import AGREE, IF_NEED_BE, NO, OBJECT, ONE_PRESS, RANKED, YES, Content, Kind, Result
from storage.polls.tables import Audience, Poll, Results, Secrecy, Status
from storage.polls.voting import Rules

CANCEL = Choice(T("Cancel"), "cancel")

BALLOT, RESISTANCE = "poll.ballot", "poll.resistance"
"""The steps of a ballot that is not cast yet: a whole one, and one that is asked for option by option."""

LONGEST_NOTE = 150
"""In UTF-16 code units: what takes more is said in bare numbers, since a note that pops up holds 200."""

NAMES = 20
"""How many voters' names an open poll shows; of the others it tells how many they are."""

FEW = 10
"""With fewer voters than this a result can give away who voted how: they are warned."""

BAR = 10
"""How long the longest bar is, in blocks."""

LONGEST_CARD = 3900
"""In UTF-16 code units: a longer card leaves out the names, so that it fits into one message and can be edited."""

KINDS: Mapping[Kind, Text] = {
    Kind.SINGLE: T("One choice"),
    Kind.SEVERAL: T("Several choices"),
    Kind.DATES: T("Finding a date"),
    Kind.POINTS: T("Ranking by points"),
    Kind.RUNOFF: T("Ranking with run-off"),
    Kind.SCHULZE: T("Ranking by comparison"),
    Kind.DOTS: T("Giving out dots"),
    Kind.CONSENT: T("Consent to a proposal"),
    Kind.RESISTANCE: T("Least resistance"),
}

SECRECIES: Mapping[Secrecy, Text] = {
    Secrecy.OPEN: T("open"),
    Secrecy.TEAM: T("for the team's eyes"),
    Secrecy.SECRET: T("secret"),
}

SECRECY: Mapping[Secrecy, Text] = {
    Secrecy.OPEN: T("Open: everybody can see who votes for what."),
    Secrecy.TEAM: T("Only the lab's team can see who votes for what. You vote in private."),
    Secrecy.SECRET: T(
        "Secret: nobody can see who votes for what. You vote in private, nothing is counted before the close, and then "
        "the key that keeps ballots and people together is destroyed."
    ),
}

AUDIENCES: Mapping[Audience, Text] = {
    Audience.PLACES: T("whoever is in a group where it stands"),
    Audience.ROOMS: T("only whoever is in the rooms where it is shown"),
    Audience.LAB: T("everybody who knows the bot"),
    Audience.TEAM: T("the lab's team"),
    Audience.NAMED: T("some groups of society"),
}

GROUPS: Mapping[Group, Text] = {
    Group.CITIZEN: T("citizens"),
    Group.INITIATIVE: T("initiatives and associations"),
    Group.ADMINISTRATION: T("administration"),
    Group.POLITICS: T("politics"),
    Group.BUSINESS: T("business"),
    Group.SCIENCE: T("science"),
    Group.LAB: T("the lab's team"),
}

"""The groups of society, whom people speak for."""

SHOWN: Mapping[Results, Text] = {
    Results.ALWAYS: T("always"),
    Results.VOTED: T("once one has voted"),
    Results.CLOSED: T("after the close"),
}


def explained(kind: Kind, most: int) -> Text:
    """One short explanation of a kind: what to do, and what wins."""
    match kind:
        case Kind.SINGLE:
            return T("Choose one. Most votes win.")
        case Kind.SEVERAL:
            return T("Choose up to {n}. Most votes win.", n=most)
        case Kind.DATES:
            return T("Say for each date: yes, if need be, or no. The date wins at which most can come.")
        case Kind.POINTS:
            return T("Put them in order, your favourite first. The higher a place, the more points; most points win.")
        case Kind.RUNOFF:
            return T(
                "Put them in order, your favourite first. The last one leaves and its votes pass on, until one has "
                "more than half."
            )
        case Kind.SCHULZE:
            return T("Put them in order, your favourite first. The one wins that beats each of the others in pairs.")
        case Kind.DOTS:
            return N("You have {n} dot to give out. Most dots win.", "You have {n} dots to give out as you like. "
                     "Most dots win.", n=most)  # fmt: skip
        case Kind.CONSENT:
            return T("The proposal is adopted when nobody objects. Who objects says why, in private.")
    return T("Say for each how much speaks against it, from 0 (nothing) to 10 (not at all). Least resistance wins.")


def typed(kind: Kind) -> Text:
    """How a ballot of a kind is written as one message."""
    match kind:
        case Kind.SINGLE:
            return T("Write the number of your choice, for example: 2")
        case Kind.SEVERAL:
            return T("Write the numbers of your choices, for example: 1 3")
        case Kind.DATES:
            return T(
                "Write the numbers of the dates that suit you, with a question mark for “if need be”: 1 3 4? "
                "Or 0, if none does."
            )
        case Kind.DOTS:
            return T("Write a number for each dot, for example two dots for 1 and one for 3: 1 1 3")
        case Kind.CONSENT:
            return T("Write 1 to agree, 2 to stand aside, or 3 and why you object: 3 it is too loud")
        case Kind.RESISTANCE:
            return T("Write one number from 0 to 10 for each, in their order, for example: 0 7 10")
    return T("Write the numbers in your order, your favourite first, for example: 3 1 2")


def gone(number: str) -> Text:
    return T("There is no poll #{number}.", number=number[:20])


IN_GROUPS = (Audience.PLACES, Audience.ROOMS)
"""Those who are asked are known by the groups they are in."""


def not_asked(poll: Rules) -> Text:
    """Why somebody cannot vote, and where they could."""
    number = str(poll.id)
    if poll.audience not in IN_GROUPS:
        return T("You are not among those who are asked in poll #{number}.", number=number)
    why = T("Only people in the groups where poll #{number} stands vote in it.", number=number)
    there = poll.secrecy is Secrecy.OPEN and poll.kind in ONE_PRESS
    where = T("If you are in one, vote there.") if there else T("If you are in one, press “Vote in private” there.")
    return Lines([why, where], " ")


def number_of(poll: Poll) -> int:
    assert poll.id is not None
    return poll.id


def subject(number: int) -> str:
    """What the copies of a poll's card are found by."""
    return f"poll:{number}"


def mirrored(number: int) -> str:
    """What the messages are found by as which a poll stands in the messenger's own."""
    return f"mirror:{number}"


def payload(poll: Poll) -> str:
    """What opens a poll in the private chat; its last part cannot be guessed."""
    return f"poll_{poll.id}_{poll.link}"


def may_decide(turn: Turn, poll: Poll) -> bool:
    """Whether this person may close the poll and put it somewhere."""
    return turn.person.id == poll.author_id or turn.may(Role.ORGANISER)


def enumerated(options: Sequence[str], chosen: Sequence[int]) -> Text:
    """Some options with their numbers: “2. Wed, 3. Thu”."""
    return Verbatim(", ".join(f"{option + 1}. {options[option]}" for option in chosen))


def said(kind: Kind, options: Sequence[str], content: Content) -> Text:
    """A ballot in words."""
    match kind:
        case Kind.DATES:
            marks = {2: T("yes"), 1: T("if need be"), 0: T("no")}
            lines: list[Text] = [
                T("{option}: {answer}", option=f"{place + 1}. {options[place]}", answer=marks[mark])
                for place, mark in enumerate(content)
            ]
            return Lines(lines, ", ")
        case Kind.DOTS | Kind.RESISTANCE:
            return Verbatim(
                ", ".join(
                    f"{place + 1}. {options[place]}: {amount}"
                    for place, amount in enumerate(content)
                    if amount or kind is Kind.RESISTANCE
                )
            )
    return enumerated(options, content)


def in_numbers(kind: Kind, content: Content) -> str:
    """A ballot in the numbers of its options, as somebody would type it; “–” where they can come on no date."""
    match kind:
        case Kind.DATES:
            marks = {YES: "", IF_NEED_BE: "?"}
            return ", ".join(f"{place}{marks[mark]}" for place, mark in enumerate(content, 1) if mark != NO) or "–"
        case Kind.DOTS:
            return ", ".join(f"{dots}×{place}" for place, dots in enumerate(content, 1) if dots)
        case Kind.RESISTANCE:
            return " ".join(map(str, content))
    return (" > " if kind in RANKED else ", ").join(str(option + 1) for option in content)


def takes_one_press(kind: Kind, secrecy: Secrecy) -> bool:
    """Whether the card's own choices are the vote. In secret an objection must not look different from consent."""
    return kind in ONE_PRESS and not (kind is Kind.CONSENT and secrecy is Secrecy.SECRET)


# -- the card -----------------------------------------------------------------------------------------------


def card(turn: Turn, poll: Poll, options: Sequence[str], private: bool) -> Message:
    """A poll as it stands in a group, or in a private chat; the same for everybody there."""
    kind, secrecy = Kind(poll.kind), Secrecy(poll.secrecy)
    number = number_of(poll)
    closed = poll.status == Status.CLOSED
    counted = closed or poll.results == Results.ALWAYS
    tally = voting.tallies(turn.connection, [number])[number] if counted else {}
    parts: list[Text] = [T("<b>#{number} {question}</b>", number=str(number), question=poll.question)]
    if not closed and kind is not Kind.SINGLE:
        parts.append(explained(kind, poll.most))
    if counted:
        parts.append(Lines(bars(poll, options, tally)))
    else:
        parts.append(Lines([Verbatim(f"{place}. {option}") for place, option in enumerate(options, 1)]))
    parts.append(turnout(poll))
    if counted and secrecy is Secrecy.OPEN and poll.voters:
        names = who(turn, poll)
        if width(turn.lab.catalogues[turn.lab.catalogues.default].html(Lines([*parts, names]))) < LONGEST_CARD:
            parts.append(names)
    if closed:
        parts.append(outcome_of(poll, options))
        again = Choice(T("Ask it again"), "poll.again", (str(number),))
        return Message(
            Lines(parts, "\n\n"), (again, *events_of(turn, poll, options)) if private else (), subject(number)
        )
    parts.append(Lines(footer(poll), " "))
    found = choices(poll, options, private)
    listed = len(options) if takes_one_press(kind, secrecy) and (private or secrecy is Secrecy.OPEN) else 0
    return Message(Lines(parts, "\n\n"), tuple(found), subject(number), listed=listed)


def turnout(poll: Poll) -> Text:
    if not poll.voters:
        return T("Nobody has voted yet.") if poll.status == Status.OPEN else T("Nobody has voted.")
    have = N("{n} person has voted.", "{n} people have voted.", n=poll.voters)
    if poll.quorum > poll.voters:
        return Lines([have, T("{quorum} are needed for a result.", quorum=poll.quorum)], " ")
    return have


def footer(poll: Poll) -> list[Text]:
    found: list[Text] = [SECRECY[Secrecy(poll.secrecy)]]
    if poll.secrecy == Secrecy.SECRET and poll.voters < FEW:
        found.append(T("With few voters a result can still give away who voted how."))
    if poll.results != Results.ALWAYS:
        found.append(T("The count is shown {when}.", when=SHOWN[Results(poll.results)]))
    if poll.closes_at is not None:
        found.append(T("Open until {time}.", time=poll.closes_at))
    return found


def choices(poll: Poll, options: Sequence[str], private: bool) -> list[Choice]:
    """What can be chosen under a card. It does not depend on the count: a press never comes too late for it."""
    number, kind = str(poll.id), Kind(poll.kind)
    in_private = Choice(T("Vote in private"), start=payload(poll))
    if not private and (poll.secrecy != Secrecy.OPEN or kind not in ONE_PRESS):
        return [in_private]
    found: list[Choice] = []
    # Where a press is a reaction, what it has chosen is kept, so that it can be taken back: but never of a secret vote.
    vote = "poll.vote" if poll.secrecy == Secrecy.SECRET else "poll.choose"
    if takes_one_press(kind, Secrecy(poll.secrecy)):
        for place, option in enumerate(options):
            if kind is Kind.CONSENT and place == OBJECT and not private:
                found.append(Choice(Verbatim(option), start=payload(poll)))
            else:
                found.append(Choice(Verbatim(option), vote, (number, str(place))))
    else:
        found.append(Choice(T("Vote"), "poll.ballot", (number,)))
    found.append(Choice(T("Take my vote back"), "poll.withdraw", (number,)))
    if poll.results == Results.VOTED:
        found.append(Choice(T("See the count"), "poll.count", (number,)))
    if poll.proposals:
        found.append(
            Choice(T("Suggest an option"), "poll.propose", (number,))
            if private
            else Choice(T("Suggest an option"), start=payload(poll))
        )
    return found


def bars(poll: Poll, options: Sequence[str], tally: Mapping[tuple[int, int], int]) -> list[Text]:
    """The count of each option: its number and words, the amount, and a bar that repeats it for the eye."""
    found = counts(poll, tally)
    most = max((amount for amount, _ in found), default=0)
    lines: list[Text] = []
    for place, (amount, said) in enumerate(found):
        bar = "█" * max(1, round(BAR * amount / most)) if amount else ""
        lines.append(
            T("{number}. {option}\n{amount} {bar}", number=place + 1, option=options[place], amount=said, bar=bar)
        )
    return lines


def in_short(turn: Turn, poll: Poll, tally: Mapping[tuple[int, int], int]) -> Text:
    """The same in a note: of each option its number and the amount, in words where they fit."""
    found = list(enumerate(counts(poll, tally), 1))
    said = Lines([T("{option}: {amount}", option=str(place), amount=words) for place, (_, words) in found], "; ")
    if width(turn.words.html(said)) <= LONGEST_NOTE:
        return said
    return Verbatim("; ".join(f"{place}: {amount}" for place, (amount, _) in found))


def counts(poll: Poll, tally: Mapping[tuple[int, int], int]) -> list[tuple[int, Text]]:
    """What each option has got: how much, and in words."""
    kind = Kind(poll.kind)
    slot = 1 if kind in (Kind.RUNOFF, Kind.SCHULZE) else 0
    amounts = [tally.get((place, slot), 0) for place in range(poll.options)]
    return [
        (amount, counted_as(kind, amount, tally.get((place, 1), 0), poll.voters))
        for place, amount in enumerate(amounts)
    ]


def counted_as(kind: Kind, amount: int, more: int, voters: int) -> Text:
    """What an option has got, in words."""
    match kind:
        case Kind.DATES:
            return T("{yes} yes, {maybe} if need be", yes=amount, maybe=more)
        case Kind.POINTS:
            return N("{n} point", "{n} points", n=amount)
        case Kind.RUNOFF | Kind.SCHULZE:
            return N("first on {n} ballot", "first on {n} ballots", n=amount)
        case Kind.DOTS:
            return N("{n} dot", "{n} dots", n=amount)
        case Kind.RESISTANCE:
            return T("resistance {n}", n=amount)
    share = round(100 * amount / voters) if voters else 0
    return N("{n} vote, {share} %", "{n} votes, {share} %", n=amount, share=share)


def who(turn: Turn, poll: Poll) -> Text:
    """The names of those who have voted and their ballots, the first ones of many."""
    kind = Kind(poll.kind)
    named = [
        f"{voter.pseudonym} ({in_numbers(kind, voter.content)})"
        for voter in voting.voters(turn.connection, number_of(poll), NAMES)
    ]
    names = ", ".join(named)
    others = poll.voters - len(named)
    if others > 0:
        return N("Voted: {names}, and {n} other", "Voted: {names}, and {n} others", n=others, names=names)
    return T("Voted: {names}", names=names)


# -- the result ---------------------------------------------------------------------------------------------


def outcome_of(poll: Poll, options: Sequence[str]) -> Text:
    """What has come out, and what happens now."""
    lines = [closed_with(poll, options)]
    if poll.outcome:
        lines.append(T("What happens now: {words}", words=poll.outcome))
    return Lines(lines, "\n\n")


def closed_with(poll: Poll, options: Sequence[str]) -> Text:
    """The result in a sentence or two."""
    kind = Kind(poll.kind)
    result = Result.read(poll.result or Result((), (0,) * len(options)).stored())
    if not poll.voters:
        return T("Closed. There is no result, since nobody has voted.")
    if poll.voters < poll.quorum:
        return T(
            "Closed. It decides nothing: {n} have voted, and {quorum} were needed.", n=poll.voters, quorum=poll.quorum
        )
    if kind is Kind.CONSENT:
        against = result.scores[OBJECT]
        if against:
            return N(
                "Closed. {n} objection stands in the way: the proposal is not adopted as it is.",
                "Closed. {n} objections stand in the way: the proposal is not adopted as it is.",
                n=against,
            )
        if result.winners == (AGREE,):
            return T("Closed. Nobody objects: the proposal is adopted.")
        return T("Closed. Everybody stands aside: the proposal is not adopted.")
    if not result.winners:
        return T("Closed. There is no winner.")
    winners = enumerated(options, result.winners)
    if len(result.winners) > 1:
        found: Text = T("Closed. It is a tie between these: {options}.", options=winners)
    elif kind is Kind.SCHULZE:
        found = T("Closed. The winner is {option}: in direct comparison nothing else beats it.", option=winners)
    else:
        found = T(
            "Closed. The winner is {option}: {amount}.",
            option=winners,
            amount=won_with(kind, result.scores[result.winners[0]]),
        )
    if kind is not Kind.RUNOFF or len(result.rounds) < 2:
        return found
    rounds: list[Text] = [
        T(
            "Round {n}: {votes}.",
            n=place,
            votes=", ".join(f"{option + 1}. {options[option]}: {votes}" for option, votes in round_.votes.items()),
        )
        for place, round_ in enumerate(result.rounds, 1)
    ]
    return Lines([found, *rounds])


def events_of(turn: Turn, poll: Poll, options: Sequence[str]) -> list[Choice]:
    """The dates that have won a closed poll can become events, if they name a day."""
    if poll.kind != Kind.DATES or poll.result is None or poll.voters < max(poll.quorum, 1):
        return []
    zone = turn.lab.catalogues[turn.lab.catalogues.default].zone
    return [
        Choice(T("Make an event of it: {date}", date=options[option]), "event.from_poll", (str(poll.id), str(option)))
        for option in Result.read(poll.result).winners
        if is_date(options[option], turn.now, zone)
    ]


def won_with(kind: Kind, score: int) -> Text:
    match kind:
        case Kind.DATES:
            return N("{n} person who can come", "{n} people who can come", n=score)
        case Kind.POINTS:
            return N("{n} point", "{n} points", n=score)
        case Kind.DOTS:
            return N("{n} dot", "{n} dots", n=score)
        case Kind.RESISTANCE:
            return T("a resistance of {n} in all", n=score)
    return N("{n} vote", "{n} votes", n=score)


def until(closes_at: datetime | None, until_all: bool) -> Argument:
    """When a poll closes."""
    if closes_at is not None:
        return closes_at
    return T("when all have voted") if until_all else T("when you close it")
