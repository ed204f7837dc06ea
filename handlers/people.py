"""People: the welcome, the privacy notice, language, roles, and what is stored about somebody."""

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_
from sqlmodel import Session, SQLModel, col, select, update

from bot.router import Router
from bot.turn import Turn, Where
from bot.types import Attachment, Choice, Lines, Message, Pressed, Said, T, Text, Verbatim
from handlers.events.finding import about
from handlers.help import menu
from handlers.ideas.showing import show
from handlers.ideas.words import author_has_left, is_the_labs
from handlers.polls.drafting import begin as begin_poll
from handlers.polls.finding import show_one as show_poll
from handlers.polls.opening import open_link
from handlers.polls.words import GROUPS
from storage import erasure, outbox, people
from storage.announcements import ledger
from storage.announcements.asking import Question
from storage.announcements.ledger import Delivery
from storage.announcements.subscribing import QuietHours, Subscription
from storage.announcements.writing import Announcement
from storage.chats import Chat
from storage.conversation import Dialog, Failed
from storage.events.tables import Attendee, Event, Reminder, Rsvp
from storage.ideas import Comment, Follow, Idea, Support
from storage.linking import Link
from storage.outbox import Outbox
from storage.people import Account, Attempt, Group, NameTaken, NameUnfit, Person, Role
from storage.polls import asking
from storage.polls.tables import Ballot, Elector, Poll, PollAnswer, PollPlace, Proposal
from storage.reactions import Reaction
from storage.rooms import Hearing

router = Router()

NOTICE_VERSION = 2
"""Counts up when the notice changes; everybody is then shown the new one."""

NOTICE = T(
    "Privacy: I keep the number of your account and what you send me, under a pseudonym, until you erase it; "
    "also which events you come to. Never your name or handle. With /me you see and erase everything at any time."
)

ROLES: dict[Role, Text] = {
    Role.PARTICIPANT: T("participant"),
    Role.MODERATOR: T("moderator"),
    Role.ORGANISER: T("organiser"),
    Role.LEAD: T("lab lead"),
}

CANCEL = Choice(T("Cancel"), "cancel")


@router.notice
def notice(turn: Turn) -> None:
    """Tell what is stored, once per version, before anything beyond the account's number is stored."""
    if turn.person.notice >= NOTICE_VERSION:
        return
    if isinstance(turn.update, Pressed) and not (turn.chat.private or turn.whispers):
        return  # nobody would see it: it comes with their first word, or in private
    people.has_seen_notice(turn.connection, turn.person.id, NOTICE_VERSION)
    if isinstance(turn.update, Pressed):
        turn.toast(T("I keep your account's number and your choice, under a pseudonym. More: /privacy"))
    elif not (isinstance(turn.update, Said) and turn.update.command == "start"):
        turn.say(NOTICE)


@router.command("start", help=T("Welcome, and the menu"))
def start(turn: Turn, payload: str) -> None:
    if turn.person.notice < NOTICE_VERSION:
        people.has_seen_notice(turn.connection, turn.person.id, NOTICE_VERSION)
        if not turn.chat.private or payload:
            turn.say(NOTICE)
    if not turn.chat.private:
        turn.say(T("Hello! Write /idea to suggest something, or /ideas to see what others suggest."))
        return
    if payload.startswith("idea-"):
        show(turn, payload.removeprefix("idea-"))
        return
    if payload == "poll":
        begin_poll(turn, "")
        return
    if (poll := re.fullmatch(r"poll-(\d{1,9})", payload)) is not None:
        show_poll(turn, poll[1])
        return
    if payload.startswith("poll_"):
        open_link(turn, payload)
        return
    if (event := re.fullmatch(r"event-(\d{1,9})(?:-(\d{6}))?", payload)) is not None:
        about(turn, event[1], event[2] or "")
        return
    command = turn.lab.commands.get(payload)
    if command is not None and command.where is Where.PRIVATE and turn.may(command.role):
        command.handler(turn, "")  # they come from a group where this command does not work
        return
    if turn.person.stopped:
        turn.db.execute(update(Person).where(col(Person.id) == turn.person.id).values(stopped_at=None))
    welcome = T(
        "Hello! I am the bot of {lab}. Here you can say what your town needs, and see and support what others say. "
        "You appear as “{pseudonym}”.",
        lab=turn.lab.name,
        pseudonym=turn.person.pseudonym,
    )
    hint = T("Sometimes the lab writes to everybody. /stop turns that off.")
    turn.say(Lines([welcome, NOTICE, hint], "\n\n"), *menu())


@router.command("privacy", help=T("What I keep about you, and for how long"))
def privacy(turn: Turn, _text: str) -> None:
    turn.say(
        Lines(
            [
                NOTICE,
                T(
                    "Your messages to me are kept only where they become something that others see, or a vote. What I "
                    "write to you is forgotten once it is delivered; its buttons work for a year. What I could not "
                    "handle is kept for 30 days so that somebody can look at it. An unanswered question is dropped "
                    "after 30 days."
                ),
                T(
                    "Of polls I keep what you ask and suggest, which ones you have opened, and your votes: in an open "
                    "poll everybody sees them under your pseudonym, in one for the team's eyes only the team. A secret "
                    "vote lies apart, and from the close on nothing leads from it to you."
                ),
                T(
                    "Of events I keep what you have answered, how many you bring and the names you write for them, "
                    "when you arrived, and what you say afterwards. The organisers see it under your pseudonym, what "
                    "you say afterwards without it; others see numbers. A group's reminder names you only if you want "
                    "it."
                ),
                T(
                    "If you link accounts with /link, I keep that they are one person: each sees and erases everything "
                    "of both. /me shows and unlinks them."
                ),
                T("/stop: I no longer write to you on my own. /me: see, export or erase everything."),
            ],
            "\n\n",
        )
    )


# -- language -----------------------------------------------------------------------------------------------


@router.command("language", help=T("Choose the language"))
def language(turn: Turn, words: str) -> None:
    if not words:
        list_languages(turn)
        return
    locale = turn.lab.catalogues.meant(words)
    if locale is None:
        turn.say(T("I do not speak “{words}” yet. Choose one of these:", words=words[:40]), *_languages(turn))
    else:
        choose_language(turn, locale)


@router.press("language.list")
def list_languages(turn: Turn) -> None:
    turn.say(T("Which language shall I speak here?"), *_languages(turn))


def _languages(turn: Turn) -> list[Choice]:
    catalogues = turn.lab.catalogues
    return [Choice(Verbatim(catalogues[tag].name), "language.choose", (tag,)) for tag in sorted(catalogues)]


@router.press("language.choose")
def choose_language(turn: Turn, locale: str) -> None:
    if not turn.chat.private and not turn.may_set_up(Role.MODERATOR):
        turn.toast(T("Only the lab's organisers can change a group's language."))
        return
    if locale not in turn.lab.catalogues:
        turn.toast(T("I do not speak that language any more."))
        return
    turn.db.execute(update(Chat).where(col(Chat.id) == turn.chat.id).values(locale=locale))
    if turn.chat.private:
        turn.db.execute(update(Person).where(col(Person.id) == turn.person.id).values(locale=locale))
    turn.chat.locale = locale
    turn.replace(T("From now on I speak English here."), *(menu() if turn.chat.private else ()))


# -- roles --------------------------------------------------------------------------------------------------


@router.command("claim", help=T("Become an organiser with a code"), where=Where.PRIVATE)
def claim(turn: Turn, code: str) -> None:
    if not code:
        turn.ask(T("Which code did you get?"), CANCEL, step="claim.code")
        return
    account = turn.db.get_one(Chat, turn.chat.id).account_id
    role = people.claim(turn.db, turn.person.id, code, turn.now, account)
    if role is None:
        wrong = T("This code does not work: it is wrong, used or too old. After five wrong codes, wait an hour.")
        if turn.dialog is not None and turn.dialog.step == "claim.code":
            turn.ask(wrong, CANCEL, step="claim.code")
        else:
            turn.say(wrong)
    else:
        turn.done()
        turn.say(T("Welcome to the team! You are {role} now. /help shows what is new for you.", role=ROLES[role]))


@router.step("claim.code")
def claim_code(turn: Turn, code: str) -> None:
    claim(turn, code or "-")


# -- leaving ------------------------------------------------------------------------------------------------


@router.command("stop", help=T("I no longer write to you on my own"))
def stop(turn: Turn, _text: str) -> None:
    turn.db.execute(update(Person).where(col(Person.id) == turn.person.id).values(stopped_at=turn.now))
    ledger.let_go(turn.db, turn.person.id)
    outbox.take_back_news(turn.connection, erasure.private_chats(turn.person.id))
    turn.done()
    turn.say(
        T(
            "Done: I only answer you from now on, and no longer write on my own. /start turns it on again, "
            "/me erases everything."
        )
    )


# -- what is stored about me --------------------------------------------------------------------------------


@router.command("me", help=T("What is stored about you; change or erase it"), where=Where.PRIVATE)
def me(turn: Turn, _text: str) -> None:
    show_me(turn)


@router.press("me.show")
def show_me(turn: Turn) -> None:
    person = turn.db.get_one(Person, turn.person.id)
    accounts = people.accounts(turn.db, turn.person.id)
    facts = [
        T("Others see you as “{pseudonym}”.", pseudonym=person.pseudonym),
        T("Name you sign with: {name}", name=person.name) if person.name else T("You have told me no name."),
        T("Role: {role}", role=ROLES[Role(person.role)]),
        T("You speak for: {group}", group=GROUPS[Group(person.group)])
        if person.group
        else T("You have not said whom you speak for."),
        done_by(turn, turn.person.id),
        polls_of(turn, turn.person.id),
        T("Accounts: {messengers}.", messengers=messengers(account.adapter for account in accounts)),
        T("With us since {date}.", date=person.created_at.date()),
    ]
    unname = [Choice(T("Forget my name"), "me.unname")] if person.name else []
    turn.replace(
        Lines(facts),
        Choice(T("Choose a pseudonym"), "me.rename"),
        Choice(T("Another invented one"), "me.invent"),
        Choice(T("Say whom I speak for"), "me.groups"),
        *unname,
        Choice(T("Link another account"), "link.start"),
        *([Choice(T("Unlink an account"), "link.accounts")] if len(accounts) > 1 else []),
        Choice(T("Export as a file"), "me.export"),
        Choice(T("Erase everything"), "me.leave"),
    )


def done_by(turn: Turn, person: int) -> Text:
    """How much there is of a person, in a line."""
    ideas, supports, comments, follows = (
        turn.db.exec(select(func.count()).where(column == person)).one()
        for column in (col(Idea.author_id), col(Support.person_id), col(Comment.author_id), col(Follow.person_id))
    )
    return T(
        "Ideas: {ideas}. Supported: {supports}. Comments: {comments}. Followed: {follows}.",
        ideas=ideas,
        supports=supports,
        comments=comments,
        follows=follows,
    )


def polls_of(turn: Turn, person: int) -> Text:
    """What a person has asked, and where they have voted, in a line; of secret votes nobody knows."""
    asked, votes = (
        turn.db.exec(select(func.count()).where(column == person)).one()
        for column in (col(Poll.author_id), col(Ballot.person_id))
    )
    return T("Polls asked: {polls}. Votes that bear your name: {votes}.", polls=asked, votes=votes)


def messengers(adapters: Iterable[str]) -> str:
    """The messengers of some accounts, as they are called."""
    return ", ".join(adapter.capitalize() for adapter in adapters)


@router.press("me.rename")
def ask_pseudonym(turn: Turn) -> None:
    turn.ask(T("Under which pseudonym shall others see you?"), CANCEL, step="me.pseudonym")


@router.step("me.pseudonym")
def rename(turn: Turn, words: str) -> None:
    try:
        if is_the_labs(turn, words):
            raise NameTaken(words)
        pseudonym = people.rename(turn.db, turn.person.id, words)
    except NameUnfit:
        turn.ask(T("Please use 1 to 40 characters, with letters."), CANCEL, step="me.pseudonym")
    except NameTaken:
        turn.ask(T("Somebody else has that one already. Which other one?"), CANCEL, step="me.pseudonym")
    else:
        turn.done()
        _show_name(turn)
        turn.say(T("Others see you as “{pseudonym}” now.", pseudonym=pseudonym), *menu())


@router.press("me.invent")
def invent(turn: Turn) -> None:
    people.renew_pseudonym(turn.db, turn.person.id)
    _show_name(turn)
    show_me(turn)


def _show_name(turn: Turn) -> None:
    """Where others still vote, they read the new name."""
    asking.show_name(turn.connection, turn.person.id)
    turn.due(turn.now)


@router.press("me.unname")
def forget_name(turn: Turn) -> None:
    person = turn.db.get_one(Person, turn.person.id)
    person.name = None
    turn.db.add(person)
    turn.db.flush()
    show_me(turn)


@router.press("me.groups")
def list_groups(turn: Turn) -> None:
    choices = [Choice(label, "me.group", (group.value,)) for group, label in GROUPS.items()]
    turn.replace(
        T("Whom do you speak for? You need not say."), *choices, Choice(T("I would rather not say"), "me.group", ("",))
    )


@router.press("me.group")
def choose_group(turn: Turn, group: str) -> None:
    person = turn.db.get_one(Person, turn.person.id)
    person.group = group or None
    turn.db.add(person)
    turn.db.flush()
    show_me(turn)


@router.press("me.export")
def export(turn: Turn) -> None:
    file = Attachment("labbot.json", "application/json", "people.export", (str(turn.chat.id),))
    turn.say(Message(T("This is everything that is stored about you."), attachment=file))


@router.maker("people.export")
def make_export(session: Session, chat_id: str) -> bytes:
    """All rows about the person whose private chat this is, as JSON, by table."""
    owner = select(Account.person_id).join(Chat, col(Chat.account_id) == col(Account.id))
    person = session.exec(owner.where(Chat.id == int(chat_id))).one()
    found = {
        table: [row.model_dump() for row in session.exec(select(model).where(whose(person))).all()]
        for table, (model, whose) in EXPORTED.items()
    }
    return json.dumps(found, ensure_ascii=False, indent=2, default=_plain).encode()


EXPORTED: dict[str, tuple[type[SQLModel], Callable[[int], Any]]] = {
    "person": (Person, lambda person: col(Person.id) == person),
    "account": (Account, lambda person: col(Account.person_id) == person),
    "chat": (Chat, lambda person: col(Chat.id).in_(erasure.private_chats(person))),
    "idea": (Idea, lambda person: col(Idea.author_id) == person),
    "support": (Support, lambda person: col(Support.person_id) == person),
    "follow": (Follow, lambda person: col(Follow.person_id) == person),
    "comment": (Comment, lambda person: col(Comment.author_id) == person),
    "poll": (Poll, lambda person: col(Poll.author_id) == person),
    "poll_place": (PollPlace, lambda person: col(PollPlace.chat_id).in_(erasure.private_chats(person))),
    "ballot": (Ballot, lambda person: col(Ballot.person_id) == person),
    "poll_answer": (PollAnswer, lambda person: col(PollAnswer.person_id) == person),
    "elector": (Elector, lambda person: col(Elector.person_id) == person),
    "proposal": (Proposal, lambda person: col(Proposal.person_id) == person),
    "rsvp": (Rsvp, lambda person: col(Rsvp.person_id) == person),
    "reminder": (Reminder, lambda person: col(Reminder.person_id) == person),
    "attendee": (Attendee, lambda person: col(Attendee.person_id) == person),
    "event": (Event, lambda person: col(Event.author_id) == person),
    "dialog": (Dialog, lambda person: col(Dialog.person_id) == person),
    "link": (Link, lambda person: or_(col(Link.person_id) == person, col(Link.other_id) == person)),
    "announcement": (
        Announcement,
        lambda person: or_(col(Announcement.author_id) == person, col(Announcement.second_id) == person),
    ),
    "delivery": (Delivery, lambda person: col(Delivery.person_id) == person),
    "subscription": (Subscription, lambda person: col(Subscription.person_id) == person),
    "quiet_hours": (QuietHours, lambda person: col(QuietHours.person_id) == person),
    "hearing": (Hearing, lambda person: col(Hearing.chat_id).in_(erasure.private_chats(person))),
    "question": (Question, lambda person: col(Question.person_id) == person),
    "attempt": (Attempt, lambda person: col(Attempt.person_id) == person),
    "reaction": (Reaction, lambda person: col(Reaction.person_id) == person),
    "failed": (Failed, lambda person: col(Failed.person_id) == person),
    "outbox": (Outbox, erasure.messages_to),
}
"""The rows of each table that are about a person."""


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


@router.press("me.leave")
def ask_to_leave(turn: Turn) -> None:
    accounts = people.accounts(turn.db, turn.person.id)
    everywhere = T("That goes for all your accounts: {messengers}.", messengers=messengers(a.adapter for a in accounts))
    question = T(
        "This erases everything about you, at once and for good. What shall become of your ideas and comments?"
    )
    turn.replace(
        Lines([everywhere, question], "\n\n") if len(accounts) > 1 else question,
        Choice(T("They stay, without my name"), "me.erase", ("keep",)),
        Choice(T("They go, too"), "me.erase", ("all",)),
        Choice(T("I would rather stay"), "me.show"),
    )


@router.press("me.erase")
def erase(turn: Turn, what: str) -> None:
    if not people.hold(turn.db, turn.person.id):  # nothing of theirs may come while they go, nor go elsewhere
        turn.toast(T("Your accounts have just been linked. Please look at /me once more."))
        return
    theirs = turn.db.exec(select(Idea).where(Idea.author_id == turn.person.id)).all()
    numbers = [str(idea.id) for idea in theirs]
    chats = turn.db.execute(erasure.private_chats(turn.person.id)).scalars().all()
    erasure.erase(turn.db, turn.person.id, keep_ideas=what == "keep")
    for number in numbers:
        author_has_left(turn, number)
    turn.dialog = None
    turn.due(turn.now)  # polls they have voted in show it at once
    goodbye = T("Everything about you is erased. Thank you for having been here. /start begins anew.")
    turn.say(goodbye)
    for chat in chats:  # on every messenger, since it ends there too
        if chat != turn.chat.id:
            turn.tell(chat, goodbye)
