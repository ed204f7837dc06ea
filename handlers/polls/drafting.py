"""A poll that is not asked yet: question, options, kind, secrecy, and a preview from which all can be changed."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
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
from storage.people import Group, Role
from storage.polls.asking import Draft
from storage.polls.counting import Kind
from storage.polls.tables import (
    LONGEST_OPTION,
    LONGEST_QUESTION,
    MOST_DOTS,
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


# -- the preview, and what can be changed from there --------------------------------------------------------


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


def in_preview(turn: Turn) -> bool:
    """Whether the poll that is drafted has all that a preview shows; to an old preview it asks for what is missing."""
    if not in_draft(turn):
        return False
    if all(turn.data.get(fact) for fact in ("options", "kind", "secrecy")):
        return True
    turn.toast(T("Something is still missing. Please answer that first."))
    go_on(turn, dict(turn.data))
    return False


@router.press("poll.change")
def change(turn: Turn, what: str) -> None:
    if not in_preview(turn):
        return
    data = dict(turn.data)
    match what:
        case "question":
            ask_question(turn, data)
        case "options":
            ask_options(turn, data)
        case "kind":
            ask_kind(turn, data)
        case "secrecy":
            ask_secrecy(turn, data)
        case "proposals":
            preview(turn, {**data, "proposals": not data.get("proposals")})
        case "results":
            shown = [Choice(label, "poll.results", (results,)) for results, label in SHOWN.items()]
            turn.ask(T("When shall the count be shown?"), *shown, step="poll.preview", data=data)
        case "most":
            ask_most(turn, data)
        case "quorum":
            ask_quorum(turn, data)
        case "audience":
            ask_audience(turn, data)
        case "places":
            ask_places(turn, data)
        case _:
            ask_closing(turn, data)


@router.press("poll.results")
def take_results(turn: Turn, results: str) -> None:
    if in_preview(turn):
        preview(turn, {**turn.data, "results": Results(results)})


def ask_most(turn: Turn, data: Mapping[str, Any]) -> None:
    """Without choices, here and below: what is typed is a number, and no choice may claim the same one."""
    if data["kind"] == Kind.DOTS:
        asked = T("How many dots has everybody? Write a number from 1 to {most}. /cancel stops.", most=MOST_DOTS)
    else:
        most = len(data["options"])
        asked = T("How many may somebody choose? Write a number from 1 to {most}. /cancel stops.", most=most)
    turn.ask(asked, step="poll.most", data=data)


@router.step("poll.most", numbers=True)
def take_most(turn: Turn, text: str) -> None:
    most = MOST_DOTS if turn.data["kind"] == Kind.DOTS else len(turn.data["options"])
    if text.isdecimal() and len(text) < 4 and 1 <= int(text) <= most:
        preview(turn, {**turn.data, "most": int(text)})
    else:
        ask_most(turn, turn.data)


def ask_quorum(turn: Turn, data: Mapping[str, Any]) -> None:
    asked = T("How many have to vote for a result? Write a number; 0 is for any. /cancel stops.")
    turn.ask(asked, step="poll.quorum", data=data)


@router.step("poll.quorum", numbers=True)
def take_quorum(turn: Turn, text: str) -> None:
    if text.isdecimal() and len(text) < 7:
        preview(turn, {**turn.data, "quorum": int(text)})
    else:
        ask_quorum(turn, turn.data)


def ask_audience(turn: Turn, data: dict[str, Any]) -> None:
    if not turn.may(Role.ORGANISER):  # theirs reach everybody in their lists
        turn.say(T("Only the lab's organisers can ask others than a group."))
        preview(turn, data)
        return
    named = data.get("named", [])
    choices = [
        Choice(label, "poll.audience", (audience,))
        for audience, label in AUDIENCES.items()
        if audience is not Audience.NAMED
    ]
    for group, label in GROUPS.items():
        text = T("Not {group}", group=label) if group in named else T("Also {group}", group=label)
        choices.append(Choice(text, "poll.named", (group,)))
    turn.ask(T("Who may vote?"), *choices, Choice(T("Done"), "poll.audience", ("",)), step="poll.preview", data=data)


@router.press("poll.audience")
def take_audience(turn: Turn, audience: str) -> None:
    if not in_preview(turn):
        return
    data = dict(turn.data)
    if audience:
        data |= {"audience": Audience(audience), "named": []}
    if audience in (Audience.PLACES, Audience.ROOMS):
        data["until_all"] = False  # nobody knows how many are in a group
    if audience == Audience.ROOMS and not data.get("places"):
        ask_places(turn, data)
    else:
        preview(turn, data)


@router.press("poll.named")
def take_named(turn: Turn, group: str) -> None:
    if not in_preview(turn):
        return
    named = sorted({*turn.data.get("named", [])} ^ {Group(group).value})
    audience = Audience.NAMED if named else Audience.PLACES
    ask_audience(turn, {**turn.data, "named": named, "audience": audience})


def ask_places(turn: Turn, data: dict[str, Any]) -> None:
    """In which groups it is shown, by their names. Elsewhere its asker puts it: so they are there, and may."""
    named, places = rooms.named(turn.connection), data.get("places", [])
    if not turn.may(Role.ORGANISER):
        turn.say(
            T("Only the lab's organisers choose groups from a list. Write /poll and its number in a group instead.")
        )
        preview(turn, data)
    elif not named:
        turn.say(T("No group has a name in lists yet. /room in a group gives it one."))
        preview(turn, data | {"audience": Audience.PLACES} if data.get("audience") == Audience.ROOMS else data)
    else:
        choices = [
            Choice(
                T("Not {group}", group=room.name) if room.id in places else T("Also {group}", group=room.name),
                "poll.place",
                (str(room.id),),
            )
            for room in named
        ]
        asked = T("In which groups shall it be shown?")
        chosen = Lines([asked, T("Now: {places}", places=called(turn, places))], "\n") if places else asked
        turn.ask(chosen, *choices, Choice(T("Done"), "poll.audience", ("",)), step="poll.preview", data=data)


@router.press("poll.place")
def take_place(turn: Turn, chat: str) -> None:
    if in_preview(turn):
        places = sorted({*turn.data.get("places", [])} ^ {int(chat)})
        ask_places(turn, {**turn.data, "places": places})


def ask_closing(turn: Turn, data: dict[str, Any], why: Text | None = None) -> None:
    choices = [
        Choice(T("In an hour"), "poll.closes", ("1",)),
        Choice(T("In a day"), "poll.closes", ("24",)),
        Choice(T("In three days"), "poll.closes", ("72",)),
        Choice(T("In a week"), "poll.closes", ("168",)),
        Choice(T("When I close it"), "poll.closes", ("",)),
    ]
    if data.get("audience") in (Audience.LAB, Audience.TEAM, Audience.NAMED):
        choices.append(Choice(T("When all have voted"), "poll.closes", ("all",)))
    asked = T("When shall it close? Choose, or write a time, for example: tomorrow 18:00")
    turn.ask(
        asked if why is None else Lines([why, asked], "\n\n"),
        *choices,
        CANCEL,
        step="poll.closes",
        data=data,
    )


@router.press("poll.closes")
def take_closing(turn: Turn, hours: str) -> None:
    if not in_preview(turn):
        return
    data = {**turn.data, "until_all": hours == "all", "closes_at": None}
    if hours.isdecimal():
        data["closes_at"] = (turn.now + timedelta(hours=int(hours))).isoformat()
    preview(turn, data)


@router.step("poll.closes")
def take_time(turn: Turn, text: str) -> None:
    at = reading.moment(text, turn.now, turn.words.zone)
    if at is None:
        ask_closing(turn, dict(turn.data), T("That is no time within the next year."))
    else:
        preview(turn, {**turn.data, "closes_at": at.isoformat(), "until_all": False})
