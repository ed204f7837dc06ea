"""The invented community: who lives there, what they have suggested so far, and what the others say to it.

All of it is said and pressed in the messenger, as people would; the bot does the rest.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from sqlalchemy import Connection

from bot.adapters.playground import Person, Playground
from bot.app import TOPICS, App
from bot.types import ChatRef, T, Text
from storage import people
from storage.engine import session_in
from storage.people import Role

PEOPLE = (
    Person("anna", "Anna", "de"),
    Person("ben", "Ben", "en"),
    Person("rosa", "Rosa", "de", organiser=True),
)
TEAM, MARKET = "Team KoSI-Lab", "Nachbarschaft Nordmarkt"
GROUPS = ((TEAM, ("rosa",)), (MARKET, ("anna", "ben", "rosa")))


@dataclass(frozen=True, slots=True)
class Suggested:
    """An idea: who had it, how many days ago, who supports it (how many neighbours), and what they say to it."""

    author: str
    locale: str
    days: int
    topic: str
    title: str
    text: str
    supports: int
    comments: Sequence[str] = ()


IDEAS = (
    Suggested(
        "elif", "de", 34, "work", "Werkstatt-Nachmittage für Schülerinnen und Schüler",
        "Betriebe im Viertel öffnen einmal im Monat ihre Werkstatt. Wer mag, probiert aus, was sie dort tun. "
        "Der Weg von der Schule in den Beruf beginnt mit einer Tür, die offen steht.",
        9, ("Unsere Tischlerei wäre dabei, donnerstags.", "Bitte auch Pflege und IT, nicht nur Handwerk."),
    ),
    Suggested(
        "jonas", "de", 31, "neighbourhood", "Leere Läden auf Probe",
        "In der Münsterstraße stehen sechs Läden leer. Wer eine Idee hat, bekommt einen davon für drei Monate, "
        "nur gegen die Nebenkosten.",
        10, ("Die Eigentümer fragen zuerst nach der Haftung. Kann die Stadt bürgen?", "Ich würde dort nähen."),
    ),
    Suggested(
        "priya", "en", 27, "neighbourhood", "A language café in the library",
        "Tuesday evenings, tea, and tables by language. Newcomers practise German, neighbours practise theirs.",
        6, ("I can bring Arabic and a samovar.",),
    ),
    Suggested(
        "marta", "de", 24, "neighbourhood", "Nachbarschaftshilfe mit einem Anruf",
        "Einkaufen, Glühbirne, zum Arzt begleiten: eine Nummer, bei der jemand abhebt und jemanden kennt.",
        8, ("Wichtig: ein Telefon, keine App.",),
    ),
    Suggested(
        "kofi", "en", 21, "mobility", "Cargo bikes to borrow",
        "Two cargo bikes at the community centre, free for three hours. Saves many short car trips.", 5,
    ),
    Suggested(
        "lena", "de", 18, "mobility", "Sichere Kreuzung vor der Grundschule",
        "Um zehn vor acht ist dort Chaos. Eine Stunde am Morgen ohne Durchfahrt würde reichen.",
        7, ("Aachen hat das als Schulstraße ausprobiert.",),
    ),
    Suggested(
        "anna", "de", 15, "mobility", "Fahrradgarage am Nordmarkt",
        "Viele haben im Altbau keinen Platz. Ein trockener, abschließbarer Ort fehlt.",
        8, ("Im Parkhaus ist die unterste Ebene fast immer leer.", "Bitte mit Steckdosen."),
    ),
    Suggested(
        "tomasz", "de", 12, "housing", "Wohnungstausch im Viertel",
        "Die einen haben zu viele Zimmer, die anderen zu wenige. Wer tauscht, behält seine Miete je Quadratmeter.", 6,
    ),
    Suggested(
        "samira", "de", 9, "work", "Lernabend in der Kantine",
        "Nach vier steht die Kantine leer. Auszubildende lernen dort zusammen, Ältere erklären, es gibt Suppe.",
        4, ("Montags und mittwochs hätten wir Freiwillige.",),
    ),
    Suggested(
        "oskar", "de", 6, "other", "Trinkbrunnen und Schatten am Spielplatz",
        "Im Juli war der Sand zu heiß zum Spielen. Zwei Bäume, ein Segel und ein Brunnen.", 5,
    ),
    Suggested(
        "mei", "en", 3, "neighbourhood", "A repair café every first Saturday",
        "Bring what is broken, leave with a screwdriver in your hand. The makerspace has the tools.", 3,
    ),
    Suggested(
        "dieter", "de", 1, "other", "Vereine teilen ihre Räume",
        "Ein Kalender für alle Vereinsräume im Viertel: wann frei, welcher Schlüssel, was es kostet.", 2,
    ),
)  # fmt: skip

POLL = "Wann treffen wir uns zum Nachbarschaftsabend? | Dienstag | Mittwoch | Donnerstag"


EVENTS = (
    "Dialogabend: Leere Läden | nächste Woche Freitag 18–21 Uhr | Union-Gewerbehof, Huckarder Straße 12 | 30",
    "Repaircafé | jeden ersten Samstag im Monat 14–17 Uhr, 6 mal | Makerspace am Nordmarkt | 12",
)


class Shift(Protocol):
    """A clock that can be set."""

    ahead: timedelta


class Neighbourhood:
    """Lets the community move in."""

    def __init__(self, app: App, messenger: Playground, time: Shift) -> None:
        self._app = app
        self._messenger = messenger
        self._time = time
        self._locales = {person.id: person.locale for person in PEOPLE}

    async def move_in(self, *, empty: bool) -> None:
        """Rosa gets her role and the team its room; unless ``empty``, people have been busy for weeks."""
        self._time.ahead = -timedelta(days=40) if not empty else timedelta()
        await self._organise()
        if not empty:
            await self._suggest()
            await self._discuss()
            await self._decide()
            await self._announce()
            await self._poll()
            await self._greet()
        self._time.ahead = timedelta()

    async def _organise(self) -> None:
        def code(connection: Connection) -> str:
            with session_in(connection) as session:
                found = people.invite(session, Role.ORGANISER, self._messenger.now())
                session.commit()
                return found

        self._say("rosa", f"/claim {await self._app.storage.run(code)}")
        await self._rest()
        self._messenger.say("rosa", ChatRef(self._messenger.name, f"g-{TEAM}"), "/team")
        await self._rest()

    async def _suggest(self) -> None:
        for idea in IDEAS:
            self._locales.setdefault(idea.author, idea.locale)
            self._messenger.names.setdefault(idea.author, idea.author.title())
            self._say(idea.author, "/start")
        self._say("ben", "/start")
        await self._rest()
        for idea in IDEAS:
            self._command(idea.author, "idea", idea.title)
        await self._rest()
        for idea in IDEAS:
            self._say(idea.author, idea.text)
        await self._rest()
        for idea in IDEAS:
            self._press(idea.author, TOPICS[idea.topic])
        await self._rest()
        for idea in IDEAS:
            self._time.ahead = -timedelta(days=idea.days)
            self._press(idea.author, T("Send"))
            await self._rest()

    async def _discuss(self) -> None:
        authors = [idea.author for idea in IDEAS]
        for step in range(1, len(authors)):  # each round everybody looks at another's idea
            readers = [(authors[(place + step) % len(authors)], place) for place in range(len(authors))]
            for reader, place in readers:
                if step <= IDEAS[place].supports:
                    self._command(reader, "ideas", str(place + 1))
            await self._rest()
            for reader, place in readers:
                if step <= IDEAS[place].supports:
                    self._press(reader, T("Support"))
            await self._rest()
            said = [(reader, place) for reader, place in readers if step <= len(IDEAS[place].comments)]
            if said:
                for reader, _ in said:
                    self._press(reader, T("Comment"))
                await self._rest()
                for reader, place in said:
                    self._time.ahead = -timedelta(days=max(IDEAS[place].days - 1, 0), hours=step)
                    self._say(reader, IDEAS[place].comments[step - 1])
                await self._rest()

    async def _decide(self) -> None:
        """The lab takes one idea up."""
        self._time.ahead = -timedelta(days=14)
        room = ChatRef(self._messenger.name, f"g-{TEAM}")
        self._press("rosa", T("Take it up"), room, holding=IDEAS[1].title)
        await self._rest()

    async def _poll(self) -> None:
        """Rosa asks the neighbours; some of them have voted."""
        self._time.ahead = -timedelta(hours=3)
        market = ChatRef(self._messenger.name, f"g-{MARKET}")
        words = self._app.lab.catalogues["de"]
        self._messenger.say("rosa", market, f"/{words.gettext('poll')} {POLL}")
        await self._rest()
        card = next(seen for seen in reversed(self._messenger.sees(market)) if seen.buttons)
        for place, person in enumerate(idea.author for idea in IDEAS[:9]):
            self._messenger.press(person, market, card.id, (0, 2, 2, 1, 2)[place % 5], card.revision)
        await self._rest()

    async def _announce(self) -> None:
        """Two events: an evening next week, and something every month."""
        self._time.ahead = -timedelta(days=5)
        for line in EVENTS:
            self._command("rosa", "event", line)
            await self._rest()
            self._press("rosa", T("Publish"))
            await self._rest()
        for person in ("lena", "dieter", "jonas", "anna"):
            self._command(person, "events", "1 +1" if person == "lena" else "1 ja")
        await self._rest()

    async def _greet(self) -> None:
        """What stands on the screens when somebody opens the page."""
        self._time.ahead = -timedelta(hours=1)
        for person in ("anna", "ben"):
            self._command(person, "ideas")
        await self._rest()

    def _chat(self, person: str) -> ChatRef:
        return self._messenger.private(person, self._locales[person])

    def _say(self, person: str, words: str) -> None:
        self._messenger.say(person, self._chat(person), words)

    def _command(self, person: str, name: str, words: str = "") -> None:
        """A command under its name in the person's language."""
        self._say(person, f"/{self._app.lab.catalogues[self._locales[person]].gettext(name)} {words}".strip())

    def _press(self, person: str, label: Text, chat: ChatRef | None = None, holding: str = "") -> None:
        """Press the choice under the newest message that has it."""
        place = chat or self._chat(person)
        words = self._app.lab.catalogues[self._locales[person]].plain(label)
        for seen in reversed(self._messenger.sees(place)):
            for position, button in enumerate(seen.buttons):
                if button.label == words and holding in seen.html:
                    self._messenger.press(person, place, seen.id, position, seen.revision)
                    return
        raise LookupError(f"nothing to press says {words}")

    async def _rest(self) -> None:
        """Until all is handled, delivered and answered."""
        await self._messenger.caught_up()
        await self._app.outboxes[self._messenger.name].idle.wait()
        await self._app.dispatch.answered()
        await asyncio.sleep(0)
