"""Words: texts become words in a reader's language, and what people wrote stays what they wrote."""

from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.text import Catalogues
from bot.types import Lines, N, T, Text, Verbatim
from tests.test_choices import visible

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(scope="module")
def words() -> Catalogues:
    return Catalogues("de", BERLIN)


TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
SOME_WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=TURNING))


@given(SOME_WORDS)
def test_what_people_write_is_shown_as_they_wrote_it(said: str) -> None:
    english = Catalogues("en", BERLIN)["en"]
    assert visible(english.html(T("<b>{name}</b>", name=said))) == said
    assert visible(english.html(Verbatim(said))) == said
    assert english.plain(T("{name}", name=said)) == english.plain(Verbatim(said)) == said


def test_markup_and_places_in_what_people_write_mean_nothing(words: Catalogues) -> None:
    evil = "<a href='x'>{number}</a> & {0} %s"
    html = words["en"].html(T("<i>{evil}</i>, {number}", evil=evil, number="7"))
    assert html == "<i>&lt;a href=&#39;x&#39;&gt;{number}&lt;/a&gt; &amp; {0} %s</i>, 7"


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ("\u202eabc", "\u202c"),
        ("\u2067a\u202bb", "\u202c\u2069"),
        ("\u2067a\u202bb\u2069", ""),  # the isolate ends what is within it
        ("\u202ea\u202c \u2066b\u2069 \u202c\u200f שלום", ""),
    ],
)
def test_words_turn_round_nothing_that_stands_beside_them(words: Catalogues, said: str, missing: str) -> None:
    """A sign of direction without an end would reach into the rest of a list."""
    for text in (T("1. {idea}, 2.", idea=said), Lines([Verbatim(f"1. {said}"), Verbatim(", 2.")], "")):
        assert words["en"].html(text) == words["en"].plain(text) == f"1. {said}{missing}, 2."


def test_a_text_within_a_text_is_translated_and_keeps_its_markup(words: Catalogues) -> None:
    inner = T("The lab says: {status}", status=T("done"))
    text = T("<b>#{number} {title}</b>", number="1", title=inner)
    assert words["en"].html(text) == "<b>#1 The lab says: done</b>"
    assert words["de"].html(text) == "<b>#1 Das Lab sagt: umgesetzt</b>"
    assert words["de"].html(T("{a} {b}", a=T("<b>{title}</b>", title="x < y"), b=Verbatim("&"))) == (
        "<b>x &lt; y</b> &amp;"
    )
    assert words["de"].plain(T("{a}", a=Lines([T("done"), Verbatim("a & b")]))) == "umgesetzt\na & b"


def test_a_count_takes_the_form_of_the_readers_language(words: Catalogues) -> None:
    def said(locale: str, n: int) -> str:
        return words[locale].html(N("{n} person supports it.", "{n} people support it.", n=n))

    assert [said("en", n) for n in (0, 1, 2)] == [
        "0 people support it.",
        "1 person supports it.",
        "2 people support it.",
    ]
    assert said("de", 1) != said("de", 2)
    assert said("de", 1).startswith("1 ")


def test_numbers_are_written_as_the_readers_language_does(words: Catalogues) -> None:
    text = T("{n} {x}", n=1234567, x=0.5)
    assert words["de"].html(text) == "1.234.567 0,5"
    assert words["en"].html(text) == "1,234,567 0.5"
    assert words["de"].plain(T("{n} {m}", n=999, m=-1)) == "999 -1"


def test_dates_are_written_in_the_labs_zone_and_the_readers_language(words: Catalogues) -> None:
    evening = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)  # already next year in Dortmund
    german, english = (words[locale].html(T("{at}", at=evening)) for locale in ("de", "en"))
    assert "01.01.2027" in german
    assert "00:30" in german
    assert "Jan 1, 2027" in english
    assert "12:30" in english
    assert words["de"].html(T("{on}", on=date(2026, 12, 5))) == "05.12.2026"
    assert words["en"].html(T("{on}", on=date(2026, 12, 5))) == "Dec 5, 2026"
    tokyo = Catalogues("de", ZoneInfo("Asia/Tokyo"))
    assert "08:30" in tokyo["de"].html(T("{at}", at=evening))
    summer = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    assert "14:00" in words["de"].html(T("{at}", at=summer))


def test_what_is_no_text_is_a_mistake(words: Catalogues) -> None:
    with pytest.raises(TypeError, match="not a text: Text"):
        words["de"].html(Text())
    with pytest.raises(TypeError, match="not a text: Text"):
        words["de"].plain(Text())


# -- choosing a language ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "locale"),
    [("en", "en"), ("EN", "en"), ("en-GB", "en"), ("de_AT", "de"), ("de-Latn-CH-1996", "de"), ("fr", "de"), ("", "de")],
)
def test_the_closest_language_is_chosen_else_the_labs_own(words: Catalogues, tag: str, locale: str) -> None:
    assert words.best(tag) == locale


def test_who_tells_no_language_is_spoken_to_in_the_labs(words: Catalogues) -> None:
    assert words.best(None) == "de"
    assert Catalogues("en", BERLIN).best(None) == "en"


@pytest.mark.parametrize(
    ("said", "locale"),
    [
        ("de", "de"),
        ("Deutsch", "de"),
        (" german ", "de"),
        ("ENGLISH", "en"),
        ("Englisch", "en"),
        ("EN", "en"),
        ("klingon", None),
        ("", None),
    ],
)
def test_a_language_may_be_called_by_its_name_in_any_language(words: Catalogues, said: str, locale: str | None) -> None:
    assert words.meant(said) == locale


def test_a_new_folder_is_a_new_language(tmp_path: Path) -> None:
    folder = tmp_path / "pt_BR" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "bot.po").write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\nmsgid "Help"\nmsgstr "Ajuda"\n',
        encoding="utf-8",
    )
    found = Catalogues("pt-BR", BERLIN, tmp_path)
    assert sorted(found) == ["en", "pt-BR"]
    assert len(found) == 2
    assert found["pt-BR"].html(T("Help")) == "Ajuda"
    assert found["pt-BR"].html(T("not translated yet")) == "not translated yet"
    assert found.best("pt-br") == "pt-BR"
    assert found.meant("português (Brasil)") == "pt-BR"
    assert found.aliases("Help") == {"Ajuda"}


def test_a_language_there_is_no_catalogue_for_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no language “tlh”; there are: en"):
        Catalogues("tlh", BERLIN, tmp_path)
