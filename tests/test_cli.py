"""The command line: what an operator types, and what a mistake answers."""

import asyncio
import contextlib
import csv
import fcntl
import io
import json
import logging
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import structlog
from sqlmodel import Session
from typer.testing import CliRunner, Result

from bot.__main__ import app
from bot.demo.terminal import play
from storage import chats, ideas, people
from storage.announcements import writing
from storage.announcements.writing import Status
from storage.engine import migrate, open_engine
from storage.events import planning
from storage.events.planning import Plan
from storage.people import Account, Role
from storage.polls import asking, voting
from storage.polls.asking import Draft
from storage.polls.tables import Secrecy

TOKEN = "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11"
NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def undone() -> Iterator[None]:
    """A command sets up logs and file modes for its process; here the process goes on."""
    root, mask, configured = logging.getLogger(), os.umask(0o022), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    yield
    os.umask(mask)
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configured)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def environment(data: Path) -> dict[str, str | None]:
    """The environment of a lab with its data in a folder of the test, and no messenger."""
    found: dict[str, str | None] = {name: None for name in os.environ if name.startswith("LABBOT_")}
    return {**found, "LABBOT_DATA": str(data), "LABBOT_HTTP": "127.0.0.1:0"}


@pytest.fixture
def labbot(environment: dict[str, str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Labbot":
    monkeypatch.chdir(tmp_path)
    return Labbot(environment)


class Labbot:
    """Runs a command in this process."""

    def __init__(self, environment: dict[str, str | None]) -> None:
        self.environment = environment

    def __call__(self, *arguments: str, **settings: str) -> Result:
        named = {f"LABBOT_{name.upper()}": value for name, value in settings.items()}
        return CliRunner().invoke(app, list(arguments), env={**self.environment, **named})


def arrive(session: Session, adapter: str, external: str) -> int:
    """Somebody new. Returns the person's id."""
    account = people.arrive(session.connection(), adapter, external, NOW)
    return session.get_one(Account, account).person_id


def only_line(text: str) -> str:
    [line] = text.splitlines()
    assert "Traceback" not in line
    return line


def in_a_process(environment: dict[str, str | None], folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command in a process of its own. Returns its exit code and what it wrote."""
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-m", "bot", *arguments],
        env={**variables, "PYTHONPATH": str(Path(__file__).parent.parent)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


# -- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["run"], ["check"], ["migrate"], ["invite"], ["export", "ideas"], ["demo"]])
def test_a_wrong_setting_ends_every_command_with_one_line_that_names_it(labbot: Labbot, command: list[str]) -> None:
    result = labbot(*command, timezone="Nowhere")
    assert result.exit_code == 2
    assert only_line(result.stderr).startswith("LABBOT_TIMEZONE: “Nowhere” is no time zone")
    assert result.stdout == ""


def test_a_data_folder_that_cannot_be_used_is_named(labbot: Labbot, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = labbot("migrate", data=str(tmp_path / "file"))
    assert result.exit_code == 2
    assert only_line(result.stderr).startswith("LABBOT_DATA: ")


def test_without_a_messenger_there_is_nothing_to_run(labbot: Labbot) -> None:
    result = labbot("run")
    assert result.exit_code == 2
    assert only_line(result.stderr).startswith(
        "LABBOT_TELEGRAM_TOKEN, LABBOT_MATRIX_HOMESERVER: no messenger is set up"
    )


@pytest.mark.parametrize("command", [["run"], ["migrate"], ["invite"], ["export", "people"]])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://nobody@127.0.0.1:1/nothing", "connection"),
        ("sqlite:////dev/null/labbot.db", "unable to open database file"),
    ],
    ids=["postgresql", "sqlite"],
)
def test_a_database_that_does_not_answer_is_named(labbot: Labbot, command: list[str], url: str, reason: str) -> None:
    result = labbot(*command, database_url=url, telegram_token=TOKEN)
    assert result.exit_code == 1
    line = only_line(result.stderr)
    assert line.startswith("LABBOT_DATABASE_URL: the database does not answer: ")
    assert reason in line


def test_a_database_of_another_version_is_named(labbot: Labbot, data: Path) -> None:
    assert labbot("migrate").exit_code == 0
    connection = sqlite3.connect(data / "labbot.db")
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from-the-future'")
    connection.close()
    result = labbot("migrate")
    assert result.exit_code == 1
    assert only_line(result.stderr).startswith("LABBOT_DATABASE_URL: the tables are from another version of labbot")


@pytest.mark.parametrize("command", [["run"], ["invite"], ["export", "ideas"]])
def test_tables_are_not_touched_when_the_operator_wants_to_do_it(
    labbot: Labbot, data: Path, command: list[str]
) -> None:
    result = labbot(*command, migrate="0", telegram_token=TOKEN)
    assert result.exit_code == 1
    assert only_line(result.stderr) == ("LABBOT_MIGRATE: is 0 and the tables are not up to date; run: labbot migrate")
    connection = sqlite3.connect(data / "labbot.db")
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()
    assert labbot("migrate", migrate="0").exit_code == 0
    assert labbot("invite", migrate="0").exit_code == 0


def test_a_language_there_is_not_is_named_before_anything_is_started(
    environment: dict[str, str | None], tmp_path: Path
) -> None:
    environment |= {"LABBOT_LOCALE": "tlh", "LABBOT_TELEGRAM_TOKEN": TOKEN}
    code, out, err = in_a_process(environment, tmp_path, "run")
    assert (code, out) == (2, "")
    assert only_line(err).startswith("LABBOT_LOCALE: there is no language “tlh”; there are: de, en")


def test_a_port_that_is_taken_is_named(environment: dict[str, str | None], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        environment |= {"LABBOT_HTTP": address, "LABBOT_TELEGRAM_TOKEN": TOKEN}
        code, out, err = in_a_process(environment, tmp_path, "run")
    assert (code, out) == (2, "")
    assert only_line(err).startswith(f"LABBOT_HTTP: {address} cannot be used: ")


def test_a_second_bot_on_the_same_data_is_refused(labbot: Labbot, data: Path) -> None:
    data.mkdir()
    with (data / "labbot.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        result = labbot("run", telegram_token=TOKEN)
    assert result.exit_code == 2
    assert only_line(result.stderr) == f"LABBOT_DATA: another labbot is running on {data}"


def test_an_unknown_command_says_what_there_is(labbot: Labbot) -> None:
    assert labbot("dance").exit_code == 2
    assert "run" in labbot().output


# -- commands -----------------------------------------------------------------------------------------------


def test_the_data_is_for_this_user_only(labbot: Labbot, data: Path) -> None:
    assert labbot("migrate").stdout == "the tables are up to date\n"
    assert labbot("migrate").exit_code == 0
    assert data.stat().st_mode & 0o777 == 0o700
    files = list(data.iterdir())
    assert (data / "labbot.db") in files
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_an_invitation_is_a_code_that_works_once_and_is_not_stored(labbot: Labbot, data: Path) -> None:
    code = only_line(labbot("invite").stdout)
    lead = only_line(labbot("invite", "lead").stdout)
    assert code.encode() not in (data / "labbot.db").read_bytes()
    engine = open_engine(f"sqlite:///{data / 'labbot.db'}")
    with Session(engine) as session:
        person = arrive(session, "telegram", "1")
        assert people.claim(session, person, code, datetime.now(UTC)) is Role.ORGANISER
        assert people.claim(session, person, code, datetime.now(UTC)) is None
        assert people.claim(session, person, lead, datetime.now(UTC)) is Role.LEAD
    engine.dispose()
    assert labbot("invite", "king").exit_code == 2


def test_check_says_what_is_set_up_and_one_line_for_each_fault(labbot: Labbot, data: Path) -> None:
    result = labbot("check", name="KoSI-Lab", locale="tlh", migrate="0")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "lab: KoSI-Lab, language tlh, time zone Europe/Berlin"
    assert lines[1] == f"data: {data}"
    faults = [line.partition(": ")[2].partition(":")[0] for line in lines if line.startswith("fault: ")]
    assert faults == ["LABBOT_LOCALE", "LABBOT_DATABASE_URL", "LABBOT_TELEGRAM_TOKEN, LABBOT_MATRIX_HOMESERVER"]


def test_check_names_a_messenger_and_a_database_that_do_not_answer(labbot: Labbot) -> None:
    result = labbot(
        "check",
        telegram_token=TOKEN,
        telegram_api="http://127.0.0.1:1",
        database_url="postgresql://nobody@127.0.0.1:1/nothing",
    )
    assert result.exit_code == 1
    faults = [line for line in result.stdout.splitlines() if line.startswith("fault: ")]
    assert [fault.split(": ")[1] for fault in faults] == ["LABBOT_DATABASE_URL", "telegram"]
    assert TOKEN not in result.output
    assert "Traceback" not in result.output


# -- export -------------------------------------------------------------------------------------------------

TITLES = ["A garage", "=1+1", "+49", "-1", "@SUM(A1)", "\tTab", 'Quote " and, comma', "Zwei\nZeilen", "Ä 😀"]


@pytest.fixture
def filled(data: Path) -> Path:
    """A database with ideas in it, some with titles that a spreadsheet would take for a formula."""
    data.mkdir(mode=0o700)
    url = f"sqlite:///{data / 'labbot.db'}"
    migrate(url)
    engine = open_engine(url)
    with Session(engine) as session:
        anna = arrive(session, "telegram", "1")
        for title in TITLES:
            ideas.submit(session, author_id=anna, title=title, text="", topic="other", named=False, now=NOW)
        withdrawn = ideas.submit(session, author_id=anna, title="gone", text="", topic="other", named=False, now=NOW)
        ideas.withdraw(session, withdrawn.id or 0, anna)
        arrive(session, "memory", "2")
        session.commit()
    engine.dispose()
    return data


def test_ideas_are_exported_as_one_json_object_a_line(labbot: Labbot, filled: Path) -> None:
    result = labbot("export", "ideas", "--format", "json")
    assert result.exit_code == 0
    lines = [json.loads(line) for line in result.stdout.split("\n")[:-1]]
    assert [line["title"] for line in lines] == TITLES
    assert " ".join(lines[0]) == "number title text topic status author supports comments created_at"
    assert lines[0]["created_at"] == "2026-11-02T09:00:00+00:00"
    assert "Ä 😀" in result.stdout


def test_ideas_are_exported_as_csv_without_formulas(labbot: Labbot, filled: Path) -> None:
    result = labbot("export", "ideas", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout_bytes.decode(), newline="")))
    found = [row["title"] for row in rows]
    assert [title.removeprefix("'") for title in found] == TITLES
    assert [title for title in found if title[:1] in "=+-@\t\r"] == []
    assert [title for title in found if title.startswith("'")] == [f"'{title}" for title in TITLES[1:6]]
    assert rows[0]["number"] == "1"


def test_people_are_exported_without_their_numbers_at_the_messenger(labbot: Labbot, filled: Path) -> None:
    lines = [json.loads(line) for line in labbot("export", "people").stdout.splitlines()]
    assert " ".join(lines[0]) == "id pseudonym roles locale accounts created_at"
    assert [line["accounts"] for line in lines] == [["telegram"], ["memory"]]
    assert [line["roles"] for line in lines] == [["participant"], ["participant"]]
    [_, first, _] = labbot("export", "people", "--format", "csv").stdout.splitlines()
    assert ",participant," in first
    assert ",telegram," in first


def test_polls_are_exported_with_their_votes_and_a_secret_one_only_after_its_close(
    labbot: Labbot, filled: Path
) -> None:
    engine = open_engine(f"sqlite:///{filled / 'labbot.db'}")
    with Session(engine) as session:
        connection = session.connection()
        for secrecy in (Secrecy.OPEN, Secrecy.SECRET, Secrecy.SECRET):
            draft = Draft("=Which?", ("=Tue", "Wed"), secrecy=secrecy)
            number = asking.ask(connection, draft, 1, NOW, ZoneInfo("UTC"))
            voting.vote(connection, number, 1, (1,), NOW)
        voting.close(connection, number, NOW)
        session.commit()
    engine.dispose()
    lines = [json.loads(line) for line in labbot("export", "polls").stdout.splitlines()]
    assert [list(line) for line in lines] == [
        ["number", "question", "kind", "secrecy", "status", "options", "voters", "closes_at"]
    ] * 3
    assert [[option["votes"] for option in line["options"]] for line in lines] == [[0, 1], [None, None], [0, 1]]
    assert [(line["secrecy"], line["status"], line["voters"]) for line in lines] == [
        ("open", "open", 1),
        ("secret", "open", 1),
        ("secret", "closed", 1),
    ]
    [_, first, *_] = labbot("export", "polls", "--format", "csv").stdout.splitlines()
    assert first == "1,'=Which?,single,open,open,'=Tue: 0; Wed: 1,1,"


def test_events_are_exported_with_how_many_come(labbot: Labbot, filled: Path) -> None:
    engine = open_engine(f"sqlite:///{filled / 'labbot.db'}")
    wall = datetime(2026, 12, 5, 18)  # noqa: DTZ001
    with Session(engine) as session:
        plan = Plan(title="=Walk", wall=wall, minutes=120, topic="other", locale="en", zone="Europe/Berlin", capacity=9)
        planning.write(session, plan, wall, 1, NOW)
        session.commit()
    engine.dispose()
    [line] = [json.loads(line) for line in labbot("export", "events").stdout.splitlines()]
    assert " ".join(line) == "number title starts_at ends_at place status going maybe waiting capacity"
    assert [line[name] for name in ("title", "starts_at", "going")] == ["=Walk", "2026-12-05T17:00:00+00:00", 0]
    [_, first] = labbot("export", "events", "--format", "csv").stdout.splitlines()
    assert first == "1,'=Walk,2026-12-05T17:00:00+00:00,2026-12-05T19:00:00+00:00,,draft,0,0,0,9"


@pytest.fixture
def announced(data: Path) -> Path:
    """A database with an announcement that is on its way, one that has been sent, and a draft."""
    data.mkdir(mode=0o700)
    url = f"sqlite:///{data / 'labbot.db'}"
    migrate(url)
    engine = open_engine(url)
    with Session(engine) as session:
        anna = arrive(session, "telegram", "1")
        connection = session.connection()
        chats.open_chat(connection, "telegram", "1", private=True, locale="en", account_id=anna, now=NOW)
        for text, status in (("Sent", Status.DONE), ("=Moving", Status.SENDING), ("Draft", Status.DRAFT)):
            one = writing.draft(session, author_id=anna, chat_id=1, locale="en", now=NOW)
            writing.word(session, one, "en", text, text)
            one.status, one.recipients, one.delivered, one.failed = status, 4, 2, 1
            one.step_at = NOW if status == Status.SENDING else None
        session.commit()
    engine.dispose()
    return data


def test_announcements_are_exported_with_what_has_become_of_their_copies(labbot: Labbot, announced: Path) -> None:
    lines = [json.loads(line) for line in labbot("export", "announcements").stdout.splitlines()]
    assert " ".join(lines[0]) == "number text status recipients delivered unreachable failed pending"
    assert [list(line.values()) for line in lines] == [
        [1, "Sent", "done", 4, 2, 0, 1, 1],
        [2, "=Moving", "sending", 4, 2, 0, 1, 1],
    ]
    assert "2,'=Moving,sending" in labbot("export", "announcements", "--format", "csv").stdout


def test_how_far_announcements_are_is_a_line_each(labbot: Labbot, announced: Path) -> None:
    assert labbot("announcements").stdout.splitlines() == [
        "1: done, 2 delivered, 0 unreachable, 1 failed, 1 pending of 4",
        "2: sending, 2 delivered, 0 unreachable, 1 failed, 1 pending of 4",
    ]


def test_in_a_terminal_a_bar_follows_until_all_is_sent_and_holds_up_nobody_who_stores_something(
    environment: dict[str, str | None], announced: Path, tmp_path: Path
) -> None:
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    ours, theirs = os.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-m", "bot", "announcements"],
        env={**variables, "PYTHONPATH": str(Path(__file__).parent.parent), "TERM": "xterm", "COLUMNS": "120"},
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while b"sending, 2 delivered" not in shown:
        shown += os.read(ours, 4096)
    bot = sqlite3.connect(announced / "labbot.db", timeout=0.3, isolation_level=None)
    for delivered in (3, 4):  # while somebody watches
        bot.execute("BEGIN IMMEDIATE")
        bot.execute("UPDATE announcement SET delivered = ?, failed = 0 WHERE id = 2", (delivered,))
        bot.execute("COMMIT")
    bot.execute("UPDATE announcement SET status = 'done', step_at = NULL WHERE id = 2")
    bot.close()
    with contextlib.suppress(OSError):  # the terminal is gone with who wrote to it
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert watching.wait(timeout=30) == 0
    assert b"2: done, 4 delivered" in shown
    assert b"1: done" not in shown  # that was over before


def test_an_export_of_nothing_is_empty(labbot: Labbot) -> None:
    for form in ("json", "csv"):
        result = labbot("export", "ideas", "--format", form)
        assert (result.exit_code, result.stdout) == (0, "")


def test_whoever_has_read_enough_of_an_export_may_close_it(
    environment: dict[str, str | None], filled: Path, tmp_path: Path
) -> None:
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    command = [sys.executable, "-m", "bot", "export", "ideas"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command,
        env={**variables, "PYTHONPATH": str(Path(__file__).parent.parent)},
        cwd=tmp_path,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


# -- the demo -----------------------------------------------------------------------------------------------


class Keyboard(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


def test_the_demo_plays_a_story_when_nobody_is_at_the_keyboard(labbot: Labbot, tmp_path: Path) -> None:
    result = labbot("demo", "--terminal", telegram_token=TOKEN)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Deine Idee hat die Nummer #1" in result.stdout
    assert "Fahrradgarage am Nordmarkt" in result.stdout.partition("Ben: /ideas")[2]
    assert not (tmp_path / "data").exists()


def test_in_the_demo_two_people_can_talk_to_the_bot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", Keyboard("/start\n\n@ben\n@nobody\n/start\n"))
    with asyncio.Runner() as runner:
        runner.run(play())
    said = capsys.readouterr().out
    assert "Hallo!" in said
    assert "Hello! I am the bot of KoSI-Lab." in said.partition("Hallo!")[2]
    assert "[1 Suggest an idea]" in said
    assert "<" not in said


def test_the_demo_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    keyboard = Keyboard("@quit\n/start\n")
    monkeypatch.setattr(sys, "stdin", keyboard)
    with asyncio.Runner() as runner:
        runner.run(play())
    assert keyboard.read() == "/start\n"
