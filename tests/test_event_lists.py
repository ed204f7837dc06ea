"""Finding events by day, words and language, and saying otherwise what they are about."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event
from sqlmodel import Session, col, select

from bot.text import Catalogues
from storage.events import listing
from storage.events.tables import Event
from tests.conftest import Community
from tests.test_events import LINE, announces, opens, organises


async def test_events_are_found_by_the_day_the_week_or_the_month(lab: Community) -> None:
    olga, anna = await lab.organiser("olga", locale="de"), lab.person("anna", "de")
    await olga.says("/termin Ärztefrühstück | morgen 9 Uhr | Haus")
    await olga.presses("Veröffentlichen")
    await olga.says("/termin Sommerfest | Freitag 18 Uhr bis Sonntag 14 Uhr | Park")
    await olga.presses("Veröffentlichen")
    for words, found in {
        "morgen": ["Ärztefrühstück"],
        "Dienstag": ["Ärztefrühstück"],
        "Sonntag": ["Sommerfest"],  # it goes on
        "8.11.": ["Sommerfest"],
        "diese Woche": ["Ärztefrühstück", "Sommerfest"],
        "Wochenende": ["Sommerfest"],
        "November": ["Ärztefrühstück", "Sommerfest"],
        "heute": [],
        "nächste Woche": [],
        "Dezember": [],
    }.items():
        await anna.says(f"/termine {words}")
        assert [title for title in ("Ärztefrühstück", "Sommerfest") if title in anna.sees] == found, words
        assert found or anna.sees.startswith("Für diese Zeit ist nichts geplant: ")
    await anna.says("/termine dezember")
    assert anna.sees.endswith("Dienstag, 1. Dezember 2026 – Donnerstag, 31. Dezember 2026.")
    await anna.presses("Suchen")
    await anna.presses("Diese Woche")
    assert "Fr., 6. Nov., 18:00 – So., 8. Nov." in anna.sees
    assert "Das ist los, Montag, 2. November 2026 – Sonntag, 8. November 2026:" in anna.sees
    await anna.says("Ein Spielplatz fehlt")  # the question is answered by what was chosen
    assert anna.sees == "Soll das eine Idee werden, die alle sehen?"
    for words, title in (("ärzte", "Ärztefrühstück"), ("Sonntag", "Sommerfest")):
        await anna.says("/termine")
        await anna.presses("Suchen")
        await anna.says(words)  # without a command
        assert title in anna.sees
    await anna.says("/termine ärzte")
    assert "Ärztefrühstück" in anna.sees
    for words in ("31.12.9999", "1.1.0001", "marathon"):  # no days of ours, and not the month of March
        await anna.says(f"/termine {words}")
        assert anna.sees.startswith("Dazu ist gerade nichts geplant."), words


async def test_an_event_may_be_in_several_languages_and_its_topic_can_be_changed_later(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna", "de")
    await olga.says(f"/event {LINE}")
    assert "Topic: Something else. Language: English." in olga.sees
    await olga.presses("Change: Language")
    await olga.says("Klingonic")
    assert olga.sees == "I know no language “Klingonic”. Write it like this: English, Turkish"
    await olga.says("Deutsch und Türkisch")
    await olga.presses("Publish")
    assert "Thema: Anderes. Sprache: Deutsch, Türkisch." in (await opens(anna, "1")).html
    await organises(olga, "1", "Change: Topic")
    await olga.says("housing")
    await organises(olga, "1", "Change: Language")
    await olga.says("Ukrainian")
    await lab.later(0)
    assert "Thema: Wohnen. Sprache: Ukrainisch." in anna.sees  # the card follows
    await olga.presses("Mobility")  # an old choice still holds
    await anna.says("/termine wohnen")
    assert "Repair" not in anna.sees


@pytest.mark.parametrize(("words", "tag"), [("Arabisch", "ar"), ("turkish", "tr"), ("PT-BR", "pt-BR"), ("x", None)])
def test_a_language_is_known_by_its_name_or_its_tag(words: str, tag: str | None) -> None:
    assert Catalogues("de", ZoneInfo("UTC")).language(words) == tag


async def test_of_a_series_all_get_another_topic(lab: Community) -> None:
    olga = await lab.organiser("olga")
    await announces(olga, "Open lab | every Tuesday 18:00, 3 times | Lab")
    await organises(olga, "2", "Change: Topic")
    await olga.presses("This one and all that follow")
    await olga.presses("Mobility")
    topics = await lab.read(lambda session: session.exec(select(Event.topic).order_by(col(Event.id))).all())
    assert topics == ["other", "mobility", "mobility"]
    await olga.says("/events mobility")
    assert [label.split()[0] for label in olga.choices if label.startswith("#")] == ["#2"]


async def test_a_series_is_in_the_list_once_with_its_next_date_and_does_not_hide_what_comes_once(
    lab: Community,
) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    await announces(olga, "Open lab | every Tuesday 18:00, 7 times | Lab")
    await announces(olga, LINE)
    for next_date in ("#1", "#2"):
        await anna.says("/events")
        assert [label.split()[0] for label in anna.choices if label.startswith("#")] == [next_date, "#8"]
        assert "Lab · one of a series" in anna.sees
        await lab.later(86400 * 3)
    await anna.says("/events lab")
    assert [label.split()[0] for label in anna.choices if label.startswith("#")] == ["#2"]
    await anna.says("/events november")
    assert [label.split()[0] for label in anna.choices if label.startswith("#")] == ["#2", "#3", "#4"]


async def test_a_date_of_a_series_says_so_and_leads_to_the_others_and_is_over_when_it_is(lab: Community) -> None:
    olga, anna = await lab.organiser("olga"), lab.person("anna")
    await announces(olga, "Open lab | every Tuesday 18:00, 3 times | Lab")
    await announces(olga, LINE)
    assert "It is one of a series." in (await opens(anna, "2")).html
    assert anna.choices == ["I come", "Maybe", "I cannot come", "All dates"]
    await anna.presses("All dates")
    assert [label for label in anna.choices if label.startswith("#")] == ["#1 Open lab", "#2 Open lab", "#3 Open lab"]
    await lab.later(86400 * 3)
    assert (await opens(anna, "1")).html.endswith("It is over.")
    assert "series" not in (await opens(anna, "4")).html


async def test_a_list_does_not_look_at_all_dates_again_for_each_of_them(lab: Community) -> None:
    plans: list[str] = []

    def look(session: Session) -> None:
        def note(_c: Any, _cursor: Any, words: str, values: Any, *_: Any) -> None:
            asked.append((words, values))

        asked: list[tuple[str, Any]] = []
        engine = session.get_bind().engine
        event.listen(engine, "before_cursor_execute", note)
        listing.browse(session, lab.time.now(), next_only=True)
        event.remove(engine, "before_cursor_execute", note)
        driver: Any = session.connection().connection
        explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
        for words, values in [each for each in asked if each[0].startswith("SELECT")]:
            cursor = driver.cursor()
            cursor.execute(f"{explain} {words}", values)
            plans.extend(str(step) for step in cursor.fetchall())

    await lab.read(look)
    assert plans
    assert not [step for step in plans if "CORRELATED" in step or "Anti Join" in step]
