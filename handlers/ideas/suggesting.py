"""Suggesting an idea: in one message, step by step, or from a sentence that may be one."""

import re
import zlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, Said, T, Text, Verbatim
from handlers.help import menu
from handlers.ideas.showing import show
from handlers.ideas.words import CANCEL, is_the_labs, number_of, team_card, topic_of
from storage import chats, ideas, people
from storage.announcements import ledger
from storage.ideas import LONGEST_TEXT, LONGEST_TITLE
from storage.people import NameUnfit, Person, proper_name

router = Router()

ASKED_WITHIN = timedelta(days=7)
"""How long after an announcement a sentence may be a question about it, though it is no reply to it."""

BACK = T("Back")
AS_IT_IS = Choice(T("Leave it as it is"), "idea.as_it_is")

DRAFTING = ("idea.title", "idea.text", "idea.topic", "idea.preview", "idea.name")
"""The steps of a draft."""


@router.command("idea", help=T("Suggest an idea to your community"))
def idea_command(turn: Turn, text: str) -> None:
    if text:
        begin(turn, text)
    else:
        ask_title(turn, {})


@router.press("idea.start")
def start(turn: Turn) -> None:
    ask_title(turn, {})


def begin(turn: Turn, text: str, draft: Mapping[str, Any] | None = None) -> None:
    """A draft from what somebody has written; whatever is there is not asked again."""
    title, rest = headline(text)
    begun = {"text": "", **(draft or {}), "title": title}
    if turn.message is not None:
        begun.setdefault("source", turn.message.id)
    go_on(turn, begun, rest)


def go_on(turn: Turn, draft: dict[str, Any], text: str) -> None:
    """Ask for what a draft lacks yet, else show it; ``text`` is what stood below its title, if anything."""
    if len(text) > LONGEST_TEXT:
        ask_text(turn, draft, too_long=len(text))
    elif text or draft.get("topic"):
        preview(turn, {**draft, "text": text or draft["text"]})
    else:
        ask_text(turn, draft)


def headline(text: str) -> tuple[str, str]:
    """Title and text of an idea written in one go: the first line, else the first sentence, else some words."""
    first, _, rest = text.strip().partition("\n")
    first, rest = " ".join(first.split()), rest.strip()
    if len(first) <= LONGEST_TITLE:
        return first, rest
    sentence = re.match(rf"(.{{1,{LONGEST_TITLE - 1}}}?[.!?…])\s+(.+)", first, re.DOTALL)
    if sentence is not None:
        return sentence[1], f"{sentence[2]}\n{rest}".strip()
    start = first[: LONGEST_TITLE - 1]
    return f"{start.rpartition(' ')[0] or start}…", text.strip()


def ask_title(turn: Turn, draft: dict[str, Any]) -> None:
    if draft.get("title"):
        question = T("How shall it be called? So far: {title}", title=draft["title"])
        turn.ask(question, AS_IT_IS, CANCEL, step="idea.title", data=draft)
    else:
        turn.ask(T("What is your idea, in one sentence?"), CANCEL, step="idea.title", data=draft)


@router.step("idea.title")
def take_title(turn: Turn, text: str) -> None:
    if text:
        begin(turn, text, turn.data)
    else:
        ask_title(turn, turn.data)


@router.press("idea.as_it_is")
def leave_as_it_is(turn: Turn) -> None:
    if in_draft(turn):
        assert turn.dialog is not None
        if turn.dialog.step == "idea.title":
            go_on(turn, turn.data, "")
        else:
            after_text(turn, turn.data)


def ask_text(turn: Turn, draft: dict[str, Any], too_long: int = 0) -> None:
    if too_long:
        question: Text = T(
            "That is {n} characters, and {most} fit. Can you say it shorter?", n=too_long, most=LONGEST_TEXT
        )
    elif draft["text"] or draft.get("topic"):
        question = T("How shall the text read?")
    else:
        question = T("Good idea! Will you say in a sentence or two what it makes better?")
    choices = []
    if draft["text"] or draft.get("topic"):
        choices.append(AS_IT_IS)
    if draft["text"] or too_long:
        choices.append(Choice(T("Without a text"), "idea.no_text"))
    elif not draft.get("topic"):
        choices.append(Choice(T("Skip"), "idea.no_text"))
    if not draft.get("topic"):
        choices.append(Choice(BACK, "idea.back_to_title"))
    turn.ask(question, *choices, CANCEL, step="idea.text", data=draft)


@router.step("idea.text")
def take_text(turn: Turn, text: str) -> None:
    draft = dict(turn.data)
    if not text:
        ask_text(turn, draft)
    elif len(text) > LONGEST_TEXT:
        ask_text(turn, draft, too_long=len(text))
    else:
        after_text(turn, {**draft, "text": text})


@router.press("idea.no_text")
def skip_text(turn: Turn) -> None:
    if in_draft(turn):
        after_text(turn, {**turn.data, "text": ""})


@router.press("idea.back_to_title")
def back_to_title(turn: Turn) -> None:
    if in_draft(turn):
        ask_title(turn, turn.data)


def after_text(turn: Turn, draft: dict[str, Any]) -> None:
    if draft.get("topic"):
        preview(turn, draft)
    else:
        ask_topic(turn, draft)


def ask_topic(turn: Turn, draft: dict[str, Any]) -> None:
    topics = [Choice(label, "idea.topic", (key,)) for key, label in turn.lab.topics.items()]
    back = AS_IT_IS if draft.get("topic") else Choice(BACK, "idea.back_to_text")
    turn.ask(T("Which topic fits?"), *topics, back, CANCEL, step="idea.topic", data=draft)


@router.step("idea.topic")
def no_topic(turn: Turn, _text: str) -> None:
    turn.say(T("Please choose one of the topics, or write its number."))
    ask_topic(turn, turn.data)


@router.press("idea.topic")
def take_topic(turn: Turn, topic: str) -> None:
    if in_draft(turn):
        preview(turn, {**turn.data, "topic": topic})


@router.press("idea.back_to_text")
def back_to_text(turn: Turn) -> None:
    if in_draft(turn):
        ask_text(turn, turn.data)


def preview(turn: Turn, draft: dict[str, Any]) -> None:
    draft.setdefault("topic", list(turn.lab.topics)[-1])
    name = draft.get("name")
    signed = (
        T("This is how it goes out, signed “{name}”:", name=name)
        if name
        else T("This is how it goes out, under your pseudonym “{name}”:", name=turn.person.pseudonym)
    )
    body: list[Text] = [T("<b>{title}</b>", title=draft["title"])]
    if draft["text"]:
        body.append(Verbatim(draft["text"]))
    body.append(T("Topic: {topic}", topic=topic_of(turn, draft["topic"])))
    turn.ask(
        Lines([signed, Lines(body)], "\n\n"),
        Choice(T("Send"), "idea.send", (fingerprint(draft),)),
        Choice(T("Sign with my pseudonym"), "idea.unsign") if name else Choice(T("Sign with a name"), "idea.sign"),
        Choice(T("Change the title"), "idea.back_to_title"),
        Choice(T("Change the text"), "idea.back_to_text"),
        Choice(T("Change the topic"), "idea.back_to_topic"),
        CANCEL,
        step="idea.preview",
        data=draft,
    )


@router.step("idea.preview")
def not_yet_sent(turn: Turn, _text: str) -> None:
    turn.say(T("Your idea is not sent yet. Choose “Send”, or change it first."))
    preview(turn, turn.data)


@router.press("idea.back_to_topic")
def back_to_topic(turn: Turn) -> None:
    if in_draft(turn):
        ask_topic(turn, turn.data)


@router.press("idea.sign")
def ask_name(turn: Turn) -> None:
    if in_draft(turn):
        turn.ask(
            T("Which name shall stand under it? Everybody will see it."),
            Choice(BACK, "idea.unsign"),
            CANCEL,
            step="idea.name",
            data=turn.data,
        )


@router.step("idea.name")
def take_name(turn: Turn, text: str) -> None:
    try:
        name = proper_name(text)
    except NameUnfit:
        turn.say(T("Please use 1 to 40 characters, with letters."))
        return
    if is_the_labs(turn, name):
        turn.say(T("That name belongs to the lab. Which other one?"))
    elif people.is_somebody_else(turn.db, turn.person.id, name):
        turn.say(T("Somebody else has that one already. Which other one?"))
    else:
        preview(turn, {**turn.data, "name": name})


@router.press("idea.unsign")
def unsign(turn: Turn) -> None:
    if in_draft(turn):
        preview(turn, {**turn.data, "name": None})


@router.press("idea.send")
def send(turn: Turn, seen: str) -> None:
    if not in_draft(turn):
        return
    draft = turn.data
    if seen != fingerprint(draft):  # an older preview, or that of another idea
        turn.toast(T("This has changed since. Please look once more."))
        if draft.get("topic"):
            preview(turn, draft)
        return
    if draft.get("name"):
        author = turn.db.get_one(Person, turn.person.id)
        author.name = draft["name"]
        turn.db.add(author)
    idea = ideas.submit(
        turn.db,
        author_id=turn.person.id,
        title=draft["title"],
        text=draft["text"],
        topic=draft["topic"],
        named=bool(draft.get("name")),
        now=turn.now,
        source=(turn.chat.id, draft["source"]) if draft.get("source") else None,
    )
    turn.done()
    turn.replace(
        T("Your idea has the number <b>#{number}</b>. I will tell you when something happens.", number=str(idea.id)),
        Choice(T("View"), "idea.show", (str(idea.id),)),
        Choice(T("Change"), "idea.edit", (str(idea.id),)),
        Choice(T("Withdraw"), "idea.withdraw", (str(idea.id),)),
    )
    for room in chats.team_chats(turn.connection):
        turn.tell(room, team_card(turn, ideas.card(turn.db, number_of(idea), None)))


def fingerprint(draft: Mapping[str, Any]) -> str:
    """What a preview has shown: only that is sent."""
    shown = [draft.get(part) or "" for part in ("title", "text", "topic", "name")]
    return str(zlib.crc32("\0".join(shown).encode()))


def in_draft(turn: Turn) -> bool:
    """Whether a draft is open; a button of an old one says so."""
    if turn.dialog is not None and turn.dialog.step in DRAFTING and turn.data.get("title"):
        return True
    turn.toast(T("This question is answered already."))
    return False


# -- a message that may be an idea --------------------------------------------------------------------------


@router.otherwise
def otherwise(turn: Turn, text: str) -> None:
    """A message to the bot that is nothing else: a number shows that idea, a sentence can become one."""
    if (number := re.fullmatch(r"#?\s*(\d{1,9})", text)) is not None:
        show(turn, number[1])
    elif may_be_idea(text):
        offer(turn, [text], None if turn.message is None else turn.message.id)
    elif not text and isinstance(turn.update, Said) and turn.update.files:
        turn.say(T("I can only read text so far. Please write it to me."), *menu())
    else:
        turn.say(T("What would you like to do?"), *menu())


def may_be_idea(text: str) -> bool:
    """Whether this is a sentence rather than a greeting."""
    return len(text.split()) >= 3 and len(text) >= 12


def offer(turn: Turn, said: list[str], source: str | None) -> None:
    """Ask what a sentence shall become; soon after an announcement it can be a question about that."""
    read = ledger.read_in(turn.db, turn.chat.id, turn.now - ASKED_WITHIN) if turn.chat.private else None
    about = () if read is None else (Choice(T("Ask the lab"), "question.offered", (str(read),)),)
    turn.ask(
        T("Shall this become an idea for everybody to see?")
        if len(said) == 1
        else T("Shall all of this become one idea for everybody to see?"),
        Choice(T("Yes, as an idea"), "idea.offered"),
        *about,
        Choice(T("No"), "cancel"),
        step="idea.offer",
        data={"said": said, "source": source},
    )


@router.step("idea.offer")
def said_more(turn: Turn, text: str) -> None:
    """Many write one thought in several messages."""
    said = [*turn.data["said"], text]
    if may_be_idea(text) and sum(map(len, said)) <= LONGEST_TITLE + LONGEST_TEXT:
        offer(turn, said, turn.data.get("source"))
    else:
        turn.done()
        otherwise(turn, text)


@router.press("idea.offered")
def offered(turn: Turn) -> None:
    if turn.dialog is None or turn.dialog.step != "idea.offer":
        turn.toast(T("This question is answered already."))
        return
    # The idea was written in that message, not in the press.
    begin(turn, "\n".join(turn.data["said"]), {"source": turn.data["source"]})
