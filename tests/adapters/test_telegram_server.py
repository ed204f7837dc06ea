"""The Bot API server of the tests behaves as Telegram does, seen through python-telegram-bot."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from telegram import (
    Bot,
    BotCommand,
    ForceReply,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputFile,
    LinkPreviewOptions,
    ReplyParameters,
    Update,
)
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
    TimedOut,
)
from telegram.request import HTTPXRequest

from tests.adapters.telegram_server import (
    GROUP_ANONYMOUS_BOT,
    TELEGRAM,
    TOKEN,
    Chat,
    Control,
    Rates,
    TelegramServer,
    User,
    parse_html,
)

# The library warns of its own attribute whenever it reads a 429.
pytestmark = pytest.mark.filterwarnings("ignore:Deprecated since version v22.2")

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big") + b"\x08\x02\0\0\0"


@asynccontextmanager
async def connected(server: TelegramServer, token: str | None = None) -> AsyncIterator[Bot]:
    request = HTTPXRequest(connection_pool_size=16, read_timeout=10)
    bot = Bot(
        token or server.token,
        base_url=f"{server.url}/bot",
        base_file_url=f"{server.url}/file/bot",
        request=request,
        get_updates_request=HTTPXRequest(connection_pool_size=4, read_timeout=10),
    )
    if token is None:
        await bot.initialize()
    try:
        yield bot
    finally:
        await bot.shutdown()
        await request.shutdown()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with TelegramServer() as running:
        yield running


@pytest_asyncio.fixture
async def bot(server: TelegramServer) -> AsyncIterator[Bot]:
    async with connected(server) as client:
        yield client


@pytest.fixture
def ada(server: TelegramServer) -> User:
    return server.user(first_name="Ada", language_code="de")


@pytest.fixture
def talk(server: TelegramServer, ada: User) -> Chat:
    """A private chat in which the bot may write, with no update left over."""
    chat = server.private(ada)
    ada.started = True
    return chat


@pytest.fixture
def square(server: TelegramServer, ada: User) -> Chat:
    """A supergroup with the bot, with no update left over."""
    chat = server.group("Square")
    server.add_bot(chat, ada)
    server.jump(1)
    return chat


def keyboard(*labels: str) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup([[InlineKeyboardButton(label, callback_data=label.lower())] for label in labels])


async def raw(server: TelegramServer, method: str, **params: Any) -> tuple[int, str]:
    """A call without the library: status and description, which the library rewrites."""
    address = f"{server.url}/bot{server.token}/{method}"
    async with aiohttp.ClientSession() as session, session.post(address, json=params) as response:
        body = await response.json()
    assert body["ok"] == (response.status == 200)
    return response.status, body.get("description", "")


async def updates(bot: Bot, **more: Any) -> list[Update]:
    return list(await bot.get_updates(**more))


# --- who may call ----------------------------------------------------------------------------------------------------


async def test_a_wrong_token_is_unauthorized_and_a_malformed_one_is_not_found(server: TelegramServer) -> None:
    async with connected(server, "123:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA") as stranger:
        with pytest.raises(InvalidToken, match="Unauthorized"):
            await stranger.get_me()
    async with connected(server, "123:short") as stranger:
        with pytest.raises(InvalidToken, match="Not Found"):
            await stranger.get_me()


async def test_an_unknown_method_is_a_bad_request(bot: Bot) -> None:
    with pytest.raises(BadRequest, match="not served"):
        await bot.do_api_request("flyToTheMoon")


# --- receiving -------------------------------------------------------------------------------------------------------


async def test_a_command_arrives_with_its_entity_in_utf16_units(server: TelegramServer, bot: Bot, ada: User) -> None:
    server.say(ada, server.private(ada), "🚲 /idea@labbot_test_bot for @charles_b")
    (update,) = await updates(bot)
    assert update.message is not None
    assert update.message.from_user is not None
    assert update.message.from_user.language_code == "de"
    assert abs(update.message.date.timestamp() - time.time()) < 5
    found = [(e.type, e.offset, e.length) for e in update.message.entities]
    assert found == [("bot_command", 3, 21), ("mention", 29, 10)]
    assert update.message.parse_entity(update.message.entities[0]) == "/idea@labbot_test_bot"


async def test_updates_come_again_until_a_higher_offset_confirms_them(
    server: TelegramServer, bot: Bot, ada: User
) -> None:
    chat = server.private(ada)
    for number in range(5):
        server.say(ada, chat, f"message {number}")
    first = await updates(bot, limit=2)
    assert [u.message.text for u in first if u.message] == ["message 0", "message 1"]
    assert await updates(bot, limit=2) == first
    rest = await updates(bot, offset=first[-1].update_id + 1)
    assert [u.update_id for u in rest] == [first[-1].update_id + n for n in (1, 2, 3)]
    assert server.confirmed == first[-1].update_id
    (last,) = await updates(bot, offset=-1)
    assert last == rest[-1]
    assert await updates(bot, offset=0) == [last]
    assert await updates(bot, offset=last.update_id + 1) == []
    assert server.pending == []


async def test_an_offset_from_before_the_numbers_began_anew_loses_nothing(
    server: TelegramServer, bot: Bot, ada: User
) -> None:
    server.jump(5000)
    server.say(ada, server.private(ada), "after a quiet week")
    (update,) = await updates(bot, offset=700_000_000)
    assert update.update_id == 5000
    assert await updates(bot, offset=5001) == []


async def test_a_long_poll_ends_with_the_next_update(server: TelegramServer, bot: Bot, ada: User) -> None:
    poll = asyncio.create_task(updates(bot, timeout=8))
    await server.wait_for(lambda: server.called("getUpdates"))
    started = time.monotonic()
    server.say(ada, server.private(ada), "hello")
    assert len(await poll) == 1
    assert time.monotonic() - started < 2


async def test_of_two_pollers_the_older_one_is_sent_away(server: TelegramServer, bot: Bot, ada: User) -> None:
    older = asyncio.create_task(updates(bot, timeout=8))
    await server.wait_for(lambda: len(server.called("getUpdates")) == 1)
    newer = asyncio.create_task(updates(bot, timeout=8))
    with pytest.raises(Conflict, match="terminated by other getUpdates request"):
        await older
    server.say(ada, server.private(ada), "hello")
    assert len(await newer) == 1
    assert server.refused_409 == 1


async def test_a_poller_that_died_is_no_rival(server: TelegramServer, bot: Bot, ada: User) -> None:
    dead = asyncio.create_task(updates(bot, timeout=8))
    await server.wait_for(lambda: server.polling)
    dead.cancel()
    await server.wait_for(lambda: not server.polling)
    server.say(ada, server.private(ada), "hello")
    assert len(await updates(bot, timeout=8)) == 1
    assert server.refused_409 == 0


async def test_only_the_kinds_of_updates_that_were_asked_for_are_kept(
    server: TelegramServer, bot: Bot, ada: User
) -> None:
    await updates(bot, allowed_updates=["callback_query"])
    server.say(ada, server.private(ada), "unheard")
    assert server.pending == []
    await updates(bot, allowed_updates=[])
    server.say(ada, server.private(ada), "heard")
    assert len(await updates(bot)) == 1


async def test_undelivered_presses_are_dropped_after_150_seconds_and_messages_after_a_day(
    server: TelegramServer, bot: Bot, ada: User, talk: Chat
) -> None:
    sent = await bot.send_message(talk.id, "Choose", reply_markup=keyboard("Yes"))
    server.press(ada, talk, sent.message_id, "Yes")
    server.say(ada, talk, "hello")
    assert len(await updates(bot)) == 2
    server.skip(151)
    assert [bool(u.message) for u in await updates(bot)] == [True]
    server.skip(24 * 3600)
    assert await updates(bot) == []


async def test_any_json_can_be_put_among_the_updates(server: TelegramServer, bot: Bot) -> None:
    number = server.inject({"poll_answer": {"poll_id": 7, "user": "nobody"}})
    address = f"{server.url}/bot{server.token}/getUpdates"
    async with aiohttp.ClientSession() as session, session.post(address) as response:
        body = await response.json()
    assert body["result"] == [{"update_id": number, "poll_answer": {"poll_id": 7, "user": "nobody"}}]


async def test_an_edited_message_arrives_as_an_edit(server: TelegramServer, bot: Bot, ada: User) -> None:
    message = server.say(ada, server.private(ada), "Bycicle shed")
    server.edit(ada, message, "Bicycle shed")
    _, update = await updates(bot)
    assert update.edited_message is not None
    assert update.edited_message.text == "Bicycle shed"
    assert update.edited_message.edit_date is not None
    assert [version.text for version in message.edits] == ["Bycicle shed"]


# --- groups ----------------------------------------------------------------------------------------------------------


async def test_in_privacy_mode_only_commands_answers_and_mentions_reach_the_bot(
    server: TelegramServer, bot: Bot, ada: User, square: Chat
) -> None:
    question = await bot.send_message(square.id, "Which topic?", reply_markup=ForceReply(selective=True))
    server.say(ada, square, "nothing for a bot")
    server.say(ada, square, "/poll")
    server.say(ada, square, "/poll@other_bot")
    server.say(ada, square, "/poll@LABBOT_test_bot")
    server.say(ada, square, "ask @labbot_test_bot")
    server.say(ada, square, "Mobility", reply_to=question.message_id)
    heard = [u.message.text for u in await updates(bot) if u.message]
    assert heard == ["/poll", "/poll@LABBOT_test_bot", "ask @labbot_test_bot", "Mobility"]


async def test_an_administrator_bot_hears_everything(server: TelegramServer, bot: Bot, ada: User, square: Chat) -> None:
    server.promote_bot(square, ada)
    server.say(ada, square, "nothing for a bot")
    promoted, said = await updates(bot)
    assert promoted.my_chat_member is not None
    assert promoted.my_chat_member.new_chat_member.status == "administrator"
    assert said.message is not None


async def test_coming_into_a_group_is_told_twice_and_leaving_ends_writing(
    server: TelegramServer, bot: Bot, ada: User
) -> None:
    group = server.group("Square")
    with pytest.raises(BadRequest, match="Chat not found"):
        await bot.send_message(group.id, "hello")
    server.add_bot(group, ada)
    standing, joined = await updates(bot)
    assert standing.my_chat_member is not None
    assert standing.my_chat_member.new_chat_member.status == "member"
    assert joined.message is not None
    assert [u.id for u in joined.message.new_chat_members] == [bot.id]
    assert await bot.send_message(group.id, "hello")
    server.kick_bot(group, ada)
    with pytest.raises(Forbidden, match="bot was kicked from the supergroup chat"):
        await bot.send_message(group.id, "hello")
    server.add_bot(group, ada)
    assert await bot.leave_chat(group.id)
    with pytest.raises(Forbidden, match="bot is not a member of the supergroup chat"):
        await bot.send_message(group.id, "hello")


async def test_a_group_that_migrates_says_so_on_both_sides_and_in_the_error(
    server: TelegramServer, bot: Bot, ada: User
) -> None:
    old = server.group("Square", supergroup=False)
    server.add_bot(old, ada)
    new = server.migrate(old)
    *_, left, arrived = await updates(bot)
    assert left.message is not None
    assert (left.message.chat.id, left.message.migrate_to_chat_id) == (old.id, new.id)
    assert arrived.message is not None
    assert (arrived.message.chat.id, arrived.message.migrate_from_chat_id) == (new.id, old.id)
    with pytest.raises(ChatMigrated) as moved:
        await bot.send_message(old.id, "hello")
    assert moved.value.new_chat_id == new.id
    assert await bot.send_message(new.id, "hello")


async def test_an_anonymous_administrator_and_a_linked_channel_write_as_chats(
    server: TelegramServer, bot: Bot, square: Chat
) -> None:
    server.say_anonymously(square, "/status")
    server.channel_post(square, "/status")
    anonymous, post = await updates(bot)
    assert anonymous.message is not None
    assert anonymous.message.from_user is not None
    assert anonymous.message.from_user.id == GROUP_ANONYMOUS_BOT
    assert anonymous.message.sender_chat is not None
    assert anonymous.message.sender_chat.id == square.id
    assert post.message is not None
    assert post.message.from_user is not None
    assert post.message.from_user.id == TELEGRAM
    assert post.message.sender_chat is not None
    assert post.message.sender_chat.type == "channel"
    assert post.message.is_automatic_forward


async def test_a_topic_must_exist_and_a_thread_of_replies_is_none(
    server: TelegramServer, bot: Bot, ada: User, square: Chat
) -> None:
    forum = server.group("Forum", forum=True)
    server.add_bot(forum, ada)
    thread = server.topic(forum, "Mobility", ada)
    sent = await bot.send_message(forum.id, "hello", message_thread_id=thread)
    assert (sent.message_thread_id, sent.is_topic_message) == (thread, True)
    with pytest.raises(BadRequest, match="Message thread not found"):
        await bot.send_message(forum.id, "hello", message_thread_id=thread + 1)
    first = await bot.send_message(square.id, "Question?")
    answer = server.say(ada, square, "Answer", reply_to=first.message_id)
    assert answer.thread == first.message_id
    with pytest.raises(BadRequest, match="Message thread not found"):
        await bot.send_message(square.id, "hello", message_thread_id=answer.thread)


async def test_members_and_administrators_are_told_as_they_stand(
    server: TelegramServer, bot: Bot, ada: User, square: Chat
) -> None:
    server.join(ada, square, "creator")
    member = await bot.get_chat_member(square.id, ada.id)
    assert member.status == "creator"
    assert [m.user.id for m in await bot.get_chat_administrators(square.id)] == [ada.id]
    assert await bot.get_chat_member_count(square.id) == 2
    assert (await bot.get_chat_member(square.id, server.user(first_name="Eve").id)).status == "left"
    assert (await bot.get_chat(square.id)).title == "Square"


# --- sending ---------------------------------------------------------------------------------------------------------


async def test_a_message_is_kept_as_shown_and_as_sent(server: TelegramServer, bot: Bot, talk: Chat) -> None:
    sent = await bot.send_message(
        talk.id,
        "🚲 <b>Idea</b> &lt;1&gt;",
        parse_mode="html",
        reply_markup=InlineKeyboardMarkup(
            [[InlineKeyboardButton("Yes", callback_data="1"), InlineKeyboardButton("Site", url="https://example.org")]]
        ),
        link_preview_options=LinkPreviewOptions(is_disabled=True),
        disable_notification=True,
    )
    (message,) = server.sent(talk)
    assert message.text == sent.text == "🚲 Idea <1>"
    assert message.html == "🚲 <b>Idea</b> &lt;1&gt;"
    assert message.entities == [{"type": "bold", "offset": 3, "length": 4}]
    assert message.buttons == [[("Yes", "1"), ("Site", "https://example.org")]]
    assert (message.silent, message.preview) == (True, False)
    assert sent.reply_markup is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<h1>x</h1>", 'Unsupported start tag "h1" at byte offset 0'),
        ("ä <b>x", 'Can\'t find end tag corresponding to start tag "b"'),
        ("ä <b>x</i>", 'Unmatched end tag at byte offset 7, expected "</b>", found "</i>"'),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("x <b", "Unclosed start tag at byte offset 2"),
        ("1 < 2", 'Unsupported start tag "" at byte offset 2'),
        ("<span>x</span>", 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
        ("<a href>x</a>", 'Expected equal sign in declaration of an attribute of the tag "a" at byte offset 0'),
    ],
)
async def test_html_that_telegram_cannot_parse_is_refused_in_its_words(
    server: TelegramServer, talk: Chat, text: str, words: str
) -> None:
    answer = await raw(server, "sendMessage", chat_id=talk.id, text=text, parse_mode="HTML")
    assert answer == (400, f"Bad Request: can't parse entities: {words}")


def test_the_whole_of_telegrams_html_is_understood() -> None:
    text, entities = parse_html(
        "<b>b</b><strong>B</strong><i>i</i><em>I</em><u>u</u><ins>U</ins><s>s</s><del>S</del><tg-spoiler>t</tg-spoiler>"
        '<span class="tg-spoiler">T</span><a href="https://example.org/?a=1&amp;b=2">a</a><code>c</code>'
        '<pre><code class="language-python">p</code></pre>'
        "<blockquote expandable>q</blockquote>&#228;&#x1F6B2;&quot;&nbsp;"
    )
    assert text == 'bBiIuUsStTacpqä🚲"&nbsp;'
    assert [e["type"] for e in entities] == [
        *("bold", "bold", "italic", "italic", "underline", "underline", "strikethrough", "strikethrough"),
        *("spoiler", "spoiler", "text_link", "code", "pre", "expandable_blockquote"),
    ]
    assert entities[10]["url"] == "https://example.org/?a=1&b=2"
    assert entities[12]["language"] == "python"


async def test_length_is_counted_after_parsing_in_utf16_units(bot: Bot, talk: Chat) -> None:
    assert await bot.send_message(talk.id, f"<b>{'x' * 4096}</b>", parse_mode="HTML")
    assert await bot.send_message(talk.id, "🚲" * 2048)
    with pytest.raises(BadRequest, match="Message is too long"):
        await bot.send_message(talk.id, "🚲" * 2048 + "x")
    for empty in ("", " \n ", "<b></b>"):
        with pytest.raises(BadRequest, match="Message text is empty"):
            await bot.send_message(talk.id, empty, parse_mode="HTML")
    with pytest.raises(BadRequest, match="Message caption is too long"):
        await bot.send_document(talk.id, b"x", caption="x" * 1025)


@pytest.mark.parametrize(
    ("button", "words"),
    [
        ({"text": "x", "callback_data": "ä" * 33}, "BUTTON_DATA_INVALID"),
        ({"text": "x", "callback_data": ""}, "BUTTON_DATA_INVALID"),
        ({"text": "x"}, "Text buttons are unallowed in the inline keyboard"),
        ({"text": "", "callback_data": "x"}, "must be non-empty"),
        ({"text": "x", "url": "http://localhost:8080/"}, "is invalid: Wrong HTTP URL"),
        ({"text": "x", "url": "https://example.org", "callback_data": "x"}, "BUTTON_TYPE_INVALID"),
    ],
)
async def test_a_button_that_telegram_refuses_is_refused(
    server: TelegramServer, talk: Chat, button: dict[str, str], words: str
) -> None:
    markup = {"inline_keyboard": [[button]]}
    status, description = await raw(server, "sendMessage", chat_id=talk.id, text="x", reply_markup=markup)
    assert status == 400
    assert words in description


async def test_a_hundred_buttons_fit_and_one_more_does_not(bot: Bot, talk: Chat) -> None:
    assert await bot.send_message(talk.id, "x", reply_markup=keyboard(*map(str, range(100))))
    with pytest.raises(BadRequest, match="Reply markup is too long"):
        await bot.send_message(talk.id, "x", reply_markup=keyboard(*map(str, range(101))))


async def test_the_bot_cannot_write_first_nor_to_who_blocked_it(server: TelegramServer, bot: Bot, ada: User) -> None:
    with pytest.raises(BadRequest, match="Chat not found"):
        await bot.send_message(4711, "hello")
    with pytest.raises(Forbidden, match="bot can't initiate conversation with a user"):
        await bot.send_message(ada.id, "hello")
    server.start(ada, "welcome")
    assert await bot.send_message(ada.id, "hello")
    server.block(ada)
    with pytest.raises(Forbidden, match="bot was blocked by the user"):
        await bot.send_message(ada.id, "hello")
    server.unblock(ada)
    assert await bot.send_message(ada.id, "hello")
    said, *standing = await updates(bot)
    assert said.message is not None
    assert said.message.text == "/start welcome"
    assert [u.my_chat_member.new_chat_member.status for u in standing if u.my_chat_member] == ["kicked", "member"]
    server.deactivate(ada)
    with pytest.raises(Forbidden, match="user is deactivated"):
        await bot.send_message(ada.id, "hello")


async def test_a_reply_needs_its_message_unless_told_otherwise(
    server: TelegramServer, bot: Bot, ada: User, talk: Chat
) -> None:
    said = server.say(ada, talk, "hello")
    answer = await bot.send_message(talk.id, "hello!", reply_parameters=ReplyParameters(said.id))
    assert answer.reply_to_message is not None
    assert answer.reply_to_message.text == "hello"
    assert server.sent(talk)[0].reply_to == said.id
    with pytest.raises(BadRequest, match="Message to be replied not found"):
        await bot.send_message(talk.id, "x", reply_parameters=ReplyParameters(999))
    loose = ReplyParameters(999, allow_sending_without_reply=True)
    assert (await bot.send_message(talk.id, "x", reply_parameters=loose)).reply_to_message is None


async def test_a_value_of_the_wrong_type_is_refused_and_an_unknown_parameter_is_not(
    server: TelegramServer, talk: Chat
) -> None:
    status, description = await raw(server, "sendMessage", chat_id=talk.id, text="x", message_thread_id="first")
    assert (status, description) == (400, 'Bad Request: field "message_thread_id" must be of type Integer')
    assert await raw(server, "sendMessage", chat_id=talk.id, text="x", shiny=True) == (200, "")


async def test_json_form_and_query_are_all_the_same(server: TelegramServer, talk: Chat) -> None:
    address = f"{server.url}/bot{server.token}/SENDmessage"
    async with aiohttp.ClientSession() as session:
        for more in (
            {"json": {"chat_id": talk.id, "text": "x"}},
            {"data": {"chat_id": str(talk.id), "text": "x"}},
            {"params": {"chat_id": str(talk.id), "text": "x"}},
        ):
            async with session.post(address, **more) as response:
                assert (await response.json())["ok"]
    assert [m.text for m in server.sent(talk)] == ["x", "x", "x"]


# --- editing, deleting, pressing -------------------------------------------------------------------------------------


async def test_an_edit_replaces_text_and_keyboard_and_keeps_the_history(
    server: TelegramServer, bot: Bot, ada: User, talk: Chat
) -> None:
    sent = await bot.send_message(talk.id, "1 vote", reply_markup=keyboard("Yes"))
    await bot.edit_message_text("2 votes", talk.id, sent.message_id, reply_markup=keyboard("Yes", "No"))
    await bot.edit_message_reply_markup(talk.id, sent.message_id)
    (message,) = server.sent(talk)
    assert (message.text, message.buttons) == ("2 votes", [])
    assert [version.text for version in message.edits] == ["1 vote", "2 votes"]
    with pytest.raises(BadRequest, match="Message is not modified"):
        await bot.edit_message_text("2 votes", talk.id, sent.message_id)
    with pytest.raises(BadRequest, match="Message to edit not found"):
        await bot.edit_message_text("x", talk.id, 999)
    with pytest.raises(BadRequest, match="Message can't be edited"):
        await bot.edit_message_text("x", talk.id, server.say(ada, talk, "mine").id)
    asked = await bot.send_message(talk.id, "Title?", reply_markup=ForceReply())
    with pytest.raises(BadRequest, match="Message can't be edited"):
        await bot.edit_message_text("x", talk.id, asked.message_id)


async def test_a_deleted_message_is_gone_for_everything_but_the_record(
    server: TelegramServer, bot: Bot, ada: User, square: Chat
) -> None:
    sent = await bot.send_message(square.id, "x")
    assert await bot.delete_message(square.id, sent.message_id)
    assert server.sent(square)[0].deleted
    with pytest.raises(BadRequest, match="Message to delete not found"):
        await bot.delete_message(square.id, sent.message_id)
    with pytest.raises(BadRequest, match="Message to edit not found"):
        await bot.edit_message_text("y", square.id, sent.message_id)
    with pytest.raises(BadRequest, match="Message can't be deleted"):
        await bot.delete_message(square.id, server.say(ada, square, "mine").id)
    late = await bot.send_message(square.id, "x")
    server.skip(49 * 3600)
    with pytest.raises(BadRequest, match="Message can't be deleted for everyone"):
        await bot.delete_message(square.id, late.message_id)


async def test_a_press_carries_who_and_where_and_its_answer_is_kept(
    server: TelegramServer, bot: Bot, ada: User, square: Chat
) -> None:
    sent = await bot.send_message(square.id, "Choose", reply_markup=keyboard("Yes", "No"))
    number = server.press(ada, square, sent.message_id, "No")
    (update,) = await updates(bot)
    assert update.callback_query is not None
    assert (update.callback_query.id, update.callback_query.data) == (number, "no")
    assert update.callback_query.from_user.id == ada.id
    assert update.callback_query.chat_instance == square.instance
    assert update.callback_query.message is not None
    assert update.callback_query.message.is_accessible
    await bot.answer_callback_query(number, "Counted")
    assert [answer.text for answer in server.queries[number].answers] == ["Counted"]
    with pytest.raises(BadRequest, match=r"(?i)message_too_long"):
        await bot.answer_callback_query(number, "x" * 201)
    server.skip(151)
    for old in (number, "12345"):
        with pytest.raises(
            BadRequest, match=r"(?i)query is too old and response timeout expired or query ID is invalid"
        ):
            await bot.answer_callback_query(old)
    with pytest.raises(LookupError):
        server.press(ada, square, sent.message_id, "Maybe")


async def test_a_press_on_a_message_that_is_gone_is_inaccessible(
    server: TelegramServer, bot: Bot, ada: User, talk: Chat
) -> None:
    sent = await bot.send_message(talk.id, "Choose", reply_markup=keyboard("Yes"))
    server.press(ada, talk, sent.message_id, "Yes", inaccessible=True)
    server.press(ada, talk, sent.message_id, "forged", anyway=True)
    old, forged = [u.callback_query for u in await updates(bot)]
    assert old is not None
    assert old.message is not None
    assert not old.message.is_accessible
    assert forged is not None
    assert forged.data == "forged"


# --- files -----------------------------------------------------------------------------------------------------------


async def test_a_document_is_uploaded_once_and_sent_again_by_its_id(
    server: TelegramServer, bot: Bot, talk: Chat
) -> None:
    sent = await bot.send_document(
        talk.id, InputFile(io.BytesIO(b"a;b"), "ideas.csv"), caption="<b>All</b>", parse_mode="HTML"
    )
    assert sent.document is not None
    assert (sent.document.file_name, sent.caption) == ("ideas.csv", "All")
    again = await bot.send_document(talk.id, sent.document.file_id)
    assert again.document == sent.document
    assert [message.document for message in server.sent(talk)] == [b"a;b", b"a;b"]
    await bot.edit_message_caption(talk.id, sent.message_id, caption="Some")
    assert server.sent(talk)[0].text == "Some"
    with pytest.raises(BadRequest, match="There is no text in the message to edit"):
        await bot.edit_message_text("x", talk.id, sent.message_id)
    with pytest.raises(BadRequest, match="Wrong remote file identifier"):
        await bot.send_document(talk.id, "AgADnothing")
    with pytest.raises(BadRequest, match="File must be non-empty"):
        await bot.send_document(talk.id, b"")


async def test_a_photo_must_be_a_picture(server: TelegramServer, bot: Bot, talk: Chat) -> None:
    sent = await bot.send_photo(talk.id, PNG)
    assert (sent.photo[0].width, sent.photo[0].height) == (640, 480)
    with pytest.raises(BadRequest, match=r"(?i)image_process_failed"):
        await bot.send_photo(talk.id, b"not a picture")


async def test_a_persons_file_can_be_fetched_up_to_20_megabytes(
    server: TelegramServer, bot: Bot, ada: User, talk: Chat
) -> None:
    server.send_file(ada, talk, "plan.pdf", b"%PDF-1.7", "application/pdf", "Our plan")
    server.send_file(ada, talk, "film.mp4", b"...", "video/mp4", size=21 * 1024 * 1024)
    small, big = [u.message.document for u in await updates(bot) if u.message]
    assert small is not None
    assert (small.file_name, small.mime_type) == ("plan.pdf", "application/pdf")
    assert bytes(await (await bot.get_file(small)).download_as_bytearray()) == b"%PDF-1.7"
    assert big is not None
    with pytest.raises(BadRequest, match="File is too big"):
        await bot.get_file(big)


async def test_an_upload_of_more_than_50_megabytes_is_refused(server: TelegramServer, bot: Bot, talk: Chat) -> None:
    with pytest.raises(NetworkError, match="Request Entity Too Large"):
        await bot.send_document(talk.id, bytes(52 * 1024 * 1024), write_timeout=60)
    assert not server.sent(talk)


# --- commands --------------------------------------------------------------------------------------------------------


async def test_the_command_menu_is_kept_per_scope_and_language(server: TelegramServer, bot: Bot) -> None:
    await bot.set_my_commands([BotCommand("idea", "Suggest an idea")])
    await bot.set_my_commands([BotCommand("idee", "Eine Idee vorschlagen")], language_code="de")
    assert server.menu() == [("idea", "Suggest an idea")]
    assert server.menu("de") == [("idee", "Eine Idee vorschlagen")]
    assert [c.command for c in await bot.get_my_commands(language_code="de")] == ["idee"]
    await bot.delete_my_commands(language_code="de")
    assert server.menu("de") == []
    for name in ("Idea", "idée", "x" * 33, ""):
        answer = await raw(server, "setMyCommands", commands=[{"command": name, "description": "x"}])
        assert answer == (400, "Bad Request: BOT_COMMAND_INVALID")
    answer = await raw(server, "setMyCommands", commands=[{"command": "x", "description": "x" * 257}])
    assert answer == (400, "Bad Request: BOT_COMMAND_DESCRIPTION_INVALID")
    with pytest.raises(BadRequest, match=r"(?i)bot_commands_too_much"):
        await bot.set_my_commands([BotCommand(f"c{n}", "x") for n in range(101)])
    with pytest.raises(BadRequest, match="language code"):
        await bot.set_my_commands([], language_code="deu")


# --- rates -----------------------------------------------------------------------------------------------------------


async def test_rates_are_held_in_all_per_person_and_per_group(server: TelegramServer, ada: User, bot: Bot) -> None:
    frozen = time.time()
    server.clock = lambda: frozen
    server.rates = Rates()
    people = [server.user() for _ in range(40)]
    for person in people:
        person.started = True
    for _ in range(3):
        await bot.send_message(people[0].id, "x")
    with pytest.raises(RetryAfter) as refused:
        await bot.send_message(people[0].id, "x")
    assert refused.value.retry_after == 3
    for person in people[1:28]:
        await bot.send_message(person.id, "x")
    with pytest.raises(RetryAfter) as refused:
        await bot.send_message(people[30].id, "x")
    assert refused.value.retry_after == 1
    server.skip(3)
    assert await bot.send_message(people[0].id, "x")
    group = server.group("Square")
    server.add_bot(group, ada)
    for _ in range(20):
        await bot.send_message(group.id, "x")
    with pytest.raises(RetryAfter) as refused:
        await bot.send_message(group.id, "x")
    assert refused.value.retry_after == 60
    assert server.refused_429 == 3
    answer = await raw(server, "sendMessage", chat_id=group.id, text="x")
    assert answer == (429, "Too Many Requests: retry after 60")


async def test_a_pause_that_was_announced_lasts_although_the_window_has_room(
    server: TelegramServer, bot: Bot, talk: Chat
) -> None:
    frozen = time.time()
    server.clock = lambda: frozen
    server.rates = Rates(private=1, private_seconds=2.5)
    await bot.send_message(talk.id, "x")
    with pytest.raises(RetryAfter):
        await bot.send_message(talk.id, "x")
    server.skip(2.6)
    with pytest.raises(RetryAfter):
        await bot.send_message(talk.id, "x")
    server.skip(0.4)
    assert await bot.send_message(talk.id, "x")


# --- faults ----------------------------------------------------------------------------------------------------------


async def test_faults_before_the_call_leave_nothing_behind(server: TelegramServer, bot: Bot, talk: Chat) -> None:
    for kind, error in ((429, RetryAfter), (500, NetworkError), (502, NetworkError), ("cut_before", NetworkError)):
        server.fail("sendMessage", kind, retry_after=7)
        with pytest.raises(error):
            await bot.send_message(talk.id, "x")
    server.fail("sendMessage", "timeout")
    with pytest.raises(TimedOut):
        await bot.send_message(talk.id, "x", read_timeout=0.2)
    assert not server.sent(talk)
    assert [call.fault for call in server.called("sendMessage")] == ["429", "500", "502", "cut_before", "timeout"]
    assert await bot.send_message(talk.id, "x")
    assert server.hasty == 1
    assert server.refused_429 == 0


async def test_faults_after_the_call_leave_the_message_behind(server: TelegramServer, bot: Bot, talk: Chat) -> None:
    for kind, error in (("cut_after", NetworkError), ("garbage", TelegramError), ("timeout_after", TimedOut)):
        server.fail("*", kind, chat=talk)
        with pytest.raises(error):
            await bot.send_message(talk.id, kind, read_timeout=0.3)
    assert [message.text for message in server.sent(talk)] == ["cut_after", "garbage", "timeout_after"]


async def test_random_faults_are_the_same_for_the_same_seed(server: TelegramServer, bot: Bot, talk: Chat) -> None:
    runs = []
    for _ in range(2):
        server.flaky(0.5, [500, 429], seed=7, methods=["sendMessage"])
        begun = len(server.calls)
        for _ in range(20):
            try:
                await bot.send_message(talk.id, "x")
            except (NetworkError, RetryAfter):
                continue
        runs.append([call.fault for call in server.calls[begun:]])
    assert runs[0] == runs[1]
    assert {None, "500", "429"} == set(runs[0])
    server.heal()
    assert await bot.send_message(talk.id, "x")


# --- webhook ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(statuses: list[int]) -> AsyncIterator[tuple[str, list[tuple[str, Any]]]]:
    """A bot's web server; gives each status once, then 200."""
    seen: list[tuple[str, Any]] = []

    async def receive(request: web.Request) -> web.Response:
        body = await request.json()
        seen.append((request.headers.get("X-Telegram-Bot-Api-Secret-Token", ""), body))
        return web.Response(status=statuses.pop(0) if statuses else 200)

    app = web.Application()
    app.router.add_post("/hook", receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", seen
    finally:
        await runner.cleanup()


async def test_a_webhook_gets_each_update_with_the_secret_until_it_takes_it(
    server: TelegramServer, bot: Bot, ada: User
) -> None:
    chat = server.private(ada)
    server.say(ada, chat, "before")
    async with listening([500, 503]) as (url, seen):
        server.webhook_retry = 0.01
        await bot.set_webhook(url, secret_token="s3cret")
        server.say(ada, chat, "after")
        await server.wait_for(lambda: not server.pending)
        texts = [body["message"]["text"] for _, body in seen]
        assert texts == ["before", "before", "before", "after"]
        assert {secret for secret, _ in seen} == {"s3cret"}
        with pytest.raises(Conflict, match="can't use getUpdates method while webhook is active"):
            await updates(bot)
        info = await bot.get_webhook_info()
        assert (info.url, info.pending_update_count) == (url, 0)
        assert info.last_error_message == "Wrong response from the webhook: 503 Service Unavailable"
        await bot.delete_webhook()
    server.say(ada, chat, "by polling")
    assert len(await updates(bot)) == 1


async def test_a_webhook_needs_https_and_a_plain_secret(bot: Bot) -> None:
    with pytest.raises(BadRequest, match=r"(?i)an HTTPS URL must be provided for webhook"):
        await bot.set_webhook("http://example.org/hook")
    with pytest.raises(BadRequest, match="only on ports"):
        await bot.set_webhook("https://example.org:9000/hook")
    with pytest.raises(BadRequest, match="unallowed characters"):
        await bot.set_webhook("https://example.org/hook", secret_token="sp ace")


# --- the test's own side ---------------------------------------------------------------------------------------------


async def test_waiting_for_what_does_not_come_says_what_came(server: TelegramServer, bot: Bot) -> None:
    with pytest.raises(TimeoutError, match="getMe:200"):
        await server.wait_for(lambda: server.sent(), timeout=0.05)


async def test_the_latency_delays_answers_and_not_effects(server: TelegramServer, bot: Bot, talk: Chat) -> None:
    server.latency = 0.2
    sending = asyncio.create_task(bot.send_message(talk.id, "x"))
    await server.wait_for(lambda: server.sent(talk))
    assert not sending.done()
    started = time.monotonic()
    await sending
    assert time.monotonic() - started > 0.1


async def test_it_runs_as_a_process_driven_over_http() -> None:
    root = Path(__file__).resolve().parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.adapters.telegram_server", "--port", "0", "--token", TOKEN, "--latency", "1", "--rates"),
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with aiohttp.ClientSession() as session:
            control = Control(url, session)
            ada = await control("user", first_name="Ada", language_code="de")
            await control("private", user=ada["id"])
            await control("say", user=ada["id"], chat=ada["id"], text="/start")
            api = f"{url}/bot{TOKEN}"
            async with session.post(f"{api}/getUpdates") as response:
                assert len((await response.json())["result"]) == 1
            waiting = asyncio.create_task(control("wait", chat=ada["id"], contains="Hello"))
            markup = json.dumps({"inline_keyboard": [[{"text": "Menu", "callback_data": "m"}]]})
            form = {"chat_id": str(ada["id"]), "text": "Hello Ada", "reply_markup": markup}
            async with session.post(f"{api}/sendMessage", data=form) as response:
                assert response.status == 200
            (message,) = await waiting
            assert message["buttons"] == [[["Menu", "m"]]]
            number = await control(
                "press", user=ada["id"], chat=ada["id"], message=message["message_id"], button="Menu"
            )
            form = {"callback_query_id": number, "text": "Here"}
            async with session.post(f"{api}/answerCallbackQuery", data=form) as response:
                assert response.status == 200
            (query,) = await control("queries")
            assert [answer["text"] for answer in query["answers"]] == ["Here"]
            await control("fail", method="getMe", kind=500)
            async with session.get(f"{api}/getMe") as response:
                assert response.status == 500
            counts = await control("counts")
            assert (counts["sent"], counts["pending"], counts["crashes"]) == (1, 2, [])
            assert (await control("configure", latency=0.0))["rates"]["overall"] == 30
            with pytest.raises(ValueError, match="no button"):
                await control("press", user=ada["id"], chat=ada["id"], message=1, button="Nothing")
    finally:
        process.terminate()
        assert await process.wait() == 0
