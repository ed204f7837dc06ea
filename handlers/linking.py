"""Linking: one person on several messengers, by a code that both accounts say yes to."""

from bot.router import Router
from bot.turn import Turn, Where
from bot.types import Choice, Lines, Message, N, T, Text
from handlers.help import menu
from handlers.ideas.words import tell_team
from handlers.people import CANCEL, ROLES, done_by, messengers, polls_of
from storage import chats, linking, people
from storage.ideas import Idea
from storage.linking import Barred, Changed, Merged, OnePerson, Over, Request, WrongCode
from storage.people import Account, Role

router = Router()

OVER = T("This request is over. Nothing was linked by it. /link begins anew.")


# -- the code -----------------------------------------------------------------------------------------------


@router.command("link", help=T("Link your accounts: one person, one vote"), where=Where.PRIVATE)
def link(turn: Turn, code: str) -> None:
    if code:
        take(turn, code)
    else:
        start(turn)


@router.press("link.start")
def start(turn: Turn) -> None:
    number, code = linking.offer(turn.db, turn.person.id, turn.chat.id, turn.now)
    signs = {messengers([name]): limits.sign for name, limits in turn.lab.limits.items()}
    begins = ", ".join(f"{messenger} {sign}" for messenger, sign in sorted(signs.items()))
    hint = [T("A command begins so: {signs}", signs=begins)] if len({*signs.values()}) > 1 else []
    turn.say(
        Lines(
            [
                T(
                    "Your code: <code>{code}</code>. On your other account, open the private chat with me and write: "
                    "/link {code}",
                    code=code,
                ),
                *hint,
                T(
                    "It works once, for 10 minutes. Then both accounts are asked whether they belong together; only "
                    "after two times yes they are one person, with one name and one vote."
                ),
                T("<b>Give this code to nobody.</b> Whoever types it asks to become you."),
            ],
            "\n\n",
        ),
        Choice(T("I have a code already"), "link.enter"),
        Choice(T("Take the code back"), "link.refuse", (str(number),)),
    )


@router.press("link.enter")
def enter(turn: Turn) -> None:
    turn.ask(T("Which code does your other account show?"), CANCEL, step="link.code")


@router.step("link.code")
def entered(turn: Turn, code: str) -> None:
    take(turn, code)


def take(turn: Turn, code: str) -> None:
    """Answer a code: then both accounts are asked."""
    asked = turn.dialog is not None and turn.dialog.step == "link.code"
    try:
        number = linking.take(turn.db, turn.person.id, turn.chat.id, code, turn.now)
        mine = linking.request(turn.db, number, turn.person.id, turn.now)
        theirs = linking.request(turn.db, number, mine.there.person_id, turn.now)
    except Barred as barred:
        turn.done()
        minutes = -(-(barred.until - turn.now).seconds // 60)
        turn.say(
            N(
                "These were too many wrong codes. In {n} minute you can try again.",
                "These were too many wrong codes. In {n} minutes you can try again.",
                n=minutes,
            )
        )
    except OnePerson:
        turn.done()
        turn.say(T("This code was made for this person: you. Write it to me from another account of yours."))
    except (WrongCode, Over):
        wrong = T("This code does not work: it is wrong, used, or older than 10 minutes. /link makes a new one.")
        if asked:
            turn.ask(wrong, CANCEL, step="link.code")
        else:
            turn.say(wrong)
    else:
        turn.done()
        turn.say(question(turn, mine))
        turn.tell(theirs.here.chat_id, question(turn, theirs))


# -- the question to both -----------------------------------------------------------------------------------


def question(turn: Turn, asked: Request) -> Message:
    """What one of the two reads before they say yes: who the other is, and what it means."""
    here, there = asked.here, asked.there
    lines: list[Text] = [
        Lines(
            [
                T("Shall these two accounts become one person?"),
                T(
                    "This account: “{pseudonym}”, {messengers}, {role}.",
                    pseudonym=here.pseudonym,
                    messengers=messengers(here.adapters),
                    role=ROLES[here.role],
                ),
                T(
                    "The other account: “{pseudonym}”, {messengers}, {role}.",
                    pseudonym=there.pseudonym,
                    messengers=messengers(there.adapters),
                    role=ROLES[there.role],
                ),
            ]
        )
    ]
    if asked.gives_rights:
        lines.append(
            T(
                "<b>Careful: whoever uses the other account gets your rights.</b> They will be {role}, as you are, and "
                "act in the name of the lab.",
                role=ROLES[here.role],
            )
        )
    elif here.role is not there.role:
        lines.append(T("Together you are {role}, as the other account is now.", role=ROLES[there.role]))
    lines += [
        T(
            "Whoever uses the other account then speaks as you, and can see, change and erase everything of yours. "
            "<b>Did somebody else send you this code, or ask you for yours? Then say no:</b> they want to take your "
            "place."
        ),
        Lines(
            [
                T("What you bring along:"),
                done_by(turn, here.person_id),
                polls_of(turn, here.person_id),
                T(
                    "What both have done counts once. All of it will stand under “{pseudonym}”, the name that has been "
                    "here longer; /me changes it.",
                    pseudonym=asked.kept.pseudonym,
                ),
            ],
            " ",
        ),
    ]
    if here.stopped or there.stopped:
        lines.append(T("One of them has said /stop: then I write to neither on my own, until you write /start."))
    return Message(
        Lines(lines, "\n\n"),
        (
            Choice(T("No, leave it as it is"), "link.refuse", (str(asked.id),)),
            Choice(T("Yes, both accounts are mine"), "link.agree", (str(asked.id), asked.terms)),
        ),
        subject=f"link:{asked.id}",
    )


@router.press("link.agree")
def agree(turn: Turn, number: str, terms: str, sure: str = "") -> None:
    try:
        asked = linking.request(turn.db, int(number), turn.person.id, turn.now)
        if asked.gives_rights and not sure:
            turn.replace(last_question(asked, terms))
            return
        merged = linking.agree(turn.db, asked, terms, turn.now)
    except Over:
        turn.replace(OVER)
    except Changed:
        turn.toast(T("Something has changed meanwhile. Please read it once more."))
        turn.replace(question(turn, asked))
    else:
        if merged is None:
            noted = T(
                "Noted. Now say yes on the other account, too ({messengers}), within 10 minutes.",
                messengers=messengers(asked.there.adapters),
            )
            back = Choice(T("I take my yes back"), "link.refuse", (number,))
            turn.replace(Message(noted, (back,), subject=f"link:{number}"))
        else:
            joined(turn, asked, merged)


def last_question(asked: Request, terms: str) -> Message:
    """Who gives rights away is asked twice: a slip of the finger, or a number meant for something else, does not."""
    return Message(
        T(
            "<b>“{pseudonym}” ({messengers}) will be {role}.</b> Do you have that account before you, on a device of "
            "your own?",
            pseudonym=asked.there.pseudonym,
            messengers=messengers(asked.there.adapters),
            role=ROLES[asked.here.role],
        ),
        (
            Choice(T("No, leave it as it is"), "link.refuse", (str(asked.id),)),
            Choice(T("Yes, it is mine and gets my rights"), "link.agree", (str(asked.id), terms, "sure")),
        ),
        subject=f"link:{asked.id}",
    )


def joined(turn: Turn, asked: Request, merged: Merged) -> None:
    """Tell both, and the team when somebody has got a role by it."""
    turn.person.id, turn.person.role = merged.kept, asked.role
    chats.set_latest(turn.connection, turn.chat.id, merged.kept)
    turn.due(turn.now)  # polls they have voted in show it at once
    for number in merged.ideas:
        tell_team(turn, turn.db.get_one(Idea, number))
    together: list[Text] = [
        T("Done: your accounts are one person, “{pseudonym}”.", pseudonym=asked.kept.pseudonym),
        T("Role: {role}", role=ROLES[asked.role]),
        done_by(turn, merged.kept),
        polls_of(turn, merged.kept),
    ]
    if merged.twice:
        together.append(
            N(
                "{n} thing that both had done counts once now.",
                "{n} things that both had done count once now.",
                n=merged.twice,
            )
        )
    if merged.votes:
        together.append(
            N(
                "In {n} poll both had voted: the latest vote counts.",
                "In {n} polls both had voted: the latest vote counts.",
                n=merged.votes,
            )
        )
    if asked.here.stopped or asked.there.stopped:
        together.append(T("I do not write to you on my own, since you have said /stop. /start turns it on."))
    together.append(T("/me shows your accounts, and parts them again."))
    news = Lines(together)
    turn.edit_copies(f"link:{asked.id}", asked.there.chat_id, T("Both accounts have said yes."))
    turn.tell(asked.there.chat_id, news, *menu())
    turn.replace(news, *menu())
    if asked.here.role is not asked.there.role:
        by = asked.here if asked.here.role is not asked.role else asked.there
        for room in chats.team_chats(turn.connection):
            turn.tell(
                room,
                T(
                    "“{pseudonym}” has linked another account ({messengers}), which is {role} now, too. Does that "
                    "surprise you? Then ask them.",
                    pseudonym=asked.kept.pseudonym,
                    messengers=messengers(by.adapters),
                    role=ROLES[asked.role],
                ),
            )


@router.press("link.refuse")
def refuse(turn: Turn, number: str) -> None:
    try:
        other = linking.refuse(turn.db, int(number), turn.person.id)
    except Over:
        turn.replace(OVER)
        return
    turn.replace(T("All right, nothing is linked. The code no longer works."), *menu())
    if other is not None:
        turn.edit_copies(f"link:{number}", other, OVER)
        turn.tell(other, T("The other account has said no: nothing is linked."))


# -- parting ------------------------------------------------------------------------------------------------


@router.press("link.accounts")
def accounts(turn: Turn) -> None:
    here = turn.db.get_one(chats.Chat, turn.chat.id).account_id
    choices = [
        Choice(_called(account, account.id == here), "link.part", (str(account.id),))
        for account in people.accounts(turn.db, turn.person.id)
    ]
    turn.replace(T("Which account shall go its own way?"), *choices, Choice(T("None"), "me.show"))


def _called(account: Account, here: bool) -> Text:
    messenger, date = messengers([account.adapter]), account.created_at.date()
    if here:
        return T("{messenger}, since {date}: this one", messenger=messenger, date=date)
    return T("{messenger}, since {date}", messenger=messenger, date=date)


@router.press("link.where")
def ask_where(turn: Turn) -> None:
    here = turn.db.get_one(chats.Chat, turn.chat.id).account_id
    turn.replace(
        T("Where shall I write to you on my own: reminders, news, announcements?"),
        *(
            Choice(_called(account, account.id == here), "link.prefer", (str(account.id),))
            for account in people.accounts(turn.db, turn.person.id)
        ),
        Choice(T("Where I was last"), "link.prefer", ("",)),
    )


@router.press("link.prefer")
def prefer(turn: Turn, account: str) -> None:
    own = {str(one.id): one for one in people.accounts(turn.db, turn.person.id)}
    if account and account not in own:
        turn.replace(T("This account is not linked with you any more."))
        return
    people.prefer(turn.db, turn.person.id, int(account) if account else None)
    turn.replace(
        T("From now on I write to you on {messenger}.", messenger=messengers([own[account].adapter]))
        if account
        else T("From now on I write to you where you were last.")
    )


@router.press("link.part")
def ask_to_part(turn: Turn, account: str) -> None:
    try:
        parts = linking.parting(turn.db, int(account), turn.person.id)
    except Over:
        turn.replace(T("This account is not linked with you any more."))
        return
    lines: list[Text] = [
        T(
            "The account on {messenger} becomes a person of its own, with a new name and nothing done yet. Everything "
            "so far (ideas, comments, supports, votes) stays with “{pseudonym}” on {others}. That cannot be undone.",
            messenger=messengers([parts.leaving.adapter]),
            pseudonym=parts.pseudonym,
            others=messengers(other.adapter for other in parts.staying),
        )
    ]
    if turn.person.role is not Role.PARTICIPANT:
        lines.append(
            T(
                "Each keeps the role it came with. {messenger}: {leaving}. “{pseudonym}”: {staying}.",
                messenger=messengers([parts.leaving.adapter]),
                leaving=ROLES[parts.leaving_role],
                pseudonym=parts.pseudonym,
                staying=ROLES[parts.staying_role],
            )
        )
    turn.replace(
        Lines(lines, "\n\n"),
        Choice(T("No, leave it as it is"), "me.show"),
        Choice(T("Part them"), "link.unlink", (account,)),
    )


@router.press("link.unlink")
def unlink(turn: Turn, account: str) -> None:
    theirs = chats.chats_of(turn.connection, int(account))
    try:
        parts, pseudonym = linking.unlink(turn.db, int(account), turn.person.id, turn.now)
    except Over:
        turn.replace(T("This account is not linked with you any more."))
        return
    own = T(
        "This account is a person of its own now: “{pseudonym}”, {role}. What it had done before stays with “{other}”.",
        pseudonym=pseudonym,
        role=ROLES[parts.leaving_role],
        other=parts.pseudonym,
    )
    if turn.chat.id in theirs:
        turn.replace(own, *menu())
    else:
        turn.replace(
            T(
                "The account on {messenger} goes its own way now. You are “{pseudonym}”, {role}.",
                messenger=messengers([parts.leaving.adapter]),
                pseudonym=parts.pseudonym,
                role=ROLES[parts.staying_role],
            ),
            *menu(),
        )
        for chat in theirs:
            turn.tell(chat, own)
