"""Choices and fitting: what is printed can be typed, and nothing is lost where a message is cut."""

import re
import unicodedata
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from markupsafe import escape

from bot.choices import chosen, fit, numbered, split, width

WORDS = st.text(min_size=1, max_size=30)
LABELS = st.lists(WORDS, min_size=1, max_size=40)


@given(LABELS)
def test_every_printed_number_chooses_its_line(labels: list[str]) -> None:
    lines = re.split(r"(?:^|\n)(?=\d+\. )", numbered([label.replace("\n", " ") for label in labels]))
    printed = [line for line in lines if line]
    assume(len(printed) == len(labels))  # a label may look like a line of its own
    for position, line in enumerate(printed):
        number, _, label = line.partition(". ")
        assert chosen(number, labels) == position
        assert unescape(label) == unescape(str(escape(labels[position].replace("\n", " "))))


@pytest.mark.parametrize("typed", ["2", " 2 ", "2.", "2)", "(2)", "[2]", "2:", "٢"])
def test_a_number_may_be_typed_as_people_type_numbers(typed: str) -> None:
    assert chosen(typed, ["Yes", "No"]) == 1


@pytest.mark.parametrize("typed", ["0", "3", "999", "-1", "1000", "2 or 1", "", " ", "!", "²", "#2"])
def test_what_is_no_choice_is_none(typed: str) -> None:
    assert chosen(typed, ["Yes", "No"]) is None


CASED = st.text(st.characters(categories=["Ll", "Lu"], max_codepoint=0x24F), min_size=1, max_size=20)


@given(st.lists(CASED, min_size=1, max_size=10, unique_by=str.casefold), st.data())
def test_a_label_may_be_typed_in_any_case(labels: list[str], data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(labels) - 1))
    label = labels[position]
    for typed in (label, label.lower(), label.upper(), label.title(), f"  {label} "):
        if typed.strip().casefold() == label.casefold():  # a few letters change with their case
            assert chosen(typed, labels) == position


def test_a_label_may_be_typed_without_its_signs_and_counts() -> None:
    labels = ["✅ Support", "Read comments (3)", "Weiter…", "Wohnen & Straße"]
    assert [chosen(typed, labels) for typed in ("support", "read comments", "WEITER", "wohnen strasse")] == [0, 1, 2, 3]


def test_what_stands_before_a_comma_may_be_typed_alone_where_it_means_one_label() -> None:
    labels = ["Yes, take it back", "No, leave it", "Take my vote back", "Tue, 5", "Tue, 6"]
    for typed, meant in (("yes", 0), ("NO!", 1), ("tue 6", 4)):
        assert chosen(typed, labels) == meant
    for typed in ("take", "Tue", "Tue, 7", "Yes take", "yes please"):
        assert chosen(typed, labels) is None
    assert chosen("no", ["No, thanks", "No"]) == 1


def test_a_number_is_a_position_and_not_a_label() -> None:
    assert chosen("2", ["2", "1"]) == 1


# -- splitting ----------------------------------------------------------------------------------------------


class Checked(HTMLParser):
    """Reads the small HTML as strictly as a messenger does."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == [], f"left open: {self.open} in {html!r}"

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def visible(html: str) -> str:
    return Checked(html).text


def units(words: str) -> int:
    return len(words.encode("utf-16-le", "surrogatepass")) // 2


def packed(words: str) -> str:
    """Words without the whitespace that a cut may swallow."""
    return "".join(words.split())


CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n \n\t")
PLAIN = st.text(CHARACTERS | st.sampled_from("aä<>&\"'😀👨‍👩‍👧שלום‏\u200b"), max_size=80).map(
    lambda words: str(escape(words))
)
TAGGED = st.recursive(
    PLAIN,
    lambda inner: st.tuples(
        st.sampled_from(["b", "i", "u", "s", "code", "pre", "blockquote"]), st.lists(inner, max_size=4)
    ).map(lambda found: f"<{found[0]}>{''.join(found[1])}</{found[0]}>"),
    max_leaves=12,
)
HTML = st.lists(TAGGED, min_size=1, max_size=6).map("".join)


@settings(deadline=None, max_examples=400)
@example("<b> aaaaaaaaa😀</b>", 10)
@example("aaaaaaaa &amp;&amp;&amp;&amp;", 8)
@given(HTML, st.integers(2, 60))
def test_parts_are_whole_html_within_the_limit_and_lose_no_text(html: str, limit: int) -> None:
    assume(visible(html).strip())
    parts = split(html, limit)
    for part in parts:
        assert 0 < len(visible(part)) <= units(visible(part)) <= limit
        assert part.count("&") == len(re.findall(r"&(?:amp|lt|gt|#\d+);", part))
    assert packed("".join(visible(part) for part in parts)) == packed(visible(html))


@given(HTML)
def test_the_width_is_what_telegram_counts(html: str) -> None:
    assert width(html) == units(visible(html))


def test_4096_emoji_are_split_in_utf_16_units() -> None:
    parts = split("😀" * 4096, 4096)
    assert [units(part) for part in parts] == [4096, 4096]
    assert "".join(parts) == "😀" * 4096


def test_a_text_of_exactly_the_limit_is_not_split() -> None:
    assert split("x" * 4096, 4096) == ["x" * 4096]
    assert [len(part) for part in split("x" * 4097, 4096)] == [4096, 1]


def test_cuts_are_made_at_paragraphs_then_lines_then_words() -> None:
    assert split("one two\n\nthree four", 15) == ["one two", "three four"]
    assert split("one two\nthree four", 15) == ["one two", "three four"]
    assert split("one two three four", 15) == ["one two three", "four"]
    assert split("onetwothreefour", 10) == ["onetwothre", "efour"]


def test_markup_is_closed_and_opened_again_at_a_cut() -> None:
    link = '<a href="https://example.org/?a=1&amp;b=2">'
    assert split(f"<b>one {link}two three</a></b>", 8) == [f"<b>one {link}two</a></b>", f"<b>{link}three</a></b>"]


def test_an_entity_is_one_sign_and_is_never_cut() -> None:
    assert split("&amp;" * 5, 2) == ["&amp;&amp;", "&amp;&amp;", "&amp;"]
    assert split("&#39;&#34;&lt;", 2) == ["&#39;&#34;", "&lt;"]


def test_right_to_left_and_invisible_signs_arrive_as_they_were() -> None:
    words = "‏שלום עולם‏ \u200b\u200d\u2066abc\u2069 " * 30
    parts = split(words.strip(), 50)
    assert packed("".join(parts)) == packed(words)
    assert unicodedata.normalize("NFC", " ".join(parts)) == unicodedata.normalize("NFC", words.strip())


def test_the_last_part_has_the_numbered_choices_when_buttons_do_not_fit() -> None:
    parts = fit("word " * 30, ["Yes", "No <b>"], 1, 80)
    assert parts[-1].endswith("1. Yes\n2. No &lt;b&gt;")
    assert all(width(part) <= 80 for part in parts)
    assert fit("short", ["Yes", "No"], 2, 80) == ["short"]


def test_choices_that_stand_in_the_words_already_are_not_said_twice_and_keep_their_numbers() -> None:
    html = "Which evening?\n1. Tue\n2. Wed"
    assert fit(html, ["Tue", "Wed", "Take it back"], 0, 80, listed=2) == [f"{html}\n\n3. Take it back"]
    assert fit(html, ["Tue", "Wed"], 0, 80, listed=2) == [html]
    assert fit(html, ["Tue", "Wed", "Take it back"], 3, 80, listed=2) == [html]
