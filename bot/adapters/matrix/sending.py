"""Sending: how a message of ours looks as an event."""

import json
from collections.abc import Mapping
from html import escape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

from nio.crypto.attachments import encrypt_attachment

from bot.adapters.matrix.rooms import Room
from bot.port import MOST_MENTIONED, Rendered, Undeliverable, Upload
from bot.types import ChatRef

LONGEST_EVENT = 60_000
"""Bytes of an event's content as JSON; with the server's own fields 65,536 are allowed (spec, size limits)."""

SEALED = 4 / 3
"""How much longer encryption makes an event: its words travel in base64."""

CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Characters that nobody sees, and that are six times as long in an event."""

BREAK = frozenset({"blockquote", "pre", "p", "br", "div", "li"})


class _Plain(HTMLParser):
    """The words of our small HTML without its markup; what is quoted is marked as e-mail does it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self.quoted = 0
        self.address: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in BREAK and self.words and not self.words[-1].endswith("\n"):
            self.words.append("\n")
        if tag == "blockquote":
            self.quoted += 1
            self.words.append("> ")
        if tag == "a":
            self.address = dict(attrs).get("href")

    def handle_endtag(self, tag: str) -> None:
        if tag == "blockquote":
            self.quoted = max(0, self.quoted - 1)
        if tag == "a" and self.address and self.words and self.words[-1] != self.address:
            self.words.append(f" ({self.address})")
        if tag in BREAK:
            self.words.append("\n")

    def handle_data(self, data: str) -> None:
        self.words.append(data.replace("\n", "\n> ") if self.quoted else data)


def plain(words: str) -> str:
    """What a client shows that knows no markup, and what a screen reader reads."""
    parser = _Plain()
    parser.feed(words)
    parser.close()
    return "".join(parser.words).translate(CONTROLS).strip()


class _Broken(HTMLParser):
    """Our small HTML for Matrix: a line ends with ``<br>`` where it is not preformatted."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.parts: list[str] = []
        self.kept = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.kept += tag == "pre"
        self.parts.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        self.kept -= tag == "pre"
        self.parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.parts.append(data if self.kept else data.replace("\n", "<br>"))

    def handle_entityref(self, name: str) -> None:
        self.parts.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.parts.append(f"&#{name};")


def formatted(words: str) -> str:
    """The same with markup."""
    parser = _Broken()
    parser.feed(words)
    parser.close()
    return "".join(parser.parts).translate(CONTROLS)


def message(chat: ChatRef, said: Rendered, room: Room, answered: str | None) -> dict[str, Any]:
    """The content of a new message.

    What answers somebody is a notice, which never rings; what shall ring is text, and names the person it is for:
    the one in a private chat, or ``answered``, whose message a question replies to.
    """
    content = words(said)
    rings = room.others[:1] if said.loud and room.private else [answered] if said.question and answered else []
    joined = [user for user in said.mentions if room.members.get(user) == "join"][:MOST_MENTIONED]
    if joined and not room.private:
        rings = [*rings, *joined]
        _name(content, joined)
    content["m.mentions"] = {"user_ids": rings} if rings else {}
    if (relation := _relation(chat, said)) is not None:
        content["m.relates_to"] = relation
    return content


def _name(content: dict[str, Any], users: list[str]) -> None:
    """Name people after the words (spec, user mentions); clients show the name that each has in the room."""
    markup = content.get("formatted_body") or escape(content["body"]).replace("\n", "<br>")
    pills = ", ".join(f'<a href="https://matrix.to/#/{quote(user)}">{escape(user)}</a>' for user in users)
    content["body"] += "\n\n" + ", ".join(users)
    content |= {"format": "org.matrix.custom.html", "formatted_body": f"{markup}<br><br>{pills}"}


def words(said: Rendered) -> dict[str, Any]:
    """The words alone."""
    content: dict[str, Any] = {"msgtype": "m.text" if said.loud or said.question else "m.notice"}
    content["body"] = plain(said.html)
    if "<" in said.html or "&" in said.html:
        content |= {"format": "org.matrix.custom.html", "formatted_body": formatted(said.html)}
    return content


def change(target: str, said: Rendered) -> dict[str, Any]:
    """The content that replaces an earlier one. It must not ring again, so it names nobody."""
    new = words(said) | {"m.mentions": {}}
    return {
        "msgtype": new["msgtype"],
        "body": f"* {new['body'][:200]}",
        "m.mentions": {},
        "m.new_content": new,
        "m.relates_to": {"rel_type": "m.replace", "event_id": target},
    }


def reaction(target: str, position: int) -> dict[str, Any]:
    """The content of a reaction that offers a choice, so that one press makes it."""
    key = "\U0001f51f" if position == 9 else f"{position + 1}\ufe0f\u20e3"
    return {"m.relates_to": {"rel_type": "m.annotation", "event_id": target, "key": key}}


POLL_START, POLL_END = "org.matrix.msc3381.poll.start", "org.matrix.msc3381.poll.end"
"""The names of MSC3381 that clients know: the stable ones are not sent before it is in the spec."""


def poll(chat: ChatRef, said: Rendered) -> dict[str, Any]:
    """The content of a poll's start (MSC3381). The options' ids are their numbers; clients without polls show text."""
    question, labels = plain(said.html), [button.label.translate(CONTROLS) for button in said.buttons]
    listed = "\n".join(f"{number}. {label}" for number, label in enumerate(labels, 1))
    content: dict[str, Any] = {
        POLL_START: {
            "kind": "org.matrix.msc3381.poll.disclosed",
            "max_selections": said.poll,
            "question": _text(question),
            "answers": [{"id": f"{number}", **_text(label)} for number, label in enumerate(labels, 1)],
        },
        "m.mentions": {},
        **_text(f"{question}\n{listed}"),
    }
    if (relation := _relation(chat, said)) is not None:
        content["m.relates_to"] = relation
    return content


def poll_end(target: str, said: Rendered) -> dict[str, Any]:
    """The content of a poll's end (MSC3381), with what a client without polls shows."""
    return {
        POLL_END: {},
        "m.mentions": {},
        "m.relates_to": {"rel_type": "m.reference", "event_id": target},
        **_text(plain(said.html)),
    }


def _text(words: str) -> dict[str, Any]:
    """Text as a block of extensible events, by its name until those are in the spec (MSC1767)."""
    return {"org.matrix.msc1767.text": words}


def attached(content: dict[str, Any], upload: Upload, kept: Mapping[str, Any]) -> dict[str, Any]:
    """A message as the caption of a file that is ``kept`` on the homeserver."""
    kind = "m.image" if upload.media_type.startswith("image/") else "m.file"
    info = {"mimetype": upload.media_type, "size": len(upload.content)}
    caption = content if content["body"] else {**content, "body": upload.name}
    return {**caption, "msgtype": kind, "filename": upload.name, "info": info, **kept}


def sealed(content: bytes) -> tuple[bytes, dict[str, Any]]:
    """A file as only those can open it who can read the message it goes with (spec, encrypted attachments)."""
    ciphertext, keys = encrypt_attachment(content)
    return ciphertext, keys


def _relation(chat: ChatRef, said: Rendered) -> dict[str, Any] | None:
    if chat.thread is not None:
        answered = said.reply_to or chat.thread
        return {
            "rel_type": "m.thread",
            "event_id": chat.thread,
            "is_falling_back": said.reply_to is None,
            "m.in_reply_to": {"event_id": answered},
        }
    return None if said.reply_to is None else {"m.in_reply_to": {"event_id": said.reply_to}}


def bounded(content: Mapping[str, Any], encrypted: bool) -> None:
    """Raises ``Undeliverable`` for what no homeserver takes."""
    length = len(json.dumps(content, ensure_ascii=False).encode(errors="replace"))
    if length * (SEALED if encrypted else 1) > LONGEST_EVENT:
        raise Undeliverable("the message is too long for Matrix")
