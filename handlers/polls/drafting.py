"""A poll that is not asked yet: question, options, kind, secrecy, and a preview."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from bot.router import Router
from bot.turn import Turn
from bot.types import Choice, Lines, N, T, Text, Verbatim
from handlers.polls import reading
from handlers.polls.reading import Unclear
from handlers.polls.words import (
    AUDIENCES,
    CANCEL,
    FEW,
    GROUPS,
    KINDS,
    SECRECIES,
    SECRECY,
    SHOWN,
    explained,
    until,
)
from storage import rooms
from storage.people import Group
from storage.polls.asking import Draft
from storage.polls.counting import Kind
from storage.polls.tables import (
    LONGEST_OPTION,
    LONGEST_QUESTION,
    MOST_OPTIONS,
    Audience,
    Results,
    Secrecy,
)

router = Router()

STEPS = ("poll.question", "poll.options", "poll.preview", "poll.most", "poll.quorum", "poll.closes")
"""The steps of a poll that is not asked yet."""

DOTS = 5
"""How many dots somebody has who is asked to give them out, unless the author says otherwise."""

CONSENT: tuple[Text, ...] = (T("I agree"), T("I stand aside"), T("I object"))

TEMPLATES: Mapping[str, tuple[Text, ...]] = {
    "yes": (T("Yes"), T("No")),
    "abstain": (T("Yes"), T("No"), T("I abstain")),
    "agreement": (T("Not at all"), T("Rather not"), T("Partly"), T("Rather yes"), T("Fully")),
}
"""Options that are often needed."""


def trouble(unclear: Unclear) -> Text:
    """What is in the way of a poll, and how it would work."""
    match unclear.why:
        case "no question":
            return T("A poll needs a question in words: /poll Which evening? | Tue | Wed")
        case "long question":
            return T("The question is too long: {most} characters fit.", most=LONGEST_QUESTION)
        case "too few":
            return T("A poll needs two options or more, each on a line of its own or after a |.")
        case "too many":
            return T("These are {n} options, and {most} fit.", n=int(unclear.words), most=MOST_OPTIONS)
        case "long option":
            return T("“{option}” is too long: {most} characters fit.", option=unclear.words, most=LONGEST_OPTION)
    return T("“{option}” is there twice.", option=unclear.words)


def begin(turn: Turn, text: str) -> None:
    """A poll from what somebody has written; whatever is there is not asked again."""
    question, *options = reading.parts(text) or [""]
    if not question:
        ask_question(turn, {})
        return
    try:
        draft: dict[str, Any] = {"question": reading.check_question(question)}
        if options:
            draft["options"] = list(reading.check_options(options))
    except Unclear as unclear:
        turn.ask(trouble(unclear), CANCEL, step="poll.question", data={})
        return
    go_on(turn, draft)


def go_on(turn: Turn, draft: dict[str, Any]) -> None:
    """Ask for what is missing yet, else show the preview."""
    if not draft.get("question"):
        ask_question(turn, draft)
    elif not draft.get("options"):
        ask_options(turn, draft)
    elif not draft.get("kind"):
        ask_kind(turn, draft)
    elif not draft.get("secrecy"):
        ask_secrecy(turn, draft)
    else:
        preview(turn, draft)


def ask_question(turn: Turn, draft: dict[str, Any]) -> None:
    turn.ask(T("What would you like to ask?"), CANCEL, step="poll.question", data={**draft, "question": ""})


@router.step("poll.question")
def take_question(turn: Turn, text: str) -> None:
    draft = dict(turn.data)
    try:
        question, *options = reading.parts(text) or [""]
        draft["question"] = reading.check_question(question)
        if options and not draft.get("options"):
            draft["options"] = list(reading.check_options(options))
    except Unclear as unclear:
        turn.ask(trouble(unclear), CANCEL, step="poll.question", data=turn.data)
        return
    go_on(turn, draft)


def ask_options(turn: Turn, draft: dict[str, Any], why: Text | None = None) -> None:
    if draft.get("kind") == Kind.DATES:
        asked = T("Which dates? Write each on a line of its own, for example: Tue 8 Dec, 18:00")
        data = {**draft, "options": []}
        turn.ask(asked if why is None else Lines([why, asked], "\n\n"), CANCEL, step="poll.options", data=data)
        return
    asked = T("Which options are there? Write each on a line of its own, or take some that are often used.")
    labels = {name: Verbatim(" / ".join(turn.words.plain(option) for option in TEMPLATES[name])) for name in TEMPLATES}
    turn.ask(
        asked if why is None else Lines([why, asked], "\n\n"),
        *(Choice(label, "poll.template", (name,)) for name, label in labels.items()),
        Choice(T("Dates"), "poll.template", ("dates",)),
        Choice(KINDS[Kind.CONSENT], "poll.template", ("consent",)),
        CANCEL,
        step="poll.options",
        data={**draft, "options": []},
    )


@router.step("poll.options")
def take_options(turn: Turn, text: str) -> None:
    try:
        options = reading.check_options(reading.parts(text))
    except Unclear as unclear:
        ask_options(turn, dict(turn.data), trouble(unclear))
        return
    go_on(turn, with_options(turn.data, options))


def with_options(draft: Mapping[str, Any], options: tuple[str, ...]) -> dict[str, Any]:
    """New options; how many of them may be chosen is no more than there are."""
    changed = {**draft, "options": list(options)}
    if changed.get("kind") == Kind.SEVERAL:
        changed["most"] = min(changed.get("most", len(options)), len(options))
    return changed


@router.press("poll.template")
def take_template(turn: Turn, name: str) -> None:
    if not in_draft(turn):
        return
    if name == "dates":
        ask_options(turn, {**turn.data, "kind": Kind.DATES})
    elif name == "consent":
        go_on(turn, with_kind(turn, turn.data, Kind.CONSENT))
    else:
        options = tuple(turn.words.plain(words) for words in TEMPLATES[name])
        go_on(turn, with_options({**turn.data, "kind": Kind.SINGLE}, options))


def ask_kind(turn: Turn, draft: dict[str, Any]) -> None:
    choices = [Choice(label, "poll.kind", (kind,)) for kind, label in KINDS.items()]
    most = len(draft["options"])
    lines: list[Text] = [
        T("{kind}: {explanation}", kind=label, explanation=explained(kind, DOTS if kind is Kind.DOTS else most))
        for kind, label in KINDS.items()
    ]
    asked = T("How shall people answer?")
    turn.ask(Lines([asked, Lines(lines)], "\n\n"), *choices, CANCEL, step="poll.preview", data=draft)


@router.press("poll.kind")
def take_kind(turn: Turn, kind: str) -> None:
    if in_draft(turn):
        go_on(turn, with_kind(turn, turn.data, Kind(kind)))


def with_kind(turn: Turn, draft: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """Another kind, with what it needs: consent has options of its own."""
    changed = {**draft, "kind": kind, "most": 1}
    if kind is Kind.CONSENT:
        changed["options"] = [turn.words.plain(words) for words in CONSENT]
    elif draft.get("kind") == Kind.CONSENT:
        changed["options"] = []
    if kind is Kind.SEVERAL:
        changed["most"] = len(changed["options"])
    if kind is Kind.DOTS:
        changed["most"] = DOTS
    if kind in (Kind.CONSENT, Kind.RESISTANCE):
        changed["proposals"] = False
    return changed


def ask_secrecy(turn: Turn, draft: dict[str, Any]) -> None:
    choices = [Choice(label, "poll.secrecy", (secrecy,)) for secrecy, label in SECRECIES.items()]
    asked: list[Text] = [T("Who shall see how somebody votes?"), *SECRECY.values()]
    asked.append(T("With fewer than {few} voters even a secret result can give away who voted how.", few=FEW))
    turn.ask(Lines(asked, "\n"), *choices, CANCEL, step="poll.preview", data=draft)


@router.press("poll.secrecy")
def take_secrecy(turn: Turn, secrecy: str) -> None:
    if in_draft(turn):
        go_on(turn, {**turn.data, "secrecy": Secrecy(secrecy)})


# -- the preview ------------------------------------------------------------------------------------------


def drafted(data: Mapping[str, Any]) -> Draft:
    """The draft that a dialog keeps."""
    closes = data.get("closes_at")
    return Draft(
        data["question"],
        tuple(data["options"]),
        Kind(data["kind"]),
        Secrecy(data["secrecy"]),
        Audience(data.get("audience", Audience.PLACES)),
        tuple(data.get("named", ())),
        Results(data.get("results", Results.ALWAYS)),
        data.get("most", 1),
        data.get("quorum", 0),
        data.get("proposals", False),
        data.get("until_all", False),
        None if closes is None else datetime.fromisoformat(closes),
    )


def preview(turn: Turn, data: Mapping[str, Any]) -> None:
    draft = drafted(data)
    listed: list[Text] = [Verbatim(f"{place}. {option}") for place, option in enumerate(draft.options, 1)]
    audience: Text = AUDIENCES[draft.audience]
    if draft.audience is Audience.NAMED:
        audience = Lines([GROUPS[Group(name)] for name in draft.named], ", ")
    places = data.get("places", [])
    results = Results.CLOSED if draft.secrecy is Secrecy.SECRET else draft.results
    facts: list[Text] = [
        T("Kind: {kind}. {explanation}", kind=KINDS[draft.kind], explanation=explained(draft.kind, draft.most)),
        SECRECY[draft.secrecy],
        T("Who may vote: {audience}.", audience=audience),
        T("It is shown here and in {places}.", places=called(turn, places))
        if places
        else T("It is shown here, and in each group in which you write /poll and its number."),
        T("It closes: {when}.", when=until(draft.closes_at, draft.until_all)),
        T("The count is shown {when}.", when=SHOWN[results]),
    ]
    if draft.quorum:
        facts.append(N("Needed for a result: {n} voter.", "Needed for a result: {n} voters.", n=draft.quorum))
    unclear = [
        option
        for option in draft.options
        if draft.kind is Kind.DATES and not reading.is_date(option, turn.now, turn.words.zone)
    ]
    if unclear:
        facts.append(T("No day, so I cannot make an event of it: {options}.", options=", ".join(unclear)))
    if draft.proposals:
        facts.append(T("Voters can suggest options; you decide about them."))
    choices = [
        Choice(T("Post it"), "poll.post", (fingerprint(draft, data),)),
        Choice(T("Change the question"), "poll.change", ("question",)),
        Choice(T("Change the options"), "poll.change", ("options",)),
        Choice(T("Kind"), "poll.change", ("kind",)),
        Choice(T("Secrecy"), "poll.change", ("secrecy",)),
        Choice(T("Who may vote"), "poll.change", ("audience",)),
        Choice(T("Where it is shown"), "poll.change", ("places",)),
        Choice(T("When it closes"), "poll.change", ("closes",)),
        Choice(T("Needed voters"), "poll.change", ("quorum",)),
    ]
    if draft.secrecy is not Secrecy.SECRET:
        choices.append(Choice(T("When the count is shown"), "poll.change", ("results",)))
    if draft.kind in (Kind.SEVERAL, Kind.DOTS):
        choices.append(Choice(T("How many"), "poll.change", ("most",)))
    if draft.kind not in (Kind.CONSENT, Kind.RESISTANCE):
        label = T("No suggested options") if draft.proposals else T("Allow suggested options")
        choices.append(Choice(label, "poll.change", ("proposals",)))
    head = T("This is how it looks:\n\n<b>{question}</b>", question=draft.question)
    parts = [head, Lines(listed), Lines(facts)]
    turn.ask(Lines(parts, "\n\n"), *choices, CANCEL, step="poll.preview", data=data)


@router.step("poll.preview")
def not_yet_posted(turn: Turn, _text: str) -> None:
    turn.say(T("Please choose one of these, or write its number."))
    go_on(turn, dict(turn.data))


def fingerprint(draft: Draft, data: Mapping[str, Any]) -> str:
    """What a preview has shown: only that is posted."""
    shown = [*sorted(asdict(draft).items()), ("places", data.get("places", []))]
    return str(zlib.crc32(repr(shown).encode()))


def called(turn: Turn, places: Sequence[int]) -> Text:
    """Some groups by their names; of those that have none, how many they are."""
    names, others = rooms.names(turn.connection, places)
    parts: list[Text] = [Verbatim(name) for name in names]
    if others:
        parts.append(N("{n} group without a name", "{n} groups without a name", n=others))
    return Lines(parts, ", ")


def in_draft(turn: Turn) -> bool:
    """Whether a poll is being drafted; a button of an old one says so."""
    if turn.dialog is not None and turn.dialog.step in STEPS and turn.data.get("question"):
        return True
    turn.toast(T("This question is answered already."))
    return False
