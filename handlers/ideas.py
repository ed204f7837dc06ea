"""Ideas: suggesting one in a message or step by step, finding, supporting, discussing and following them."""

import re
import zlib
from collections.abc import Mapping
from typing import Any

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, Message, N, Pressed, Said, T, Text, Verbatim
from handlers.help import cancel, menu
from storage import conversation, ideas
from storage.ideas import LONGEST_COMMENT, LONGEST_TEXT, LONGEST_TITLE, Card, Idea, NotOpen, NotYours, Order, Status
from storage.people import NameUnfit, Person, Role, handle_of, proper_name

router = Router()

PAGE = 5
"""How many ideas or comments a list shows at once."""

STATUSES: dict[str, Text] = {
    Status.NEW: T("new"),
    Status.TAKEN_UP: T("taken up"),
    Status.DONE: T("done"),
    Status.DECLINED: T("declined"),
    Status.HIDDEN: T("hidden"),
    Status.WITHDRAWN: T("withdrawn"),
}

CANCEL = Choice(T("Cancel"), "cancel")
BACK = T("Back")
AS_IT_IS = Choice(T("Leave it as it is"), "idea.as_it_is")

DRAFTING = ("idea.title", "idea.text", "idea.topic", "idea.preview", "idea.name")
"""The steps of a draft."""


# -- suggesting ---------------------------------------------------------------------------------------------


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
    if draft["text"]:
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
    for room in conversation.team_chats(turn.connection):
        turn.tell(room, team_card(turn, ideas.card(turn.db, _number(idea), None)))


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


def is_the_labs(turn: Turn, name: str) -> bool:
    """Whether nobody but the lab may be called so: what is signed with it would pass for the lab's own word."""
    reserved = [turn.lab.name] + [
        words.plain(text) for words in turn.lab.catalogues.values() for text in (T("the lab"), T("the lab's team"))
    ]
    return handle_of(name) in {handle_of(words) for words in reserved}


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
    turn.ask(
        T("Shall this become an idea for everybody to see?")
        if len(said) == 1
        else T("Shall all of this become one idea for everybody to see?"),
        Choice(T("Yes, as an idea"), "idea.offered"),
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


# -- finding ------------------------------------------------------------------------------------------------


@router.command("ideas", help=T("See ideas; with a number one of them, with words those that fit"))
def ideas_command(turn: Turn, text: str) -> None:
    if (number := re.fullmatch(r"#?\s*(\d{1,9})", text)) is not None:
        show(turn, number[1])
    else:
        page(turn, Order.NEWEST, words=text[:100])


@router.press("ideas.list")
def list_ideas(turn: Turn, order: str, topic: str = "", words: str = "", after: str = "") -> None:
    page(turn, Order(order), topic, words, after)


def page(turn: Turn, order: Order, topic: str = "", words: str = "", after: str = "") -> None:
    found = ideas.browse(turn.db, order=order, topic=topic or None, words=words, after=after or None, most=PAGE)
    if words:
        heading: Text = T("Ideas with “{words}”:", words=words)
    elif topic:
        heading = T("Ideas about {topic}:", topic=topic_of(turn, topic))
    elif order is Order.SUPPORTED:
        heading = T("The most supported ideas:")
    else:
        heading = T("The newest ideas:")
    choices = [
        Choice(
            T("#{number} {title} ({supports})", number=str(idea.id), title=idea.title, supports=idea.supports),
            "idea.show",
            (str(idea.id),),
        )
        for idea in found.ideas
    ]
    if found.after is not None:
        choices.append(Choice(T("More"), "ideas.list", (order, topic, words, found.after)))
    if order is Order.NEWEST:
        choices.append(Choice(T("Most supported"), "ideas.list", (Order.SUPPORTED, topic, words)))
    else:
        choices.append(Choice(T("Newest"), "ideas.list", (Order.NEWEST, topic, words)))
    choices.append(Choice(T("By topic"), "ideas.topics"))
    choices.append(Choice(T("By words"), "ideas.search"))
    if not found.ideas:
        choices = [Choice(T("Suggest an idea"), "idea.start")]
        if words or topic:
            choices.append(Choice(T("All ideas"), "ideas.list", (Order.NEWEST,)))
        heading = (
            T("There is no idea with “{words}” yet.", words=words)
            if words
            else T("There is nothing here yet. Yours could be the first idea: /idea")
        )
    turn.replace(heading, *choices)


@router.press("ideas.topics")
def list_topics(turn: Turn) -> None:
    topics = [Choice(label, "ideas.list", (Order.NEWEST, key)) for key, label in turn.lab.topics.items()]
    turn.replace(T("Ideas about which topic?"), *topics, Choice(T("All ideas"), "ideas.list", (Order.NEWEST,)))


@router.press("ideas.search")
def ask_words(turn: Turn) -> None:
    turn.ask(T("Which words shall be in it?"), CANCEL, step="ideas.words")


@router.step("ideas.words")
def take_words(turn: Turn, text: str) -> None:
    turn.done()
    page(turn, Order.NEWEST, words=text[:100])


# -- one idea -----------------------------------------------------------------------------------------------


@router.press("idea.show")
def show(turn: Turn, number: str) -> None:
    try:
        turn.say(card_for(turn, number))
    except NotOpen:
        if isinstance(turn.update, Pressed):
            turn.toast(gone(number))
        else:
            turn.say(gone(number), Choice(T("All ideas"), "ideas.list", (Order.NEWEST,)))


def card_for(turn: Turn, number: str) -> Message:
    """The card as this person sees it here. Raises ``NotOpen``."""
    if not number.isdigit():
        raise NotOpen(number)
    person = turn.person.id if turn.chat.private else None
    card = ideas.card(turn.db, int(number), person)
    if not turn.chat.private:
        return Message(
            body(turn, card),
            (
                Choice(T("Support"), "idea.support", (number,)),
                Choice(T("Take my support back"), "idea.unsupport", (number,)),
                Choice(T("Discuss it in private"), start=f"idea-{number}"),
            ),
        )
    choices = [
        Choice(T("Take my support back"), "idea.unsupport", (number,))
        if card.supported
        else Choice(T("Support"), "idea.support", (number,)),
        Choice(T("Comment"), "idea.comment", (number,)),
    ]
    if card.idea.comments:
        choices.append(Choice(T("Read comments ({n})", n=card.idea.comments), "idea.comments", (number,)))
    choices.append(
        Choice(T("Unfollow"), "idea.unfollow", (number,))
        if card.followed
        else Choice(T("Follow"), "idea.follow", (number,))
    )
    if card.own:
        choices.append(Choice(T("Change"), "idea.edit", (number,)))
        choices.append(Choice(T("Withdraw"), "idea.withdraw", (number,)))
    if turn.may(Role.MODERATOR):
        choices += decisions(card.idea)
    choices.append(Choice(T("All ideas"), "ideas.list", (Order.NEWEST,)))
    return Message(body(turn, card), tuple(choices))


def body(turn: Turn, card: Card) -> Text:
    idea = card.idea
    parts: list[Text] = [T("<b>#{number} {title}</b>", number=str(idea.id), title=idea.title)]
    if idea.text:
        parts.append(Verbatim(idea.text))
    facts: list[Text] = [
        T(
            "Topic: {topic}. By {author}, {date}.",
            topic=topic_of(turn, idea.topic),
            author=Verbatim(card.author) if card.author else T("someone"),
            date=idea.created_at.date(),
        ),
        N("{n} person supports it.", "{n} people support it.", n=idea.supports)
        if idea.supports
        else T("Nobody supports it yet."),
    ]
    if idea.comments:
        facts.append(N("{n} comment.", "{n} comments.", n=idea.comments))
    parts.append(Lines(facts, " "))
    if idea.status != Status.NEW:
        parts.append(T("The lab says: {status}", status=STATUSES[idea.status]))
    return Lines(parts, "\n\n")


def topic_of(turn: Turn, key: str) -> Text:
    """A topic's words; one that the lab has dropped from its list shows as it was called."""
    return turn.lab.topics.get(key) or Verbatim(key)


def gone(number: str) -> Text:
    return T("There is no idea #{number}, or it was withdrawn.", number=number[:9])


def _number(idea: Idea) -> int:
    assert idea.id is not None
    return idea.id


@router.press("idea.support")
def support(turn: Turn, number: str) -> None:
    try:
        fresh = ideas.support(turn.db, int(number), turn.person.id, turn.now)
        card = card_for(turn, number)
    except NotOpen:
        turn.toast(gone(number))
        return
    turn.toast(
        T("Thank you, your support for #{number} counts.", number=number)
        if fresh
        else T("You support #{number} already.", number=number)
    )
    turn.replace(card)


@router.press("idea.unsupport")
def unsupport(turn: Turn, number: str) -> None:
    try:
        had = ideas.unsupport(turn.db, int(number), turn.person.id)
        card = card_for(turn, number)
    except NotOpen:
        turn.toast(gone(number))
        return
    turn.toast(
        T("Your support for #{number} is taken back.", number=number)
        if had
        else T("You do not support #{number}.", number=number)
    )
    turn.replace(card)


@router.press("idea.follow")
def follow(turn: Turn, number: str) -> None:
    try:
        ideas.visible(turn.db, int(number))
        ideas.follow(turn.db, int(number), turn.person.id, turn.now)
        turn.toast(T("I will tell you when something happens with #{number}.", number=number))
        turn.replace(card_for(turn, number))
    except NotOpen:
        turn.toast(gone(number))


@router.press("idea.unfollow")
def unfollow(turn: Turn, number: str) -> None:
    ideas.unfollow(turn.db, int(number), turn.person.id)
    turn.toast(T("You no longer hear of #{number}.", number=number))
    try:
        turn.replace(card_for(turn, number))
    except NotOpen:
        turn.toast(gone(number))


# -- comments -----------------------------------------------------------------------------------------------


@router.press("idea.comment")
def ask_comment(turn: Turn, number: str) -> None:
    turn.ask(
        T("What would you like to say about #{number}?", number=number),
        CANCEL,
        step="idea.comment",
        data={"number": number},
    )


@router.press("idea.answer")
def ask_answer(turn: Turn, number: str) -> None:
    if not turn.may(Role.MODERATOR):
        turn.toast(T("Only the lab's organisers can do that."))
        return
    turn.ask(
        T("What does the lab answer to #{number}?", number=number),
        CANCEL,
        step="idea.comment",
        data={"number": number, "team": True},
    )


@router.step("idea.comment")
def take_comment(turn: Turn, text: str) -> None:
    number, team = str(turn.data["number"]), bool(turn.data.get("team")) and turn.may(Role.MODERATOR)
    if not text or len(text) > LONGEST_COMMENT:
        turn.ask(too_much(text, LONGEST_COMMENT), CANCEL, step="idea.comment", data=turn.data)
        return
    turn.done()
    try:
        ideas.comment(turn.db, int(number), turn.person.id, text, team, turn.now)
        idea = ideas.visible(turn.db, int(number))
    except NotOpen:
        turn.say(gone(number))
        return
    turn.say(
        T("The lab's answer stands under #{number}.", number=number)
        if team
        else T("Your comment stands under #{number}.", number=number),
        Choice(T("View"), "idea.show", (number,)),
    )
    news = Lines(
        [
            T("The lab answers to #{number} “{title}”:", number=number, title=idea.title)
            if team
            else T("{author} on #{number} “{title}”:", author=turn.person.pseudonym, number=number, title=idea.title),
            Verbatim(text),
        ]
    )
    turn.notify(
        ideas.followers(turn.db, int(number), but=turn.person.id), news, Choice(T("View"), "idea.show", (number,))
    )


def too_much(text: str, most: int) -> Text:
    if text:
        return T("That is {n} characters, and {most} fit. Can you say it shorter?", n=len(text), most=most)
    return T("Please write 1 to {most} characters.", most=most)


@router.press("idea.comments")
def list_comments(turn: Turn, number: str, before: str = "") -> None:
    try:
        idea = ideas.visible(turn.db, int(number))
    except NotOpen:
        turn.toast(gone(number))
        return
    found = ideas.comments(turn.db, int(number), int(before) if before else None, PAGE + 1)
    lines: list[Text] = [T("Comments on #{number} “{title}”:", number=number, title=idea.title)]
    for comment, author in reversed(found[:PAGE]):
        said_by = T("the lab") if comment.team else Verbatim(author) if author else T("someone")
        lines.append(T("<b>{author}</b>, {date}: {text}", author=said_by, date=comment.at, text=comment.text))
    choices = [Choice(T("Comment"), "idea.comment", (number,)), Choice(T("View"), "idea.show", (number,))]
    if len(found) > PAGE:
        choices.insert(0, Choice(T("Older ones"), "idea.comments", (number, str(found[PAGE - 1][0].id))))
    turn.replace(Lines(lines, "\n\n"), *choices)


# -- the author's own ---------------------------------------------------------------------------------------


def is_own(turn: Turn, number: str) -> bool:
    """Whether this person may change the idea now; who may not is told."""
    try:
        ideas.own(turn.db, int(number), turn.person.id)
    except NotOpen:
        turn.toast(gone(number))
    except NotYours:
        turn.toast(T("Only its author can change #{number}.", number=number))
    else:
        return True
    return False


@router.press("idea.edit")
def ask_change(turn: Turn, number: str) -> None:
    if not is_own(turn, number):
        return
    turn.ask(
        T(
            "How shall #{number} read now? The first line is its title, what follows its text. "
            "You can also just edit your own message.",
            number=number,
        ),
        CANCEL,
        step="idea.change",
        data={"number": number},
    )


@router.step("idea.change")
def take_change(turn: Turn, text: str) -> None:
    number = str(turn.data["number"])
    title, rest = headline(text)
    if not title or len(rest) > LONGEST_TEXT:
        turn.ask(too_much(rest, LONGEST_TEXT), CANCEL, step="idea.change", data=turn.data)
        return
    turn.done()
    if not is_own(turn, number):
        return
    before = ideas.visible(turn.db, int(number)).text
    idea = ideas.change(turn.db, int(number), turn.person.id, title, rest or before)
    turn.say(T("#{number} is changed.", number=number), Choice(T("View"), "idea.show", (number,)))
    tell_team(turn, idea)


@router.edited
def edited(turn: Turn, text: str) -> bool:
    """Editing the message an idea was written in edits the idea, and the draft while it is one."""
    if turn.message is None:
        return False
    title, rest = headline(text)
    if turn.dialog is not None and turn.data.get("source") == turn.message.id and title:
        if turn.dialog.step == "idea.offer":
            offer(turn, [text, *turn.data["said"][1:]], turn.message.id)
        else:
            go_on(turn, {**turn.data, "title": title}, rest)
        return True
    idea = ideas.from_message(turn.db, turn.chat.id, turn.message.id)
    if idea is None or idea.author_id != turn.person.id or idea.status not in ideas.OPEN:
        return False
    if not title or len(rest) > LONGEST_TEXT:
        turn.say(too_much(rest, LONGEST_TEXT))
        return True
    number = _number(idea)
    if (title, rest or idea.text) != (idea.title, idea.text):
        changed = ideas.change(turn.db, number, turn.person.id, title, rest or idea.text)
        turn.say(T("#{number} is changed.", number=str(number)), Choice(T("View"), "idea.show", (str(number),)))
        tell_team(turn, changed)
    return True


@router.retracted
def retracted(turn: Turn) -> bool:
    """Taking back the message an idea was written in withdraws the idea, or drops the draft."""
    if turn.message is None:
        return False
    if turn.data.get("source") == turn.message.id:
        cancel(turn)
        return True
    idea = ideas.from_message(turn.db, turn.chat.id, turn.message.id)
    if idea is None or idea.author_id != turn.person.id or idea.status not in ideas.OPEN:
        return False
    withdraw_confirmed(turn, str(idea.id))
    return True


@router.press("idea.withdraw")
def withdraw(turn: Turn, number: str) -> None:
    if not is_own(turn, number):
        return
    turn.replace(
        T("Shall #{number} really be withdrawn? Nobody will see it any more.", number=number),
        Choice(T("Yes, withdraw"), "idea.withdraw_confirmed", (number,)),
        Choice(T("No, it stays"), "idea.stays", (number,)),
    )


@router.press("idea.stays")
def stays(turn: Turn, number: str) -> None:
    try:
        turn.replace(card_for(turn, number))
    except NotOpen:
        turn.toast(gone(number))


@router.press("idea.withdraw_confirmed")
def withdraw_confirmed(turn: Turn, number: str) -> None:
    if not is_own(turn, number):
        return
    idea = ideas.withdraw(turn.db, int(number), turn.person.id)
    turn.replace(T("#{number} is withdrawn.", number=number), *menu())
    tell_team(turn, idea)


# -- the team -----------------------------------------------------------------------------------------------


def team_card(turn: Turn, card: Card) -> Message:
    """An idea as the team's room sees it, with what the team can do."""
    number = str(card.idea.id)
    choices: tuple[Choice, ...] = ()
    if card.idea.status != Status.WITHDRAWN:
        choices = (Choice(T("Answer"), "idea.answer", (number,)), *decisions(card.idea))
    return Message(body(turn, card), choices, subject=f"idea:{number}")


def decisions(idea: Idea) -> list[Choice]:
    labels = {
        Status.TAKEN_UP: T("Take it up"),
        Status.DONE: T("It is done"),
        Status.DECLINED: T("Decline"),
        Status.HIDDEN: T("Hide"),
        Status.NEW: T("Back to new"),
    }
    return [
        Choice(label, "idea.decide", (str(idea.id), status))
        for status, label in labels.items()
        if status != idea.status
    ]


@router.press("idea.decide")
def decide(turn: Turn, number: str, status: str) -> None:
    if not turn.may(Role.MODERATOR):
        turn.toast(T("Only the lab's organisers can do that."))
        return
    try:
        idea, changed = ideas.decide(turn.db, int(number), Status(status))
    except NotOpen:
        turn.toast(gone(number))
        return
    turn.toast(T("#{number}: {status}", number=number, status=STATUSES[status]))
    tell_team(turn, idea)
    if turn.chat.private:
        if status == Status.HIDDEN:
            turn.replace(T("#{number}: {status}", number=number, status=STATUSES[status]))
        else:
            turn.replace(card_for(turn, number))
    if not changed:
        return  # two of the team had the same thought; the followers hear of it once
    if status == Status.HIDDEN:
        if idea.author_id not in (None, turn.person.id):
            turn.notify(
                [idea.author_id],
                T("The lab's team has hidden your idea #{number} “{title}”.", number=number, title=idea.title),
            )
    elif status != Status.NEW:
        news = T("News of #{number} “{title}”: {status}", number=number, title=idea.title, status=STATUSES[status])
        followers = ideas.followers(turn.db, int(number), but=turn.person.id)
        turn.notify(followers, news, Choice(T("View"), "idea.show", (number,)))


def tell_team(turn: Turn, idea: Idea) -> None:
    """Keep the cards in the team's rooms true."""
    message = team_card(turn, ideas.signed(turn.db, idea))
    for room in conversation.team_chats(turn.connection):
        turn.edit_copies(f"idea:{idea.id}", room, message)


def author_has_left(turn: Turn, number: str) -> None:
    """The cards in the team's rooms say no more of an author, or of an idea, that has been erased."""
    idea = turn.db.get(Idea, int(number))
    if idea is not None:
        tell_team(turn, idea)
        return
    for room in conversation.team_chats(turn.connection):
        turn.edit_copies(f"idea:{number}", room, T("#{number} is withdrawn.", number=number))
