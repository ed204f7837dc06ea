"""The catalogues: every sentence of the code in every language, and nothing else."""

import re
from collections import Counter
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from bot.router import Duplicate, Router
from bot.text import Catalogues
from bot.types import T
from handlers import assemble

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "locales").glob("*/LC_MESSAGES/bot.po"))
KEYWORDS = {"T": None, "N": (1, 2), "command": None}
"""The same as in ``make words``."""

FORMAL = re.compile(r"(?<![.!?:„“\"(]\s)(?<!^)\b(?:Sie|Ihnen|Ihr|Ihre|Ihrem|Ihren|Ihrer|Ihres)\b")
"""The formal address within a sentence. At its beginning „Sie“ may be „they“."""

MENU_NAME = re.compile(r"[a-z0-9_]{1,32}")
"""Telegram's rule for the name of a command."""


def read(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale=None if path.suffix == ".pot" else path.parent.parent.name)


def sentences(catalog: Catalog) -> set[str | tuple[str, ...]]:
    return {_id(message.id) for message in catalog if message.id}


def _id(found: object) -> str | tuple[str, ...]:
    return tuple(found) if isinstance(found, list | tuple) else str(found)


@pytest.fixture(scope="module")
def extracted() -> set[str | tuple[str, ...]]:
    """Every sentence in the code."""
    found = set()
    for folder in ("bot", "handlers"):
        for _, _, sentence, _, _ in extract_from_dir(str(ROOT / folder), keywords=KEYWORDS):
            found.add(_id(sentence))
    return found


def parts(catalog: Catalog) -> list[tuple[Message, str, str]]:
    """Each sentence with its translation; of a plural each form."""
    found = []
    for message in catalog:
        if not message.id:
            continue
        if isinstance(message.id, list | tuple):
            found += [(message, message.id[1], form) for form in message.string or ()]
        else:
            found.append((message, message.id, str(message.string)))
    return found


def test_the_template_holds_what_the_code_says_and_nothing_else(extracted: set[str | tuple[str, ...]]) -> None:
    template = sentences(read(ROOT / "locales" / "bot.pot"))
    assert template == extracted, "run: make words"


def test_there_is_a_catalogue_besides_english() -> None:
    assert [path.parent.parent.name for path in FILES] == ["de"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.parent.name)
class TestCatalogue:
    """One language."""

    def test_it_has_every_sentence_and_no_other(self, path: Path, extracted: set[str | tuple[str, ...]]) -> None:
        catalog = read(path)
        assert sentences(catalog) == extracted
        assert [message.id for message in catalog if message.fuzzy and message.id] == []
        assert list(catalog.obsolete) == []
        assert [sentence for _, sentence, said in parts(catalog) if not said.strip()] == []

    def test_its_plurals_have_every_form(self, path: Path) -> None:
        catalog = read(path)
        plurals = [message.string for message in catalog if isinstance(message.id, list | tuple)]
        assert plurals
        assert all(isinstance(forms, tuple) and len(forms) == catalog.num_plurals for forms in plurals)

    def test_its_places_are_those_of_the_sentence(self, path: Path) -> None:
        for _, sentence, said in parts(read(path)):
            assert set(re.findall(r"\{\w*\}", said)) == set(re.findall(r"\{\w*\}", sentence)), said
            assert said.count("{") == len(re.findall(r"\{\w+\}", said)), said

    def test_its_markup_is_that_of_the_sentence(self, path: Path) -> None:
        for _, sentence, said in parts(read(path)):
            tags = re.compile(r"</?\w+>")
            assert Counter(tags.findall(said)) == Counter(tags.findall(sentence)), said
            assert "<" not in tags.sub("", said)

    def test_it_starts_and_ends_like_the_sentence(self, path: Path) -> None:
        for _, sentence, said in parts(read(path)):
            assert said == said.strip(), said
            ends = ".?:!"
            assert (sentence[-1] in ends) == (said[-1] in ends), said

    def test_it_names_only_commands_there_are(self, path: Path) -> None:
        known = set(assemble().commands)
        catalogue = Catalogues("en", ZoneInfo("UTC"))[path.parent.parent.name]
        for _, _, said in parts(read(path)):
            for name in re.findall(r"(?<![\w/<{])/([a-z]\w+)", said):
                assert name in {catalogue.gettext(command) for command in known}, said


def test_the_sentences_name_only_commands_there_are(extracted: set[str | tuple[str, ...]]) -> None:
    known = set(assemble().commands)
    for sentence in extracted:
        for words in [sentence] if isinstance(sentence, str) else sentence:
            assert set(re.findall(r"(?<![\w/<{])/([a-z]\w+)", words)) <= known, words


def test_german_says_du() -> None:
    catalog = read(ROOT / "locales" / "de" / "LC_MESSAGES" / "bot.po")
    assert [said for _, _, said in parts(catalog) if FORMAL.search(said)] == []
    assert sum(bool(re.search(r"\b(?:du|dir|dich|dein\w*)\b", said, re.I)) for _, _, said in parts(catalog)) > 10


@pytest.mark.parametrize("said", ["Wählen Sie ein Thema.", "Das ist Ihre Idee.", "Wir sagen Ihnen Bescheid."])
def test_the_formal_address_would_be_found(said: str) -> None:
    assert FORMAL.search(said)


def test_commands_have_valid_and_distinct_names_in_every_language() -> None:
    catalogues = Catalogues("de", ZoneInfo("Europe/Berlin"))
    router = assemble()
    router.speak(catalogues)
    for locale in catalogues:
        names = [catalogues[locale].gettext(name) for name in router.commands]
        assert all(MENU_NAME.fullmatch(name) for name in names), names
        assert len(set(names)) == len(names)
        assert all(1 <= len(catalogues[locale].plain(command.help)) <= 256 for command in router.commands.values())


def test_the_menu_has_every_command_in_every_language_the_labs_own_first() -> None:
    catalogues = Catalogues("de", ZoneInfo("Europe/Berlin"))
    router = assemble()
    menu = router.menu(catalogues)
    assert len(menu) == len(router.commands) * len(catalogues)
    assert menu[0].locale == "de"
    everyone = {command.name for command in menu if command.everyone and command.locale == "en"}
    assert {"idea", "help", "me"} <= everyone
    assert "status" not in everyone


def test_two_commands_with_one_name_in_some_language_are_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "bot.po").write_text('msgid "stop"\nmsgstr "ende"\n\nmsgid "quit"\nmsgstr "ende"\n', encoding="utf-8")
    router = Router()
    for name in ("stop", "quit"):
        router.command(name, help=T("x"))(lambda _turn, _text: None)
    with pytest.raises(Duplicate, match="“/ende” is both “/quit” and “/stop”"):
        router.speak(Catalogues("en", ZoneInfo("UTC"), tmp_path))


def test_two_features_that_claim_the_same_are_an_error() -> None:
    first, second = Router(), Router()
    for router in (first, second):
        router.press("same")(lambda _turn: None)
    first.include(Router())
    with pytest.raises(Duplicate, match="“same” is claimed twice"):
        first.include(second)
