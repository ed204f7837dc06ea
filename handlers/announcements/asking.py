"""A reply to an announcement is a question to the team, and a reply of the team's is its answer."""

from collections.abc import Sequence

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Formatted, Lines, Message, T, Text, Verbatim
from handlers.announcements.words import CANCEL
from storage import chats
from storage.announcements import asking, ledger, writing
from storage.announcements.asking import LONGEST_QUESTION, Question
from storage.announcements.writing import Announcement, NotThere
from storage.people import Person, Role

router = Router()

LONGEST_BEGINNING = 40
"""Of an announcement that is to be chosen, in characters."""


@router.reply("announcement")
def ask(turn: Turn, text: str, number: str) -> None:
    """Somebody answers an announcement in their private chat; what people say to each other in a room is theirs."""
    if not turn.chat.private:
        return
    try:
        announcement = writing.find(turn.db, number)
    except NotThere:
        return
    if not text:
        turn.say(T("I can pass on words only. Please write your question."))
    elif len(text) > LONGEST_QUESTION:
        turn.say(
            T("That is {n} characters, and {most} fit. Can you say it shorter?", n=len(text), most=LONGEST_QUESTION)
        )
    else:
        pass_on(turn, asking.ask(turn.db, announcement.number, turn.person.id, text, turn.now))


@router.reply("digest")
def ask_about(turn: Turn, text: str, began_with: str) -> None:
    """Somebody answers a digest: which of the announcements that stand there, or have stood, has to be asked."""
    if not turn.chat.private or turn.shown is None:
        return
    standing = ledger.gathered(turn.db, [turn.shown.id])[turn.shown.id] or [int(one) for one in began_with.split(",")]
    if len(standing) == 1:
        ask(turn, text, str(standing[0]))
    else:
        ask_which(turn, text, standing)


def ask_which(turn: Turn, text: str, numbers: Sequence[int]) -> None:
    """Which announcement is a question about?"""
    turn.ask(
        T("Which of them is your question about? I pass it on to the lab's team."),
        *(Choice(Verbatim(begins(turn, number)), "question.about", (str(number),)) for number in numbers),
        CANCEL,
        step="question.about",
        data={"text": text, "numbers": list(numbers)},
    )


def begins(turn: Turn, number: int) -> str:
    """How an announcement begins, in the language of this chat."""
    announcement = turn.db.get_one(Announcement, number)
    wordings = writing.wordings(turn.db, number)
    words = turn.words.plain(Formatted((wordings.get(turn.chat.locale) or wordings[announcement.locale]).html))
    line = words.strip().partition("\n")[0]
    return line if len(line) <= LONGEST_BEGINNING else f"{line[:LONGEST_BEGINNING].rstrip()}…"


@router.step("question.about")
def ask_again(turn: Turn, _text: str) -> None:
    ask_which(turn, turn.data["text"], turn.data["numbers"])


@router.press("question.about")
def about(turn: Turn, number: str) -> None:
    if turn.dialog is None or turn.dialog.step != "question.about":
        turn.toast(T("This question is answered already."))
        return
    text = turn.data["text"]
    turn.done()
    ask(turn, text, number)


@router.press("question.offered")
def offered(turn: Turn, number: str) -> None:
    """A sentence that could have become an idea is a question about the newest announcement."""
    if turn.dialog is None or turn.dialog.step != "idea.offer":
        turn.toast(T("This question is answered already."))
        return
    text = "\n".join(turn.data["said"])
    turn.done()
    ask(turn, text, number)


def pass_on(turn: Turn, question: Question) -> None:
    """Bring a question to the team, and tell who asked it."""
    rooms = chats.team_chats(turn.connection)
    if not rooms:  # whoever wrote the announcement is the team, then
        author = writing.find(turn.db, question.announcement_id).author_id
        rooms = [
            chat
            for chat, _ in chats.private_chats(turn.connection, [] if author is None else [author], turn.lab.limits)
        ]
    if not rooms:
        turn.say(T("Nobody of the lab's team can be reached at the moment. Please ask again later."))
        return
    for chat in rooms:
        turn.tell(chat, card(turn, question))
    person = turn.db.get_one(Person, question.person_id)
    sign = []
    if person.name:
        sign = [Choice(T("Tell them my name, {name}", name=person.name), "question.sign", (str(question.number),))]
    turn.say(
        T(
            "I have passed your question on to the lab's team, under your pseudonym “{name}”. The answer comes here.",
            name=person.pseudonym,
        ),
        *sign,
    )


def card(turn: Turn, question: Question) -> Message:
    """A question as the team sees it."""
    person = turn.db.get_one(Person, question.person_id)
    name = person.name if question.named and person.name else person.pseudonym
    parts: list[Text] = [
        T(
            "Question {question} on announcement {number}, by {name}:",
            question=str(question.number),
            number=str(question.announcement_id),
            name=name,
        ),
        Verbatim(question.text),
    ]
    if question.answers:
        parts.append(T("It is answered."))
    parts.append(T("To answer, reply to this message."))
    return Message(Lines(parts, "\n\n"), subject=f"question:{question.number}")


@router.press("question.sign")
def sign(turn: Turn, number: str) -> None:
    question = asking.find(turn.db, number)
    if question is None or question.person_id != turn.person.id:
        turn.toast(T("This button is out of date. Write /help for the menu."))
        return
    question.named = True
    turn.db.add(question)
    turn.db.flush()
    keep_cards_true(turn, question)
    turn.replace(T("The team reads your name now."))


def keep_cards_true(turn: Turn, question: Question) -> None:
    """The cards in the team's rooms show a question as it is now."""
    for room in chats.team_chats(turn.connection):
        turn.edit_copies(f"question:{question.number}", room, card(turn, question))


@router.reply("question")
def answer(turn: Turn, text: str, number: str) -> None:
    """The team answers; or who asked goes on asking."""
    question = asking.find(turn.db, number)
    if question is None:
        turn.say(T("Whoever asked this has left."))
        return
    if turn.person.id == question.person_id and turn.chat.private:
        ask(turn, text, str(question.announcement_id))
        return
    if not turn.may(Role.MODERATOR):
        turn.say(T("Only the lab's organisers can do that."))
        return
    if not text or len(text) > LONGEST_QUESTION:
        turn.say(T("Please write 1 to {most} characters.", most=LONGEST_QUESTION))
        return
    chat = chats.home(turn.connection, question.person_id, turn.lab.limits)
    if chat is None:
        turn.say(T("Whoever asked this cannot be reached any more."))
        return
    asking.answered(turn.db, question)
    said = Lines([T("The lab answers your question:"), Verbatim(text)], "\n\n")
    turn.tell(chat, Message(said, subject=f"question:{number}"))
    keep_cards_true(turn, question)
    turn.say(T("Your answer is on its way."))
