"""Ballots: one for each person, a tally that is always true, and secret ones that lead to nobody."""

import asyncio
import itertools
import random
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, delete, insert, select, text
from sqlmodel import SQLModel

from storage import chats, conversation, erasure
from storage.chats import chat_table
from storage.engine import Storage, session_in
from storage.people import Person, Role, arrive
from storage.polls import asking, due, electing, leaving, mirroring, voting
from storage.polls.asking import CannotAdd, Draft
from storage.polls.counting import EACH, RANKED, Content, Kind, Result, count, is_valid
from storage.polls.mirroring import Source
from storage.polls.tables import Audience, Secrecy, ballot_table, key_table, place_table, poll_table, secret_table
from storage.polls.voting import Cast, Closed, Unfit

R = TypeVar("R")
NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def some_people(connection: Connection, number: int) -> list[int]:
    """New people, each with an account."""
    found = []
    for name in range(number):
        account = arrive(connection, "memory", f"person-{name}", NOW)
        query = text("SELECT person_id FROM account WHERE id = :account")
        found.append(int(connection.execute(query, {"account": account}).scalar_one()))
    return found


def asked(connection: Connection, author: int, **more: Any) -> int:
    draft = Draft("Which evening?", more.pop("options", ("Tue", "Wed", "Thu")), **more)
    return asking.ask(connection, draft, author, NOW, BERLIN)


def rules_of(connection: Connection, number: int) -> voting.Rules:
    found = voting.rules(connection, number)
    assert found is not None
    return found


def result_of(connection: Connection, number: int) -> Result:
    """The result as it is kept from the close on."""
    voting.close(connection, number, NOW)
    with session_in(connection) as session:
        poll = asking.find(session, number)
        assert poll is not None and poll.result is not None
        return Result.read(poll.result)


def is_true(connection: Connection) -> bool:
    """Whether what is kept equals what is counted anew."""
    return voting.kept(connection) == voting.recount(connection)


async def test_a_second_vote_takes_the_place_of_the_first(storage: Storage) -> None:
    def job(connection: Connection) -> None:
        anna, ben = some_people(connection, 2)
        number = asked(connection, anna)
        assert voting.vote(connection, number, anna, (0,), NOW)
        assert not voting.vote(connection, number, anna, (2,), NOW)
        assert voting.vote(connection, number, ben, (2,), NOW)
        assert voting.kept(connection) == {number: (2, {(2, 0): 2})}
        assert is_true(connection)
        assert voting.withdraw(connection, number, anna, NOW)
        assert not voting.withdraw(connection, number, anna, NOW)
        assert voting.kept(connection) == {number: (1, {(2, 0): 1})} == voting.recount(connection)

    await storage.run(job)


async def test_nobody_votes_from_the_second_of_closing_on(storage: Storage) -> None:
    def job(connection: Connection) -> None:
        [anna] = some_people(connection, 1)
        number = asked(connection, anna, closes_at=NOW + timedelta(hours=1))
        second = timedelta(seconds=1)
        assert voting.vote(connection, number, anna, (0,), NOW + timedelta(hours=1) - second)
        with pytest.raises(Closed):  # although nobody has closed it yet
            voting.vote(connection, number, anna, (1,), NOW + timedelta(hours=1))
        with pytest.raises(Closed):
            voting.withdraw(connection, number, anna, NOW + timedelta(hours=2))
        with pytest.raises(Closed):
            voting.vote(connection, number + 1, anna, (1,), NOW)
        assert due.to_close(connection, NOW + timedelta(hours=1)) == number
        assert voting.close(connection, number, NOW)
        assert not voting.close(connection, number, NOW)
        assert result_of(connection, number).winners == (0,)

    await storage.run(job)


async def test_what_is_no_ballot_is_refused_and_changes_nothing(storage: Storage) -> None:
    def job(connection: Connection) -> None:
        [anna] = some_people(connection, 1)
        number = asked(connection, anna)
        for content in ((), (3,), (0, 1), (-1,)):
            with pytest.raises(Unfit):
                voting.vote(connection, number, anna, content, NOW)
        assert voting.kept(connection) == {number: (0, {})}

    await storage.run(job)


async def test_who_may_vote(storage: Storage) -> None:
    def job(connection: Connection) -> None:
        anna, ben, rosa = some_people(connection, 3)
        group = connection.execute(
            insert(chat_table).returning(chat_table.c.id),
            {"adapter": "memory", "external": "g", "private": False, "locale": "de", "active": True, "team": False,
             "created_at": NOW},
        ).scalar_one()  # fmt: skip
        citizen = Role.PARTICIPANT

        def may(number: int, person: int, role: Role = citizen, chat: int | None = None) -> bool:
            return electing.may_vote(connection, rules_of(connection, number), person, role, chat)

        in_groups = asked(connection, anna)
        assert may(in_groups, anna)
        assert not may(in_groups, ben)
        assert not may(in_groups, ben, Role.LEAD)
        assert not may(in_groups, ben, chat=group)
        asking.place(connection, in_groups, group)
        assert may(in_groups, ben, chat=group)
        assert not may(in_groups, ben)
        electing.let_in(connection, in_groups, ben)
        electing.let_in(connection, in_groups, ben)
        assert may(in_groups, ben)
        voting.vote(connection, in_groups, rosa, (0,), NOW)  # in the group; later they change it in private
        assert may(in_groups, rosa)

        assert may(asked(connection, anna, audience=Audience.LAB), ben)
        for_team = asked(connection, anna, audience=Audience.TEAM)
        assert not may(for_team, anna)
        assert may(for_team, rosa, Role.MODERATOR)
        for_some = asked(connection, anna, audience=Audience.NAMED, named=("science", "politics"))
        assert not may(for_some, ben)
        connection.execute(text("UPDATE person SET \"group\" = 'politics' WHERE id = :ben"), {"ben": ben})
        assert may(for_some, ben)
        assert electing.size_of_electorate(connection, rules_of(connection, for_some)) == 1
        assert electing.size_of_electorate(connection, rules_of(connection, in_groups)) is None

    await storage.run(job)


async def test_a_proposed_option_joins_and_the_ballots_stay(storage: Storage) -> None:
    def job(connection: Connection) -> None:
        anna, ben = some_people(connection, 2)
        number = asked(connection, anna, kind=Kind.POINTS, proposals=True)
        voting.vote(connection, number, anna, (0, 1, 2), NOW)
        with session_in(connection) as session:
            for words in ("tue", " WED ", "x" * 81, ""):
                with pytest.raises(CannotAdd):
                    asking.propose(session, number, ben, words, NOW)
            proposal = asking.propose(session, number, ben, "Fri", NOW)
            with pytest.raises(CannotAdd):
                asking.propose(session, number, ben, "fri", NOW)
            asking.accept(session, proposal, NOW)
            session.commit()
        assert voting.options(connection, [number]) == {number: ["Tue", "Wed", "Thu", "Fri"]}
        voting.vote(connection, number, ben, (3, 0), NOW)
        assert is_true(connection)
        assert result_of(connection, number).scores == (5, 2, 1, 3)

    await storage.run(job)


# -- secrecy ------------------------------------------------------------------------------------------------


async def test_a_secret_ballot_is_kept_apart_and_its_key_destroyed_at_the_close(
    storage: Storage, tmp_path: Path
) -> None:
    traces: list[bytes] = []

    def vote(connection: Connection) -> int:
        people = some_people(connection, 4)
        number = asked(connection, people[0], secrecy=Secrecy.SECRET)
        for person, option in zip(people, (0, 1, 1, 2), strict=True):
            voting.vote(connection, number, person, (option,), NOW)
        voting.vote(connection, number, people[3], (1,), NOW)
        assert connection.execute(select(ballot_table)).all() == []
        assert voting.kept(connection) == {number: (4, {})}  # turnout is known, the count is not
        assert is_true(connection)
        assert voting.have_voted(connection, rules_of(connection, number), people) == set(people)
        cast = voting.own(connection, rules_of(connection, number), people[3])
        assert cast == voting.Cast((1,), "", NOW)
        traces.extend(connection.execute(select(key_table.c.key)).scalars())
        traces.extend(connection.execute(select(secret_table.c.tag)).scalars())
        traces.extend(connection.execute(select(secret_table.c.moment)).scalars())
        return number

    number = await storage.run(vote)
    assert len(traces) == 9
    await storage.run(lambda connection: voting.close(connection, number, NOW))

    def after(connection: Connection) -> None:
        assert connection.execute(select(key_table)).all() == connection.execute(select(secret_table)).all() == []
        assert result_of(connection, number).scores == (1, 3, 0)
        assert is_true(connection)
        assert voting.own(connection, rules_of(connection, number), 1) is None

    await storage.run(after)
    if storage.engine.dialect.name == "sqlite":
        assert not any(trace in content for content in files(tmp_path) for trace in traces)


def files(folder: Path) -> list[bytes]:
    """The database's file and its journals, byte by byte."""
    return [path.read_bytes() for path in folder.glob("labbot.db*")]


async def test_while_somebody_reads_the_file_the_log_is_emptied_later(database: str, tmp_path: Path) -> None:
    if not database.startswith("sqlite"):
        pytest.skip("about SQLite's log")
    storage = Storage(database)

    def begin(connection: Connection) -> tuple[int, bytes]:
        [anna] = some_people(connection, 1)
        return asked(connection, anna, secrecy=Secrecy.SECRET), connection.execute(select(key_table.c.key)).scalar_one()

    number, key = await storage.run(begin)
    driver: Any = storage.engine.raw_connection()
    driver.execute("BEGIN")
    driver.execute("SELECT * FROM poll").fetchall()  # somebody exports
    await storage.run(lambda connection: voting.close(connection, number, NOW))
    assert any(key in content for content in files(tmp_path))
    driver.rollback()
    driver.close()
    await storage.run(lambda connection: conversation.set_cursor(connection, "memory", "1"))
    assert not any(key in content for content in files(tmp_path))
    await storage.close()


def dump(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that is stored, as it lies in the file, but what is random anyway."""
    found = {}
    for name, table in SQLModel.metadata.tables.items():
        columns = [column for column in table.c if column.name not in ("link", "pseudonym", "handle")]
        found[name] = [tuple(row) for row in connection.execute(select(*columns))]
    return found


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(votes=st.lists(st.integers(0, 2), min_size=2, max_size=8), seed=st.integers(0, 2**16))
def test_nothing_in_the_database_tells_who_of_the_voters_has_voted_how(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory, votes: list[int], seed: int
) -> None:
    """The same people in the same order with each other's votes: after the close every table is the same."""
    shuffled = random.Random(seed).sample(votes, len(votes))
    dumps = []
    for said in (votes, shuffled):
        path = tmp_path_factory.mktemp("swapped") / "labbot.db"
        shutil.copy(sqlite_template, path)

        def story(connection: Connection, said: Sequence[int] = said) -> dict[str, list[tuple[Any, ...]]]:
            people = some_people(connection, len(said))
            number = asked(connection, people[0], secrecy=Secrecy.SECRET)
            for later, (person, option) in enumerate(zip(people, said, strict=True)):
                voting.vote(connection, number, person, (option,), NOW + timedelta(seconds=later))
            voting.close(connection, number, NOW + timedelta(days=1))
            return dump(connection)

        async def tell(story: Callable[[Connection], Any] = story, path: Path = path) -> Any:
            storage = Storage(f"sqlite:///{path}")
            found = await storage.run(story)
            await storage.close()
            return found

        dumps.append(asyncio.run(tell()))
    assert dumps[0] == dumps[1]


async def test_the_order_of_secret_ballots_is_not_that_of_their_coming(storage: Storage) -> None:
    if storage.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's heap is rewritten at the close")

    def job(connection: Connection) -> None:
        people = some_people(connection, 30)
        number = asked(connection, people[0], secrecy=Secrecy.SECRET)
        for person in people:
            voting.vote(connection, number, person, (0,), NOW)
        tags = [row[0] for row in connection.exec_driver_sql("SELECT tag FROM secret_ballot")]
        assert tags == sorted(tags)
        with pytest.raises(Exception, match="rowid"):
            connection.exec_driver_sql("SELECT rowid FROM secret_ballot")

    await storage.run(job)


# -- two accounts, one person -------------------------------------------------------------------------------


@pytest.mark.parametrize("secrecy", Secrecy)
@pytest.mark.parametrize("first", ["from", "into"])
async def test_of_two_ballots_the_latest_one_counts(storage: Storage, secrecy: Secrecy, first: str) -> None:
    def job(connection: Connection) -> None:
        one, other, third = some_people(connection, 3)
        number = asked(connection, one, secrecy=secrecy)
        only = asked(connection, third, secrecy=secrecy)
        order = [(one, (0,)), (other, (1,))] if first == "from" else [(other, (1,)), (one, (0,))]
        for minutes, (person, content) in enumerate(order):
            voting.vote(connection, number, person, content, NOW + timedelta(minutes=minutes))
        voting.vote(connection, only, one, (2,), NOW)
        assert leaving.merge(connection, one, other, NOW) == 1
        assert is_true(connection)
        for poll, expected in ((number, (1,) if first == "from" else (0,)), (only, (2,))):
            found = rules_of(connection, poll)
            cast = voting.own(connection, found, other)
            assert cast is not None and cast.content == expected
            assert voting.own(connection, found, one) is None
            assert voting.profile(connection, poll) == {expected: 1}

    await storage.run(job)


async def test_a_result_stands_when_two_who_have_voted_turn_out_to_be_one(storage: Storage) -> None:
    def job(connection: Connection) -> None:
        one, other = some_people(connection, 2)
        number = asked(connection, one)
        voting.vote(connection, number, one, (0,), NOW)
        voting.vote(connection, number, other, (0,), NOW)
        voting.close(connection, number, NOW)
        assert leaving.merge(connection, one, other, NOW) == 0
        assert voting.kept(connection) == {number: (2, {(0, 0): 2})} == voting.recount(connection)
        assert connection.execute(select(ballot_table.c.person_id)).scalars().all() == [other]

    await storage.run(job)


@pytest.mark.parametrize("secrecy", Secrecy)
async def test_who_leaves_takes_their_vote_along_while_a_poll_is_open(storage: Storage, secrecy: Secrecy) -> None:
    def job(connection: Connection) -> None:
        anna, ben = some_people(connection, 2)
        running, over = asked(connection, ben, secrecy=secrecy), asked(connection, anna, secrecy=secrecy)
        for number in (running, over):
            for person in (anna, ben):
                voting.vote(connection, number, person, (1,), NOW)
        voting.close(connection, over, NOW)
        with session_in(connection) as session:
            erasure.erase(session, anna, keep_ideas=True)
            session.commit()
        assert voting.profile(connection, running) == {(1,): 1}
        assert voting.profile(connection, over) == {(1,): 2}
        assert is_true(connection)
        assert rules_of(connection, over).author_id is None

    await storage.run(job)


async def test_a_group_that_goes_on_under_another_id_keeps_its_polls(storage: Storage) -> None:
    def job(connection: Connection) -> None:
        [anna] = some_people(connection, 1)
        numbers = [asked(connection, anna) for _ in range(2)]
        for external in ("old", "new"):
            chats.open_chat(connection, "memory", external, private=False, locale="de", account_id=None, now=NOW)
        ids = dict(connection.execute(select(chat_table.c.external, chat_table.c.id)).all())
        asking.place(connection, numbers[0], ids["old"])
        for number in numbers:  # somebody has put them into the newcomer as well
            asking.place(connection, number, ids["new"])
        chats.move_chat(connection, "memory", "old", "new")
        assert sorted(connection.execute(select(place_table)).all()) == [(number, ids["old"]) for number in numbers]

    await storage.run(job)


@pytest.mark.parametrize(
    ("lasts", "hour"),
    [
        (timedelta(days=7), "2026-11-08 10:00"),  # a day before
        (timedelta(hours=8), "2026-11-02 16:00"),  # two hours before
        (timedelta(days=3, hours=13), "2026-11-04 20:30"),  # not at 23:00: on the evening before
        (timedelta(days=4, hours=-5), "2026-11-04 20:30"),  # not at 5:00
        (timedelta(hours=20), "2026-11-02 20:30"),  # not at 1:00
    ],
)
def test_nobody_is_reminded_at_night(lasts: timedelta, hour: str) -> None:
    at = due.reminder(NOW, NOW + lasts, BERLIN)
    assert at is not None
    assert f"{at.astimezone(BERLIN):%Y-%m-%d %H:%M}" == hour


def test_a_poll_over_night_reminds_nobody() -> None:
    evening = datetime(2026, 11, 2, 20, 0, tzinfo=UTC)  # 21:00 in Berlin
    assert due.reminder(evening, evening + timedelta(hours=8), BERLIN) is None
    in_the_morning = due.reminder(evening, evening + timedelta(hours=14), BERLIN)
    assert in_the_morning == datetime(2026, 11, 3, 7, 0, tzinfo=UTC)


async def test_only_those_who_have_not_voted_are_reminded_and_once(storage: Storage) -> None:
    def job(connection: Connection) -> None:
        anna, ben, eve = some_people(connection, 3)
        for secrecy in Secrecy:
            number = asked(connection, anna, secrecy=secrecy, closes_at=NOW + timedelta(days=7))
            for person in (ben, eve):
                electing.let_in(connection, number, person)
            voting.vote(connection, number, ben, (0,), NOW)
            assert due.to_remind(connection, NOW + timedelta(days=5), BERLIN) is None
            assert due.to_remind(connection, NOW + timedelta(days=6), BERLIN) == (number, [anna, eve])
            assert due.to_remind(connection, NOW + timedelta(days=6), BERLIN) is None

    await storage.run(job)


async def test_of_votes_at_the_same_moment_each_is_counted_and_none_after_the_close(storage: Storage) -> None:
    """Also of one person from two messengers at once; a refresh comes in between, too."""

    def begin(connection: Connection) -> tuple[int, list[int]]:
        people = some_people(connection, 20)
        number = asked(connection, people[0], kind=Kind.SEVERAL, most=2)
        for person in people:
            electing.let_in(connection, number, person)
        return number, people

    number, people = await storage.run(begin)

    def vote(connection: Connection, person: int, content: Content) -> bool:
        poll, may = electing.held_for(connection, number, person, Role.PARTICIPANT, None) or (None, False)
        assert poll is not None and may
        if poll.is_over(NOW):
            return False
        _, before = voting.paper(connection, poll, person)
        voting.cast(connection, poll, person, before, Cast(content, "", NOW))
        return True

    def refresh(connection: Connection) -> bool:
        return due.to_refresh(connection, NOW + timedelta(days=1)) is not None

    def close(connection: Connection) -> bool:
        return voting.close(connection, number, NOW)

    rounds: list[Callable[[Connection], bool]] = []
    for at, person in enumerate(people * 6):
        rounds.append(partial(vote, person=person, content=((at % 3,), (0, 2), (1,))[at % 7 % 3]))
        if at % 9 == 0:
            rounds.append(refresh)
    rounds.insert(110, close)
    done = await asyncio.gather(*(storage.run(job) for job in rounds))
    assert done.count(False) > 0 and done.count(True) > 60

    def check(connection: Connection) -> None:
        assert voting.kept(connection) == voting.recount(connection)
        poll = connection.execute(select(poll_table)).one()
        found = count(Kind.SEVERAL, poll.options, voting.profile(connection, number))
        assert Result.read(poll.result) == found  # what was counted at the close is what lies in the box
        assert poll.voters == sum(voting.profile(connection, number).values())

    await storage.run(check)


async def test_what_is_due_is_found_by_an_index(database: str, storage: Storage) -> None:
    """However many polls there have been: the clock asks again and again."""
    if not database.startswith("sqlite"):
        pytest.skip("PostgreSQL looks at so few rows without an index")

    def job(connection: Connection) -> None:
        for query, index in (
            (due._NEXT_REFRESH, "ix_poll_refresh_at"),
            (due._NEXT_CLOSE, "ix_poll_closes_at"),
            (due._NEXT_REMINDER, "ix_poll_remind_at"),
        ):
            [plan] = connection.execute(text(f"EXPLAIN QUERY PLAN {query.compile(connection)}")).all()
            assert f"INDEX {index}" in plan.detail, plan

    await storage.run(job)


async def test_what_would_remind_late_at_night_waits_for_the_morning_or_is_left_out(storage: Storage) -> None:
    """The bot was down when it was due."""

    def job(connection: Connection) -> None:
        anna, ben = some_people(connection, 2)
        for closes, told in ((NOW + timedelta(days=7), True), (datetime(2026, 11, 9, 6, 30, tzinfo=UTC), False)):
            number = asked(connection, anna, closes_at=closes)
            electing.let_in(connection, number, ben)
            night, morning = (datetime(2026, 11, 9, hour, 0, tzinfo=UTC) for hour in (2, 7))  # 3:00 and 8:00 in Berlin
            assert due.to_remind(connection, night, BERLIN) == (number, [])
            assert due.next_reminder(connection) == (morning if told else None)
            assert due.to_remind(connection, morning, BERLIN) == ((number, [anna, ben]) if told else None)
            over = asked(connection, anna, closes_at=NOW + timedelta(days=3))
            assert due.to_remind(connection, NOW + timedelta(days=3), BERLIN) == (over, [])  # it closes now
            assert due.next_reminder(connection) is None

    await storage.run(job)


# -- any order of anything ----------------------------------------------------------------------------------

KINDS = st.sampled_from(list(Kind))
OPTIONS, MOST = 3, 2


def ballots(kind: Kind) -> list[Content]:
    """Every valid ballot of a kind over three options."""
    candidates: list[Content] = [
        chosen for size in (1, 2, 3) for chosen in itertools.permutations(range(OPTIONS), size)
    ]
    if kind in EACH:
        candidates = list(itertools.product(range(3), repeat=OPTIONS))
    elif kind not in RANKED:
        candidates = [chosen for chosen in candidates if list(chosen) == sorted(chosen)]
    return [content for content in candidates if is_valid(kind, content, OPTIONS, MOST)]


class Given(NamedTuple):
    """An answer in a mirrored poll: when it was sent, in which order it came, what it says, and its id."""

    at: datetime
    order: int
    content: Content | None
    mark: str | None


class Polling(RuleBasedStateMachine):
    """People vote, change, withdraw, link, unlink, leave; polls open and close; the bot is restarted.

    ``box`` is what must be true: each open poll's ballots by person. ``counted`` is what a closed poll's were.
    ``given`` is all that people have answered in the polls that also stand as the messenger's own.
    """

    url: str
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.storage = Storage(self.url)
        self.now = NOW
        self.people: list[int] = []
        self.kinds: dict[int, Kind] = {}
        self.secret: dict[int, bool] = {}
        self.box: dict[int, dict[int, tuple[Content, datetime]]] = {}
        self.counted: dict[int, list[Content]] = {}
        self.destroyed: list[bytes] = []
        self.given: dict[int, dict[int, list[Given]]] = {}
        self.order = itertools.count()
        self.group = 0

    def run(self, job: Callable[[Connection], R]) -> R:
        return self.loop.run_until_complete(self.storage.run(job))

    @initialize()
    def begin(self) -> None:
        def job(connection: Connection) -> list[int]:
            for table in reversed(SQLModel.metadata.sorted_tables):
                connection.execute(delete(table))
            chats.open_chat(connection, "memory", "g", private=False, locale="de", account_id=None, now=NOW)
            return some_people(connection, 5)

        self.people = self.run(job)
        self.group = self.run(lambda connection: connection.execute(select(chat_table.c.id)).scalar_one())
        self.ask(Kind.SEVERAL, Secrecy.OPEN, 0)
        self.begin_mirror(*self.box)

    @rule(kind=KINDS, secrecy=st.sampled_from(list(Secrecy)), author=st.integers(0, 4))
    def ask(self, kind: Kind, secrecy: Secrecy, author: int) -> None:
        person = self.people[author % len(self.people)]
        number = self.run(lambda connection: asked(connection, person, kind=kind, secrecy=secrecy, most=MOST))
        self.kinds[number], self.secret[number], self.box[number] = kind, secrecy is Secrecy.SECRET, {}

    def chosen(self, data: st.DataObject, polls: dict[int, Any]) -> tuple[int, int]:
        self.now += timedelta(seconds=1)
        return data.draw(st.sampled_from(sorted(polls))), data.draw(st.sampled_from(self.people))

    @precondition(lambda self: self.box)
    @rule(data=st.data())
    def vote(self, data: st.DataObject) -> None:
        number, person = self.chosen(data, self.box)
        content = data.draw(st.sampled_from(ballots(self.kinds[number])))
        if number in self.given:
            self.answer(number, person, content, self.now)
            return
        new = self.run(lambda connection: voting.vote(connection, number, person, content, self.now))
        assert new == (person not in self.box[number])
        self.box[number][person] = (content, self.now)

    @precondition(lambda self: self.box)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        number, person = self.chosen(data, self.box)
        if number in self.given:
            self.answer(number, person, None, self.now)
            return
        had = self.run(lambda connection: voting.withdraw(connection, number, person, self.now))
        assert had == (self.box[number].pop(person, None) is not None)

    @precondition(lambda self: any(self.can_mirror(number) for number in self.box))
    @rule(data=st.data())
    def mirror(self, data: st.DataObject) -> None:
        """From now on it also stands as the messenger's own; the ballots so far stay."""
        self.begin_mirror(
            data.draw(st.sampled_from([number for number in sorted(self.box) if self.can_mirror(number)]))
        )

    def begin_mirror(self, number: int) -> None:
        self.run(lambda connection: mirroring.begin(connection, number))
        self.given[number] = {
            person: [Given(at, next(self.order), content, None)] for person, (content, at) in self.box[number].items()
        }

    def can_mirror(self, number: int) -> bool:
        return (
            self.kinds[number] in (Kind.SINGLE, Kind.SEVERAL) and not self.secret[number] and number not in self.given
        )

    @precondition(lambda self: self.given)
    @rule(data=st.data(), ago=st.integers(0, 3), positions=st.none() | st.lists(st.integers(0, 3), max_size=3))
    def answer_in_the_messengers_own(self, data: st.DataObject, ago: int, positions: list[int] | None) -> None:
        """One choice, several, too many, unknown ones, or none; some come after others that were sent later."""
        number, person = self.chosen(data, self.given)
        most = MOST if self.kinds[number] is Kind.SEVERAL else 1
        content = mirroring.selected(positions, OPTIONS, most)
        self.answer(number, person, content, self.now - timedelta(seconds=ago), f"${next(self.order)}")

    def answer(self, number: int, person: int, content: Content | None, at: datetime, mark: str | None = None) -> None:
        source = None if mark is None else Source(self.group, mark)
        counts = self.run(lambda connection: mirroring.answer(connection, number, person, content, at, source))
        self.given[number].setdefault(person, []).append(Given(at, next(self.order), content, mark))
        self.settle(number, person)
        assert counts == self.box[number].get(person, (None,))[0]

    def settle(self, number: int, person: int) -> None:
        """The latest answer is the ballot."""
        latest = max(self.given[number].get(person, []), default=None, key=lambda given: given[:2])
        self.box[number].pop(person, None)
        if latest is not None and latest.content is not None:
            self.box[number][person] = (latest.content, latest.at)

    @precondition(lambda self: any(one.mark for polls in self.given.values() for all in polls.values() for one in all))
    @rule(data=st.data())
    def redact(self, data: st.DataObject) -> None:
        """An answer in the messenger's own poll is taken back; perhaps of somebody who has become another since."""
        number, person, given = data.draw(
            st.sampled_from(
                [
                    (number, person, one)
                    for number, people in self.given.items()
                    for person, all_ in people.items()
                    for one in all_
                    if one.mark is not None
                ]
            )
        )
        assert given.mark is not None
        source = Source(self.group, given.mark)
        self.run(lambda connection: mirroring.take_back(connection, source, self.now))
        self.given[number][person].remove(given)
        self.settle(number, person)

    @precondition(lambda self: self.counted)
    @rule(data=st.data())
    def vote_too_late(self, data: st.DataObject) -> None:
        number, person = self.chosen(data, self.counted)
        content = ballots(self.kinds[number])[0]
        with pytest.raises(Closed):
            self.run(lambda connection: voting.vote(connection, number, person, content, self.now))

    @precondition(lambda self: self.box)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.box)))

        def job(connection: Connection) -> list[bytes]:
            key = select(key_table.c.key).where(key_table.c.poll_id == number)
            tags = select(secret_table.c.tag).where(secret_table.c.poll_id == number)
            traces = [*connection.execute(key).scalars(), *connection.execute(tags).scalars()]
            assert voting.close(connection, number, self.now)
            mirroring.end(connection, number)
            return traces

        self.destroyed += self.run(job)
        self.counted[number] = [content for content, _ in self.box.pop(number).values()]
        self.given.pop(number, None)

    @precondition(lambda self: len(self.people) > 1)
    @rule(data=st.data())
    def link(self, data: st.DataObject) -> None:
        one, other = data.draw(st.permutations(self.people))[:2]
        self.now += timedelta(seconds=1)

        def job(connection: Connection) -> None:
            mirroring.merge(connection, one, other, self.now)
            leaving.merge(connection, one, other, self.now)

        self.run(job)
        for number, people in self.given.items():
            people[other] = people.get(other, []) + people.pop(one, [])
            self.box[number].pop(one, None)
            self.settle(number, other)
        for cast in self.box.values():
            theirs = cast.pop(one, None)
            if theirs is not None and (other not in cast or theirs[1] > cast[other][1]):
                cast[other] = theirs
        self.people.remove(one)

    @precondition(lambda self: len(self.people) < 7)
    @rule()
    def unlink(self) -> None:
        """An account becomes a person of its own again; the votes stay with the one they were cast by last."""

        def job(connection: Connection) -> int:
            name = f"unlinked {self.now.timestamp()} {len(self.people)}"
            query = insert(Person).returning(Person.__table__.c.id)  # type: ignore[attr-defined]
            person = {"pseudonym": name, "handle": name, "role": "participant", "notice": 1, "created_at": NOW}
            return int(connection.execute(query, person).scalar_one())

        self.now += timedelta(seconds=1)
        self.people.append(self.run(job))

    @precondition(lambda self: len(self.people) > 1)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        person = data.draw(st.sampled_from(self.people))

        def job(connection: Connection) -> None:
            with session_in(connection) as session:
                erasure.erase(session, person, keep_ideas=False)
                session.commit()

        self.run(job)
        self.people.remove(person)
        for cast in self.box.values():
            cast.pop(person, None)
        for people in self.given.values():
            people.pop(person, None)

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.storage.close())
        self.storage = Storage(self.url)

    @invariant()
    def the_count_is_true(self) -> None:
        def job(connection: Connection) -> None:
            assert is_true(connection)
            for number, cast in self.box.items():
                poll = rules_of(connection, number)
                for person in self.people:
                    found = voting.own(connection, poll, person)
                    assert (found and (found.content, found.at)) == cast.get(person)
                assert sorted(expanded(voting.profile(connection, number))) == sorted(said for said, _ in cast.values())
            for number, said in self.counted.items():
                assert sorted(expanded(voting.profile(connection, number))) == sorted(said)

        self.run(job)

    @invariant()
    def no_closed_secret_ballot_leads_to_a_person(self) -> None:
        def job(connection: Connection) -> None:
            closed = [number for number in self.counted if self.secret[number]]
            for table in (ballot_table, secret_table, key_table):
                assert connection.execute(select(table).where(table.c.poll_id.in_(closed))).all() == []

        self.run(job)
        if self.url.startswith("sqlite"):
            found = files(self.folder)
            assert not any(trace in content for content in found for trace in self.destroyed)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.storage.close())
        self.loop.close()


def expanded(profile: Any) -> list[Content]:
    return [content for content, number in profile.items() for _ in range(number)]


def test_in_any_order_of_anything_there_is_one_ballot_each_and_the_count_is_true(database: str, tmp_path: Path) -> None:
    machine = type("Polling", (Polling,), {"url": database, "folder": tmp_path})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25 if database.startswith("sqlite") else 12,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
