"""An idea in words: its card, its states, and the cards in the team's rooms."""

from bot.turn import Turn
from bot.types import Choice, Lines, Message, N, T, Text, Verbatim
from storage import chats, ideas
from storage.ideas import Card, Idea, Status
from storage.people import handle_of

STATUSES: dict[str, Text] = {
    Status.NEW: T("new"),
    Status.TAKEN_UP: T("taken up"),
    Status.DONE: T("done"),
    Status.DECLINED: T("declined"),
    Status.HIDDEN: T("hidden"),
    Status.WITHDRAWN: T("withdrawn"),
}

CANCEL = Choice(T("Cancel"), "cancel")


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
    return T("There is no idea #{number}, or it was withdrawn.", number=number[:20])


def number_of(idea: Idea) -> int:
    assert idea.id is not None
    return idea.id


def is_the_labs(turn: Turn, name: str) -> bool:
    """Whether nobody but the lab may be called so: what is signed with it would pass for the lab's own word."""
    reserved = [turn.lab.name] + [
        words.plain(text) for words in turn.lab.catalogues.values() for text in (T("the lab"), T("the lab's team"))
    ]
    return handle_of(name) in {handle_of(words) for words in reserved}


def meeting(idea: Idea) -> Choice:
    """To meet about an idea."""
    return Choice(T("Make an event of it"), "event.from_idea", (str(idea.id),))


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


def team_card(turn: Turn, card: Card) -> Message:
    """An idea as the team's room sees it, with what the team can do; of a withdrawn one only that it was."""
    number = str(card.idea.id)
    subject = f"idea:{number}"
    if card.idea.status == Status.WITHDRAWN:
        return Message(T("#{number} is withdrawn.", number=number), subject=subject)
    choices = (Choice(T("Answer"), "idea.answer", (number,)), *decisions(card.idea), meeting(card.idea))
    return Message(body(turn, card), choices, subject=subject)


def tell_team(turn: Turn, idea: Idea) -> None:
    """Keep the cards in the team's rooms true."""
    message = team_card(turn, ideas.signed(turn.db, idea))
    for room in chats.team_chats(turn.connection):
        turn.edit_copies(f"idea:{idea.id}", room, message)


def author_has_left(turn: Turn, number: str) -> None:
    """The cards in the team's rooms say no more of an author, or of an idea, that has been erased."""
    idea = turn.db.get(Idea, int(number))
    if idea is not None:
        tell_team(turn, idea)
        return
    for room in chats.team_chats(turn.connection):
        turn.edit_copies(f"idea:{number}", room, T("#{number} is withdrawn.", number=number))


def too_much(text: str, most: int) -> Text:
    if text:
        return T("That is {n} characters, and {most} fit. Can you say it shorter?", n=len(text), most=most)
    return T("Please write 1 to {most} characters.", most=most)
