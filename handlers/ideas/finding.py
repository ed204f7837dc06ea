"""Finding ideas: by newness, support, topic and words."""

import re

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, T, Text
from handlers.ideas.showing import show
from handlers.ideas.words import CANCEL, topic_of
from storage import ideas
from storage.ideas import Order

router = Router()

PAGE = 5
"""How many ideas or comments a list shows at once."""


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
