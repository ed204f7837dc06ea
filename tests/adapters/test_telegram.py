"""What only the Telegram adapter does: how updates are read, requests fail, messages look on the wire."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
import telegram
from structlog.testing import capture_logs

from bot.adapters.telegram import Telegram
from bot.adapters.telegram.faults import translate
from bot.adapters.telegram.reading import Account, read
from bot.adapters.telegram.receiving import Raw, next_offset, offset_of, understand
from bot.adapters.telegram.request import Flood, NotSent, Overtaken, Request, Unavailable, Unclear, refuse
from bot.adapters.telegram.sending import menus, rows, toast
from bot.adapters.telegram.webhook import LARGEST_BODY, MOST_WAITING, Inbox
from bot.port import MOST_MENTIONED, Adapter, Button, Command, Refused, Rendered, RetryLater, Undeliverable, Upload
from bot.types import (
    Batch,
    ChatRef,
    Edited,
    File,
    Joined,
    Left,
    MessageRef,
    Moved,
    Pressed,
    Said,
    Unreadable,
    Update,
)
from handlers.announcements.markdown import formatted
from tests.adapters.telegram_server import TOKEN, TelegramServer, parse_html

ME = Account(110201543, "labbot_test_bot")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ADA: dict[str, Any] = {"id": 5_000_000_001, "is_bot": False, "first_name": "Ada", "language_code": "de"}
PRIVATE: dict[str, Any] = {"id": 5_000_000_001, "type": "private", "first_name": "Ada"}
GROUP: dict[str, Any] = {"id": -1_002_000_000_001, "type": "supergroup", "title": "Nordmarkt"}
CHAT = ChatRef("telegram", "5000000001")
ROOM = ChatRef("telegram", "-1002000000001")
PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0\0\0\x10\0\0\0\x10\x08\x02\0\0\0" + b"\0" * 32


class Pauses:
    """Sleeps no time at all and remembers for how long it should have."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with TelegramServer() as running:
        yield running


@pytest_asyncio.fixture
async def adapter(server: TelegramServer, pauses: Pauses) -> AsyncIterator[Telegram]:
    bot = Telegram(server.token, server.url, call_timeout=5, sleep=pauses, jitter=lambda: 1.0)
    yield bot
    await bot.close()


def message(text: str | None = "hello", chat: dict[str, Any] = PRIVATE, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"message_id": 7, "from": ADA, "chat": chat, "date": 1_795_000_000, **more}
    if text is not None:
        body["text"] = text
    return body


def entity(kind: str, offset: int, length: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "offset": offset, "length": length, **more}


def happened(body: Any, kind: str = "message") -> Update | None:
    """What one update reads as, by way of the library."""
    return read(telegram.Update.de_json({"update_id": 41, kind: body}), ME, NOW)


def said(body: Any) -> Said:
    update = happened(body)
    assert isinstance(update, Said)
    return update


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_private_message_tells_who_where_when_and_what() -> None:
    ref = MessageRef(CHAT, "7")
    update = said(message("Guten Morgen"))
    assert (update.key, update.chat, update.private, update.title) == ("41", CHAT, True, None)
    assert (update.actor.id, update.actor.locale, update.actor.anonymous) == ("5000000001", "de", False)
    assert (update.message, update.text, update.command) == (ref, "Guten Morgen", None)
    assert update.at == datetime.fromtimestamp(1_795_000_000, UTC)


@pytest.mark.parametrize(
    ("text", "length", "command", "rest"),
    [
        ("/idea", 5, "idea", ""),
        ("/Idea  Ein Baum ", 5, "idea", "Ein Baum"),
        ("/idea@labbot_test_bot Ein Baum", 21, "idea", "Ein Baum"),
        ("/idea@LABBOT_test_bot\nEin Baum", 21, "idea", "Ein Baum"),
        ("/idea 🌳🌳 Bäume", 5, "idea", "🌳🌳 Bäume"),
        ("/start aB-_9", 6, "start", "aB-_9"),
    ],
)
def test_a_command_is_its_bare_name_and_what_follows(text: str, length: int, command: str, rest: str) -> None:
    update = said(message(text, entities=[entity("bot_command", 0, length)]))
    assert (update.command, update.text) == (command, rest)


def faces(text: str, marks: list[Any]) -> list[set[tuple[str, str]]]:
    """How each sign looks; a mark that goes on over a line's end is the same as two."""
    return [
        {
            (mark["type"], mark.get("url", ""))
            for mark in marks
            if mark["offset"] <= place < mark["offset"] + mark["length"]
        }
        for place, sign in enumerate(text)
        if not sign.isspace()
    ]


@pytest.mark.parametrize(
    "html",
    [
        "Come on <b>Friday</b> &amp; <i>Saturday</i>",
        "🌳 <b>all of it, <i>this most</i></b>",
        "<b>two\nlines</b>\n\nand <b>two\n\nblocks</b>",
        "<s>struck</s> <u>lined</u> a_b_c 1 &lt; 2",
        'see <a href="https://example.org/?a=1&amp;b=2">the page</a>',
        "type <code>**x** `y`</code>",
        "before\n\n<pre>a = *b*\n```\nc</pre>\n\nafter",
        "<blockquote>said\n\nby <b>her</b></blockquote>\n\nafter",
    ],
)
def test_formatting_that_the_apps_keep_beside_the_words_is_typed_again(html: str) -> None:
    text, marks = parse_html(html)
    written = said(message(text, entities=marks))
    assert written.text == text
    shown, again = parse_html(formatted(written.marked))
    assert (shown, faces(shown, again)) == (text, faces(text, marks))
    ahead = [{**mark, "offset": mark["offset"] + 10} for mark in marks]
    command = said(message(f"/announce {text}", entities=[entity("bot_command", 0, 9), *ahead]))
    assert (command.text, formatted(command.marked)) == (text, formatted(written.marked))
    answered = said({**message("/announce", entities=[entity("bot_command", 0, 9)]), "reply_to_message": message(text)})
    assert (answered.quoted, answered.marked) == (text, "")


def test_a_long_address_on_each_of_two_thousand_lines_is_not_said_two_thousand_times() -> None:
    links = [{**entity("text_link", 0, 4000), "url": f"https://example.org/{'x' * 1900}"}] * 100
    written = said(message("a\n" * 2000, entities=links))
    assert (written.text, written.marked) == ("a\n" * 2000, "")
    answered = said({**message("/announce"), "reply_to_message": message("a\n" * 2000, entities=links)})
    assert answered.quoted == "a\n" * 2000


def test_a_command_that_stands_in_what_is_marked_takes_no_mark_away() -> None:
    marks = [entity("bold", 0, 17), entity("bot_command", 0, 9)]
    assert said(message("/announce Friday!", entities=marks)).marked == "<b>Friday!</b>"
    assert said(message("/announce Friday!", entities=[entity("bold", 0, 9), *marks[1:]])).marked == ""


@pytest.mark.parametrize("place", [("3", 2), (0, None), (-3, 5), (99, 5), (1, -1)])
def test_a_mark_that_names_no_part_of_the_text_marks_nothing(place: Any) -> None:
    written = said(message("Guten Morgen", entities=[entity("bold", *place)]))
    assert (written.text, written.marked) == ("Guten Morgen", "")


def test_a_command_for_another_bot_is_nothing_to_us() -> None:
    body = message("/idea@other_bot Ein Baum", GROUP, entities=[entity("bot_command", 0, 15)])
    assert happened(body) is None
    assert happened({**body, "edit_date": 1_795_000_001}, "edited_message") is None


def test_a_command_inside_a_text_is_text() -> None:
    update = said(message("🌳 /idea", entities=[entity("bot_command", 3, 5)]))
    assert (update.command, update.text) == (None, "🌳 /idea")


def test_a_leading_mention_addresses_the_bot_and_is_no_part_of_the_text() -> None:
    update = said(message("@Labbot_Test_Bot, was steht an?", GROUP, entities=[entity("mention", 0, 16)]))
    assert (update.mentioned, update.text, update.title) == (True, "was steht an?", "Nordmarkt")


def test_what_is_marked_behind_a_leading_mention_is_marked_where_it_stands() -> None:
    marks = [entity("mention", 0, 16), entity("bold", 22, 5)]
    update = said(message("@Labbot_Test_Bot, was steht an?", GROUP, entities=marks))
    assert (update.text, update.marked) == ("was steht an?", "was <b>steht</b> an?")


def test_a_mention_after_an_emoji_is_found_by_its_utf_16_offset() -> None:
    text = "🌳🌳 @labbot_test_bot"
    update = said(message(text, GROUP, entities=[entity("mention", 5, 16)]))
    assert (update.mentioned, update.text) == (True, text)
    assert not said(message("@somebody_else", GROUP, entities=[entity("mention", 0, 14)])).mentioned


@pytest.mark.parametrize("text", ["ab\ud83d", "nul\0l"])
def test_text_that_no_database_takes_is_mended(text: str) -> None:
    mended = said(message(text)).text
    assert mended.encode() and "\0" not in mended


def test_a_reply_names_the_message_it_answers() -> None:
    update = said(message("ja", GROUP, reply_to_message=message("Titel?", GROUP, message_id=5)))
    assert update.reply_to == MessageRef(ROOM, "5")


def test_a_message_in_a_topic_keeps_it_and_answers_nobody() -> None:
    opened = message(None, GROUP, message_id=3, forum_topic_created={"name": "Ideen", "icon_color": 7322096})
    body = message("hallo", GROUP, message_thread_id=3, is_topic_message=True, reply_to_message=opened)
    update = said(body)
    assert update.chat == ChatRef("telegram", ROOM.id, "3")
    assert update.reply_to is None


def test_the_thread_id_of_a_reply_outside_topics_is_no_topic() -> None:
    assert said(message("hallo", GROUP, message_thread_id=3)).chat == ROOM


@pytest.mark.parametrize("number", [1087968824, 136817688])
def test_accounts_that_stand_for_no_person_are_anonymous(number: int) -> None:
    stand_in = {"id": number, "is_bot": True, "first_name": "Group"}
    assert said(message("/idea", GROUP, **{"from": stand_in, "sender_chat": GROUP})).actor.anonymous


def test_bots_are_never_answered() -> None:
    assert happened(message("hi", **{"from": {**ADA, "is_bot": True}})) is None


def test_the_largest_photo_counts_and_its_caption_is_the_text() -> None:
    sizes = [
        {"file_id": f"P{side}", "file_unique_id": f"u{side}", "width": side, "height": side, "file_size": side}
        for side in (90, 800)
    ]
    update = said(message(None, photo=sizes, caption="So sieht es aus"))
    assert update.text == "So sieht es aus"
    assert update.files == (File("telegram", "P800", "photo.jpg", "image/jpeg", 800),)


def test_a_document_keeps_its_name_and_type() -> None:
    document = {"file_id": "D", "file_unique_id": "u", "file_name": "plan.pdf", "mime_type": "application/pdf"}
    assert said(message(None, document=document)).files == (File("telegram", "D", "plan.pdf", "application/pdf"),)


def test_a_place_sent_in_private_is_a_message_without_words() -> None:
    assert said(message(None, location={"latitude": 51.5, "longitude": 7.5})).text == ""


@pytest.mark.parametrize(
    "service", [{"new_chat_title": "Neu"}, {"new_chat_members": [ADA]}, {"migrate_from_chat_id": -4}]
)
def test_service_messages_are_nothing_to_us(service: dict[str, Any]) -> None:
    assert happened(message(None, GROUP, **service)) is None


def test_a_group_that_becomes_a_supergroup_has_moved() -> None:
    update = happened(message(None, {"id": -4, "type": "group", "title": "N"}, migrate_to_chat_id=GROUP["id"]))
    assert isinstance(update, Moved)
    assert (update.chat.id, update.to) == ("-4", ROOM)


def test_an_edit_carries_the_whole_new_text() -> None:
    body = message("/idea Zwei Bäume", entities=[entity("bot_command", 0, 5)], edit_date=1_795_000_009)
    update = happened(body, "edited_message")
    assert isinstance(update, Edited)
    assert (update.command, update.text) == ("idea", "Zwei Bäume")
    assert update.at == datetime.fromtimestamp(1_795_000_009, UTC)


def pressed(data: str | None, **more: Any) -> Update | None:
    query = {"id": "900", "from": ADA, "chat_instance": "-1", "message": message("Frage", GROUP), "data": data, **more}
    return happened(query, "callback_query")


def test_a_press_tells_version_position_and_query() -> None:
    update = pressed("3:2")
    assert isinstance(update, Pressed)
    assert (update.revision, update.position, update.query, update.at) == (3, 2, "900", NOW)
    assert update.message == MessageRef(ROOM, "7")


@pytest.mark.parametrize("data", ["", "3", "3:-1", "-1:0", "3:2:1", "a:b", "3:9999", "٣:٢", "3:2\n", None, "9" * 64])
def test_a_forged_press_has_no_position(data: str | None) -> None:
    update = pressed(data)
    assert isinstance(update, Pressed)
    assert (update.position, update.revision) == (-1, None)


def test_a_press_under_a_message_out_of_reach_still_names_it() -> None:
    update = pressed("1:0", message={"chat": GROUP, "message_id": 7, "date": 0})
    assert isinstance(update, Pressed)
    assert update.message == MessageRef(ROOM, "7")


def test_a_press_under_an_inline_message_is_nothing_to_us() -> None:
    assert pressed("1:0", message=None, inline_message_id="x") is None


MUTED = {"status": "restricted", "is_member": True, "until_date": 0} | dict.fromkeys(
    (
        "can_change_info",
        "can_invite_users",
        "can_pin_messages",
        "can_send_messages",
        "can_send_polls",
        "can_send_other_messages",
        "can_add_web_page_previews",
        "can_manage_topics",
        "can_send_audios",
        "can_send_documents",
        "can_send_photos",
        "can_send_videos",
        "can_send_video_notes",
        "can_send_voice_notes",
        "can_edit_tag",
        "can_react_to_messages",
    ),
    False,
)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ({"status": "left"}, {"status": "member"}, Joined),
        ({"status": "kicked", "until_date": 0}, {"status": "member"}, Joined),
        ({"status": "member"}, {"status": "kicked", "until_date": 0}, Left),
        ({"status": "member"}, {"status": "left"}, Left),
        ({"status": "member"}, MUTED, Left),
        (MUTED, {"status": "member"}, Joined),
    ],
)
def test_a_change_of_standing_joins_or_leaves(
    before: dict[str, Any], after: dict[str, Any], kind: type[Joined] | type[Left]
) -> None:
    bot = {"id": ME.id, "is_bot": True, "first_name": "labbot"}
    change = {"chat": GROUP, "from": ADA, "date": 1_795_000_000, "old_chat_member": {"user": bot, **before}}
    update = happened({**change, "new_chat_member": {"user": bot, **after}}, "my_chat_member")
    assert type(update) is kind


def test_one_malformed_update_is_kept_and_the_others_come_through() -> None:
    broken = [{"update_id": 2, "message": {"text": "no id"}}, {"message": message()}, "text", None]
    updates = [{"update_id": 1, "message": message()}, *broken, {"update_id": 3, "message": message()}]
    before = json.dumps(updates)
    with capture_logs() as lines:
        read_as, raw = understand(updates, ME)
    assert [type(update) for update in read_as] == [Said, *[Unreadable] * 4, Said]
    assert json.loads(raw["2"]) == broken[0]
    assert json.dumps(updates) == before
    assert len({update.key for update in read_as}) == len(raw) == 6
    assert "no id" not in str(lines)


def test_the_next_offset_follows_this_batch_only() -> None:
    assert next_offset([{"update_id": 4}, {"update_id": 9}, "junk", {"update_id": "10"}, {"update_id": True}]) == 10
    assert next_offset([{}, None]) is None
    assert (offset_of("10"), offset_of(None), offset_of("s1_2")) == (10, None, None)


def test_raw_updates_are_written_out_only_when_asked_for() -> None:
    raw = Raw({"1": {"update_id": 1}})
    assert (dict(raw), len(raw), "2" in raw) == ({"1": '{"update_id": 1}'}, 1, False)


# --- writing ---------------------------------------------------------------------------------------------------------


def test_short_labels_stand_side_by_side_and_a_long_one_alone() -> None:
    assert rows(["Ja", "Nein", "Weiß nicht", "Später"]) == [[0, 1, 2], [3]]
    assert rows(["Mehr Bäume auf dem Nordmarkt pflanzen", "Ja", "Nein"]) == [[0], [1, 2]]
    assert rows([]) == []


def test_a_toast_is_cut_at_two_hundred_characters() -> None:
    assert toast("ä" * 200) == "ä" * 200
    assert toast("ä" * 201) == "ä" * 199 + "…"


def test_the_first_language_is_everybodys_and_names_telegram_refuses_are_left_out() -> None:
    commands = [
        Command("idee", "Idee einreichen", "de-AT"),
        Command("lösung", "x", "de-AT"),
        Command("status", "nur Team", "de-AT", everyone=False),
        Command("idea", "Suggest an idea", "en"),
    ]
    with capture_logs() as lines:
        laid = {language: [entry.command for entry in menu] for language, menu in menus(commands).items()}
    assert laid == {None: ["idee"], "de": ["idee"], "en": ["idea"]}
    assert [line["event"] for line in lines] == ["telegram.command_skipped"]


# --- refusals --------------------------------------------------------------------------------------------------------


def answer(status: int, description: str = "", **parameters: int) -> telegram.error.TelegramError:
    payload = {"ok": False, "error_code": status, "description": description, "parameters": parameters}
    with pytest.raises(telegram.error.TelegramError) as caught:
        refuse(status, json.dumps(payload).encode())
    return caught.value


@pytest.mark.parametrize(
    ("error", "everywhere", "unsure"),
    [
        (NotSent("no connection"), True, False),
        (Unclear("no answer"), False, True),
        (Unavailable(502), True, False),
        (Unavailable(504), True, True),
        (answer(500, "Internal Server Error"), False, False),
        (answer(429, "Too Many Requests", retry_after=7), False, False),
        (answer(401, "Unauthorized"), True, False),
    ],
)
def test_what_may_succeed_later_is_tried_again(
    error: telegram.error.TelegramError, everywhere: bool, unsure: bool
) -> None:
    fault = translate(error, CHAT)
    assert isinstance(fault, RetryLater)
    assert (fault.everywhere, fault.unsure) == (everywhere, unsure)


def test_a_flood_in_a_group_is_the_groups_own_and_in_a_private_chat_it_may_be_the_bots() -> None:
    group, private = (translate(answer(429, retry_after=35), chat) for chat in (ROOM, CHAT))
    assert isinstance(group, RetryLater) and isinstance(private, RetryLater)
    assert (group.after, group.everywhere, group.too_fast) == (35, False, False)
    assert (private.after, private.everywhere, private.too_fast) == (35, False, True)


def test_only_what_concerns_one_message_is_tried_again_soon() -> None:
    waits = [fault.after for error in (Overtaken("lost"), Unavailable(500)) if (fault := retried(error))]
    assert waits == [0, 0]
    assert all(retried(error).after >= 2 for error in (Unclear("no answer"), Unavailable(502), NotSent("none")))


def retried(error: telegram.error.TelegramError) -> RetryLater:
    fault = translate(error, CHAT)
    assert isinstance(fault, RetryLater)
    return fault


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (answer(403, "Forbidden: bot was blocked by the user"), True),
        (answer(400, "Bad Request: chat not found"), True),
        (answer(400, "Bad Request: message is too long"), False),
        (answer(413, "Request Entity Too Large"), False),
    ],
)
def test_what_never_succeeds_is_undeliverable(error: telegram.error.TelegramError, gone: bool) -> None:
    fault = translate(error, CHAT)
    assert isinstance(fault, Undeliverable)
    assert fault.gone is gone


def test_a_moved_group_tells_its_new_id() -> None:
    fault = translate(answer(400, "group chat was upgraded", migrate_to_chat_id=GROUP["id"]), ChatRef("telegram", "-4"))
    assert isinstance(fault, Undeliverable)
    assert (fault.moved_to, fault.gone) == (ROOM, False)


def test_reasons_quote_nothing_of_the_message() -> None:
    fault = translate(answer(400, 'Bad Request: can\'t parse entities: Unsupported start tag "geheim"'), CHAT)
    assert "geheim" not in fault.reason
    unexpected = telegram.error.NetworkError(f"Unknown error for https://example.org/bot{TOKEN}/x")
    assert TOKEN not in translate(unexpected, CHAT).reason


def test_an_error_page_of_a_proxy_says_nothing_about_the_token() -> None:
    for page in (b"<html>404 Not Found</html>", b'{"detail": "Not Found"}', b"[]", b""):
        with pytest.raises(Unavailable):
            refuse(404, page)
    with pytest.raises(telegram.error.InvalidToken):
        raise answer(404, "Not Found")
    assert isinstance(answer(429), Flood)


# --- over the wire ---------------------------------------------------------------------------------------------------


async def first(batches: AsyncGenerator[Batch, None]) -> Batch:
    """The first batch; the generator is closed without confirming it."""
    async with aclosing(batches), asyncio.timeout(5):
        return await anext(batches)


@pytest.mark.asyncio
async def test_a_refused_connection_was_never_sent(unused_tcp_port: int) -> None:
    request = Request(TOKEN, f"http://127.0.0.1:{unused_tcp_port}", connections=1)
    with pytest.raises(NotSent) as caught:
        await request.call("getMe", {})
    assert TOKEN not in str(caught.value)
    await request.shutdown()


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["cut_before", "cut_after", "timeout", "garbage"])
async def test_a_lost_answer_leaves_the_outcome_open(server: TelegramServer, fault: str) -> None:
    bot = Telegram(server.token, server.url, call_timeout=0.2)
    ada = server.user(first_name="Ada")
    server.start(ada)
    server.fail("sendMessage", fault)
    with pytest.raises(RetryLater) as caught:
        await bot.send(ChatRef("telegram", str(ada.id)), Rendered("hallo"), "1")
    assert caught.value.unsure
    assert server.token not in caught.value.reason
    await bot.close()


@pytest.mark.asyncio
async def test_a_send_that_others_overtake_is_given_up_once_and_then_has_all_the_time(server: TelegramServer) -> None:
    bot = Telegram(server.token, server.url, call_timeout=1.5)
    ada, *others = [server.user(first_name=name) for name in ("Ada", "Ben", "Cleo", "Dora")]
    for user in (ada, *others):
        server.start(user)
    chat, news = ChatRef("telegram", str(ada.id)), Rendered("hallo")
    server.fail("sendMessage", "timeout", times=2, chat=ada.id)

    async def lost(message: Rendered) -> RetryLater:
        sending = asyncio.create_task(bot.send(chat, message, "1"))
        await server.wait_for(lambda: [call for call in server.called("sendMessage") if call.chat == ada.id][tries:])
        for other in others:
            await bot.send(ChatRef("telegram", str(other.id)), news, "2")
        with pytest.raises(RetryLater) as caught:
            await sending
        return caught.value

    tries = 0
    first = await lost(news)
    assert (first.unsure, first.after) == (True, 0)
    tries = 1
    second = await lost(replace(news, again=True))
    assert second.unsure and second.after >= 5  # by the timeout
    await bot.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["editMessageText", "sendPhoto"])
async def test_an_edit_and_a_picture_sent_once_more_have_all_the_time(server: TelegramServer, method: str) -> None:
    bot = Telegram(server.token, server.url, call_timeout=1.2)
    ada, ben = server.user(first_name="Ada"), server.user(first_name="Ben")
    server.start(ada)
    server.start(ben)
    chat, other = ChatRef("telegram", str(ada.id)), ChatRef("telegram", str(ben.id))
    before = (await bot.send(chat, Rendered("hallo"), "1")).message
    known = Upload("cat.png", "image/png", b"", "photo:known")
    server.fail(method, "timeout", chat=ada.id)
    saying: Coroutine[Any, Any, Any] = (
        bot.send(chat, Rendered("so", upload=known, again=True), "2")
        if method == "sendPhoto"
        else bot.edit(before, Rendered("servus"), "2")
    )
    begun = asyncio.create_task(saying)
    await server.wait_for(lambda: server.called(method))
    for _ in range(3):
        await bot.send(other, Rendered("hallo"), "3")
    with pytest.raises(RetryLater) as caught:
        await begun
    assert caught.value.unsure
    assert caught.value.after >= 5  # by the timeout: an edit given up could arrive after a newer one, and stay
    await bot.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["_bot", "_request"])
async def test_the_librarys_calls_and_ours_raise_the_same_errors(
    server: TelegramServer, adapter: Telegram, method: str
) -> None:
    server.fail("getMe", 502)
    ask: Callable[[], Any] = adapter._bot.get_me if method == "_bot" else lambda: adapter._request.call("getMe", {})
    with pytest.raises(Unavailable):
        await ask()
    server.fail("getMe", 429, retry_after=3)
    with pytest.raises(Flood):
        await ask()


@pytest.mark.asyncio
async def test_a_closed_adapter_sends_nothing(adapter: Telegram) -> None:
    await adapter.close()
    with pytest.raises(RetryLater) as caught:
        await adapter.send(CHAT, Rendered("hallo"), "1")
    assert not caught.value.unsure


@pytest.mark.asyncio
async def test_asking_for_the_next_batch_confirms_the_one_before(server: TelegramServer, adapter: Telegram) -> None:
    ada = server.user(first_name="Ada")
    server.start(ada)
    async with aclosing(adapter.batches(None)) as batches:
        batch = await anext(batches)
        assert len(server.pending) == 1
        assert json.loads(batch.raw[batch.updates[0].key])["message"]["text"] == "/start"
        server.say(ada, ada.id, "zwei")
        again = await anext(batches)
        assert len(server.pending) == 1
    assert batch.cursor is not None and again.cursor == str(int(batch.cursor) + 1)
    repeated = await first(adapter.batches(batch.cursor))
    assert repeated.updates == again.updates


@pytest.mark.asyncio
async def test_polling_takes_an_old_webhook_away_and_keeps_what_waited_for_it(
    server: TelegramServer, adapter: Telegram
) -> None:
    server.start(server.user(first_name="Ada"))
    server.webhook = {"url": "https://old.example/", "secret": "", "connections": 1}
    assert len((await first(adapter.batches(None))).updates) == 1
    assert server.webhook is None


@pytest.mark.asyncio
async def test_an_id_that_starts_anew_lower_is_followed(server: TelegramServer, adapter: Telegram) -> None:
    ada = server.user(first_name="Ada")
    server.start(ada)
    async with aclosing(adapter.batches(None)) as batches:
        await anext(batches)
        server.jump(1000)
        server.say(ada, ada.id, "nach einer Woche")
        assert (await anext(batches)).cursor == "1001"


@pytest.mark.asyncio
async def test_polling_outlasts_faults_with_longer_and_longer_pauses(
    server: TelegramServer, adapter: Telegram, pauses: Pauses
) -> None:
    for fault in (500, 502, "cut_before", "garbage"):
        server.fail("getUpdates", fault)
    server.fail("getUpdates", 429, retry_after=60)
    server.start(server.user(first_name="Ada"))
    assert len((await first(adapter.batches(None))).updates) == 1
    assert pauses.seconds == [0.5, 1.0, 2.0, 4.0, 60.0]


@pytest.mark.asyncio
async def test_another_poller_is_named_once_and_waited_out(
    server: TelegramServer, adapter: Telegram, pauses: Pauses
) -> None:
    server.fail("getUpdates", 409, times=3)
    server.start(server.user(first_name="Ada"))
    with capture_logs() as lines:
        await first(adapter.batches(None))
    conflicts = [line for line in lines if line["event"] == "telegram.conflict"]
    assert [line["fault"] for line in conflicts] == ["another process polls with this token"]
    assert len(pauses.seconds) == 3


@pytest.mark.asyncio
async def test_a_poll_that_stays_silent_is_dropped_and_asked_again(server: TelegramServer, pauses: Pauses) -> None:
    bot = Telegram(server.token, server.url, poll_timeout=0, poll_margin=0.2, sleep=pauses)
    server.fail("getUpdates", "timeout")
    server.start(server.user(first_name="Ada"))
    assert len((await first(bot.batches(None))).updates) == 1
    assert len(pauses.seconds) == 1
    await bot.close()


@pytest.mark.asyncio
async def test_an_empty_answer_that_comes_at_once_is_not_asked_for_again_at_once(
    server: TelegramServer, pauses: Pauses
) -> None:
    ada = server.user(first_name="Ada")

    async def third_time_she_writes(seconds: float) -> None:
        await pauses(seconds)
        if len(pauses.seconds) == 3:
            server.start(ada)

    bot = Telegram(server.token, server.url, poll_timeout=0, sleep=third_time_she_writes)
    await first(bot.batches(None))
    assert pauses.seconds == [0.5, 0.5, 0.5]
    await bot.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("token", ["110201543:another", "nonsense"])
async def test_a_wrong_token_is_refused_by_the_name_of_its_setting(server: TelegramServer, token: str) -> None:
    bot = Telegram(token, server.url)
    for attempt in (first(bot.batches(None)), bot.check()):
        with pytest.raises(Refused, match="LABBOT_TELEGRAM_TOKEN") as caught:
            await attempt
        assert token not in str(caught.value)
    await bot.close()


@pytest.mark.asyncio
async def test_a_token_revoked_while_sending_gives_nothing_up(server: TelegramServer, adapter: Telegram) -> None:
    server.token = "110201543:new"
    with pytest.raises(RetryLater, match="LABBOT_TELEGRAM_TOKEN") as caught:
        await adapter.send(CHAT, Rendered("hallo"), "1")
    assert caught.value.everywhere


@pytest.mark.asyncio
async def test_a_malformed_update_does_not_block_those_behind_it(server: TelegramServer, adapter: Telegram) -> None:
    server.inject({"poll_answer": {"poll_id": 5}})
    server.inject({"message": {"text": "?"}})
    server.start(server.user(first_name="Ada"))
    batch = await first(adapter.batches(None))
    assert [type(update) for update in batch.updates] == [Unreadable, Unreadable, Said]


@pytest.mark.asyncio
async def test_buttons_carry_version_and_position_and_links_their_target(
    server: TelegramServer, adapter: Telegram
) -> None:
    ada = server.user(first_name="Ada")
    server.start(ada)
    buttons = (Button("Ja"), Button("Seite", url="https://example.org/a"), Button("Privat", start="idea-7"))
    chat = ChatRef("telegram", str(ada.id))
    sent = await adapter.send(chat, Rendered("<b>Frage</b>", buttons, revision=4), "1")
    shown = server.message(ada.id, int(sent.message.id))
    assert shown.buttons == [
        [("Ja", "4:0"), ("Seite", "https://example.org/a"), ("Privat", "https://t.me/labbot_test_bot?start=idea-7")]
    ]
    assert (shown.text, shown.preview, shown.silent) == ("Frage", False, False)
    await adapter.edit(sent.message, Rendered("Danke"), "2")
    await adapter.edit(sent.message, Rendered("Danke"), "2")
    assert (shown.text, shown.buttons) == ("Danke", [])


@pytest.mark.asyncio
async def test_a_question_in_a_group_opens_the_reply_field_of_the_asker(
    server: TelegramServer, adapter: Telegram
) -> None:
    ada, group = server.user(first_name="Ada"), server.group("Nordmarkt")
    server.add_bot(group, ada)
    asked = server.say(ada, group, "/idea")
    chat = ChatRef("telegram", str(group.id))
    await adapter.send(chat, Rendered("Titel?", reply_to=str(asked.id), question=True), "1")
    await adapter.send(chat, Rendered("Thema?", (Button("Wohnen"),), reply_to="999", question=True, loud=True), "2")
    title, topic = server.sent(group)
    assert title.markup == {"force_reply": True, "selective": True}
    assert (title.reply_to, title.silent) == (asked.id, True)
    assert (topic.buttons, topic.reply_to, topic.silent) == ([[("Wohnen", "0:0")]], None, False)


@pytest.mark.asyncio
async def test_a_mention_is_the_name_that_telegram_tells_of_somebody_in_the_group(
    server: TelegramServer, adapter: Telegram
) -> None:
    group = server.group("Nordmarkt")
    here, gone, muted = (server.user(first_name=name) for name in ("<b>A&B</b>", "Ben", "Cleo"))
    for user, status in ((here, "member"), (gone, "left"), (muted, "restricted")):
        server.join(user, group, status)
    server.add_bot(group, here)
    crowd = [server.user(first_name=f"Person {n}") for n in range(30)]
    for user in crowd:
        server.join(user, group)
    chat = ChatRef("telegram", str(group.id))
    everybody = tuple(str(user.id) for user in (here, gone, muted))
    await adapter.send(chat, Rendered("Morgen!", mentions=("999999", *everybody)), "1")
    await adapter.send(chat, Rendered("x" * 4070, mentions=everybody), "2")
    await adapter.send(chat, Rendered("Alle", mentions=tuple(str(user.id) for user in crowd)), "3")
    server.fail("getChatMember", 500)
    await adapter.send(chat, Rendered("Allein", mentions=everybody), "4")
    named, long, many, alone = server.sent(group)
    assert named.text == "Morgen!\n\n<b>A&B</b>, Cleo"
    assert [entity["user"]["id"] for entity in named.entities] == [here.id, muted.id]
    assert long.text == "x" * 4070 + "\n\n<b>A&B</b>, Cleo"
    assert len(many.entities) == MOST_MENTIONED
    assert (alone.text, alone.entities) == ("Allein", [])


@pytest.mark.asyncio
async def test_a_message_for_a_deleted_topic_goes_to_the_group(server: TelegramServer, adapter: Telegram) -> None:
    ada, forum = server.user(first_name="Ada"), server.group("Nordmarkt", forum=True)
    server.add_bot(forum, ada)
    topic = server.topic(forum, "Ideen", ada)
    chat = ChatRef("telegram", str(forum.id), str(topic))
    assert (await adapter.send(chat, Rendered("eins"), "1")).message.chat == chat
    del forum.threads[topic]
    assert (await adapter.send(chat, Rendered("zwei"), "2")).message.chat == ChatRef("telegram", str(forum.id))
    assert [(sent.text, sent.thread) for sent in server.sent(forum)] == [("eins", topic), ("zwei", None)]


@pytest.mark.asyncio
async def test_a_file_is_uploaded_once_and_its_caption_can_change(server: TelegramServer, adapter: Telegram) -> None:
    ada = server.user(first_name="Ada")
    server.start(ada)
    chat = ChatRef("telegram", str(ada.id))
    for name, media_type, content in (("chart.png", "image/png", PNG), ("plan.ics", "text/calendar", b"BEGIN")):
        sent = await adapter.send(chat, Rendered("so", upload=Upload(name, media_type, content)), "1")
        again = await adapter.send(chat, Rendered("so", upload=Upload(name, media_type, b"", sent.file)), "2")
        assert sent.file == again.file and sent.file
        first_time, second_time = server.sent(ada.id)[-2:]
        assert first_time.file is second_time.file and first_time.document == content
        await adapter.edit(sent.message, Rendered("anders"), "3")
        assert first_time.text == "anders"
    assert (first_time.photo, server.sent(ada.id)[0].photo) == (False, True)


@pytest.mark.asyncio
async def test_a_file_id_that_telegram_has_forgotten_is_uploaded_anew(
    server: TelegramServer, adapter: Telegram
) -> None:
    ada = server.user(first_name="Ada")
    server.start(ada)
    upload = Upload("plan.ics", "text/calendar", b"BEGIN", sent_as="document:AAAA")
    await adapter.send(ChatRef("telegram", str(ada.id)), Rendered("", upload=upload), "1")
    assert server.sent(ada.id)[0].document == b"BEGIN"


@pytest.mark.asyncio
async def test_an_image_telegram_cannot_show_goes_as_a_document(server: TelegramServer, adapter: Telegram) -> None:
    ada = server.user(first_name="Ada")
    server.start(ada)
    server.fail("sendPhoto", 400, description="Bad Request: PHOTO_INVALID_DIMENSIONS")
    sent = await adapter.send(
        ChatRef("telegram", str(ada.id)), Rendered("", upload=Upload("chart.png", "image/png", PNG)), "1"
    )
    assert sent.file is not None and sent.file.startswith("document:")


@pytest.mark.asyncio
async def test_a_file_somebody_sent_is_streamed(server: TelegramServer, adapter: Telegram) -> None:
    ada = server.user(first_name="Ada")
    server.start(ada)
    sent = server.send_file(ada, ada.id, "plan.pdf", b"%PDF" * 50_000, "application/pdf")
    huge = server.send_file(ada, ada.id, "film.mp4", b"x", size=21 * 1024 * 1024)
    assert sent.file is not None and huge.file is not None
    file = File("telegram", sent.file.id, "plan.pdf", "application/pdf")
    assert b"".join([chunk async for chunk in adapter.fetch(file)]) == b"%PDF" * 50_000
    for number in (huge.file.id, "AAAA"):
        with pytest.raises(Undeliverable):
            await anext(adapter.fetch(File("telegram", number, "film.mp4", "video/mp4")))


@pytest.mark.asyncio
async def test_taking_back_what_is_gone_is_a_success(server: TelegramServer, adapter: Telegram) -> None:
    ada = server.user(first_name="Ada")
    server.start(ada)
    sent = await adapter.send(ChatRef("telegram", str(ada.id)), Rendered("hallo"), "1")
    await adapter.retract(sent.message)
    await adapter.retract(sent.message)
    assert server.sent(ada.id)[0].deleted
    with pytest.raises(Undeliverable):
        await adapter.edit(sent.message, Rendered("zu spät"), "2")


@pytest.mark.asyncio
async def test_another_messengers_id_is_undeliverable(adapter: Telegram) -> None:
    with pytest.raises(Undeliverable):
        await adapter.send(ChatRef("telegram", "!room:example.org"), Rendered("hallo"), "1")


@pytest.mark.asyncio
async def test_a_press_is_answered_and_one_too_old_is_nothing(server: TelegramServer, adapter: Telegram) -> None:
    ada = server.user(first_name="Ada")
    server.start(ada)
    sent = await adapter.send(ChatRef("telegram", str(ada.id)), Rendered("?", (Button("Ja"),), revision=2), "1")
    server.press(ada, ada.id, int(sent.message.id), "Ja")
    press = (await first(adapter.batches(None))).updates[-1]
    assert isinstance(press, Pressed) and (press.revision, press.position) == (2, 0)
    await adapter.acknowledge(press, "Danke " * 60)
    assert len(server.answers[0].text or "") <= 200
    server.skip(1000)
    await adapter.acknowledge(press, "")
    assert len(server.answers) == 1


@pytest.mark.asyncio
async def test_menus_are_set_for_each_language_in_private_and_in_groups(
    server: TelegramServer, adapter: Telegram
) -> None:
    await adapter.publish([Command("idee", "Idee einreichen", "de"), Command("idea", "Suggest an idea", "en")])
    for scope in ("all_private_chats", "all_group_chats"):
        assert server.menu("", scope) == server.menu("de", scope) == [("idee", "Idee einreichen")]
        assert server.menu("en", scope) == [("idea", "Suggest an idea")]


@pytest.mark.asyncio
async def test_check_names_the_account(server: TelegramServer, adapter: Telegram) -> None:
    assert await adapter.check() == "@labbot_test_bot"
    server.fail("getMe", 502)
    with pytest.raises(RetryLater):
        await adapter.check()


@pytest.mark.asyncio
async def test_the_token_is_in_no_log_line_and_no_representation(server: TelegramServer) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        with capture_logs() as lines:
            bot = Telegram(TOKEN, server.url, sleep=Pauses())
            for fault in (500, "cut_before", "garbage"):
                server.fail("*", fault)
            server.start(server.user(first_name="Ada"))
            await first(bot.batches(None))
    finally:
        logging.getLogger().removeHandler(handler)
    assert lines
    assert TOKEN not in f"{lines}{stream.getvalue()}{bot!r}{bot._request!r}"
    await bot.close()


# --- webhook ---------------------------------------------------------------------------------------------------------

SECRET = "a-secret"
UPDATE = json.dumps({"update_id": 1, "message": message()}).encode()


def hooked(server: TelegramServer) -> Telegram:
    # The address is never called in these tests: requests are handed to `receive`, as the web app would.
    return Telegram(server.token, server.url, webhook="https://lab.example/telegram/hook", secret=SECRET)


@pytest.mark.asyncio
async def test_a_webhook_request_is_answered_only_when_the_next_batch_is_asked_for(server: TelegramServer) -> None:
    bot = hooked(server)
    assert bot.webhook_path == "/telegram/hook"
    async with aclosing(bot.batches(None)) as batches:
        asked = asyncio.ensure_future(anext(batches))
        answers = [asyncio.create_task(bot.receive(SECRET, UPDATE.replace(b"1,", b"%d," % n, 1))) for n in (1, 2)]
        batch = await asked
        assert [update.key for update in batch.updates] == ["1", "2"]
        assert batch.cursor is None
        assert not any(answered.done() for answered in answers)
        asked = asyncio.ensure_future(anext(batches))
        assert await asyncio.gather(*answers) == [200, 200]
        late = asyncio.create_task(bot.receive(SECRET, UPDATE))
        await asked
    assert await late == 503
    assert server.webhook is not None and server.webhook["secret"] == SECRET
    await bot.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("secret", "body", "status"),
    [
        (None, UPDATE, 403),
        ("wrong", UPDATE, 403),
        ("ä", UPDATE, 403),
        (SECRET, b"x" * (LARGEST_BODY + 1), 413),
        (SECRET, b"{", 400),
        (SECRET, b"[]", 400),
        (SECRET, b"[" * 100_000, 400),
    ],
)
async def test_a_webhook_request_that_is_none_is_turned_away(secret: str | None, body: bytes, status: int) -> None:
    assert await Inbox(SECRET).receive(secret, body) == status


@pytest.mark.asyncio
async def test_beyond_a_thousand_waiting_requests_telegram_is_asked_to_come_back() -> None:
    inbox = Inbox(SECRET)
    waiting = [asyncio.create_task(inbox.receive(SECRET, UPDATE)) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0)
    assert await inbox.receive(SECRET, UPDATE) == 503
    async with inbox.gathered() as updates:
        assert len(updates) == 100
    inbox.close()
    answers = await asyncio.gather(*waiting)
    assert (answers.count(200), answers.count(503)) == (100, MOST_WAITING - 100)
    assert await inbox.receive(SECRET, UPDATE) == 503


def test_the_webhooks_secret_is_the_same_after_a_restart_and_not_the_token() -> None:
    one, other = (Telegram(TOKEN, webhook="https://lab.example/")._secret for _ in range(2))
    assert one == other
    assert TOKEN.partition(":")[2] not in one


def test_it_is_an_adapter() -> None:
    adapter: Adapter = Telegram(TOKEN, rate=1e9, chat_rate=1e9, group_rate=1e9)
    assert (adapter.name, adapter.limits.text, adapter.limits.rate) == ("telegram", 4096, 1e9)
