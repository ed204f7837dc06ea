"""Light formatting: Markdown, and the small HTML people know, become the small HTML that every messenger takes."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import escape

_PARSER = MarkdownIt("commonmark", {"html": True}).enable("strikethrough").disable(["html_block", "image", "reference"])
"""CommonMark 0.31 and ~~struck~~; a tag stands within its line, so that what is no tag of ours stays readable."""

_OURS = {"strong": "b", "em": "i", "s": "s", "blockquote": "blockquote"}
_TYPED = re.compile(r"<(/?)(b|i|u|s|code|pre|blockquote)>|<(a) href=\"([^\"<>]+)\">|<(/)(a)>", re.IGNORECASE)


def formatted(text: str) -> str:
    """What somebody wrote as ``b i u s code pre a blockquote``; everything else is shown as it was typed."""
    writer = _Writer()
    writer.blocks(_PARSER.parse(text.strip()))
    return writer.html.strip()


def is_address(url: str) -> bool:
    """Whether this can be the address of a link: a page on the web, or somebody's mail."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if any(sign.isspace() or sign in "\"'<>" for sign in url) or len(url) > 2000:
        return False
    return (parts.scheme in ("http", "https") and "." in (parts.hostname or "")) or (
        parts.scheme == "mailto" and "@" in parts.path
    )


class _Writer:
    def __init__(self) -> None:
        self.html = ""
        self.opened: list[str] = []
        self.lists: list[int | None] = []

    def open(self, tag: str, attribute: str = "") -> None:
        self.html += f"<{tag}{attribute}>"
        self.opened.append(tag)

    def close(self, tag: str) -> bool:
        """Close a tag, and what was opened within it; False when it is not open."""
        if tag not in self.opened:
            return False
        while (last := self.opened.pop()) != tag:
            self.html += f"</{last}>"
        self.html += f"</{tag}>"
        return True

    def blocks(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            match token.type:
                case "inline":
                    self.inline(token.children or [])
                case "heading_open":
                    self.apart()
                    self.open("b")
                case "heading_close":
                    self.close("b")
                case "paragraph_open":
                    self.apart()
                case "blockquote_open":
                    self.apart()
                    self.open("blockquote")
                case "blockquote_close":
                    self.close("blockquote")
                case "bullet_list_open":
                    self.apart()
                    self.lists.append(None)
                case "ordered_list_open":
                    self.apart()
                    self.lists.append(int(token.attrGet("start") or 1))
                case "bullet_list_close" | "ordered_list_close":
                    self.lists.pop()
                case "list_item_open":
                    self.item()
                case "fence" | "code_block":
                    self.apart()
                    self.html += f"<pre>{escape(token.content.rstrip())}</pre>"
                case "hr":
                    self.apart()
                    self.html += "———"

    def apart(self) -> None:
        """An empty line between blocks, a new line between the items of a list."""
        if self.html and not self.html.endswith(("\n", "• ", ". ", "<blockquote>")):
            self.html += "\n" if self.lists else "\n\n"

    def item(self) -> None:
        if self.html and not self.html.endswith("\n"):
            self.html += "\n"
        self.html += "  " * (len(self.lists) - 1)
        number = self.lists[-1]
        if number is None:
            self.html += "• "
        else:
            self.html += f"{number}. "
            self.lists[-1] = number + 1

    def inline(self, tokens: Sequence[Token]) -> None:
        before = len(self.opened)
        for token in tokens:
            kind, _, edge = token.type.rpartition("_")
            match token.type:
                case "text":
                    self.html += str(escape(token.content))
                case "softbreak" | "hardbreak":
                    self.html += "\n"
                case "code_inline":
                    self.html += f"<code>{escape(token.content)}</code>"
                case "html_inline":
                    self.typed(token.content)
                case "link_open":
                    address = str(token.attrGet("href") or "")
                    if is_address(address) and "a" not in self.opened:
                        self.open("a", f' href="{escape(address)}"')
                case "link_close":
                    self.close("a")
                case _ if edge == "open" and kind in _OURS:
                    self.open(_OURS[kind])
                case _ if edge == "close" and kind in _OURS:
                    self.close(_OURS[kind])
        while len(self.opened) > before:  # what was typed and never closed
            self.html += f"</{self.opened.pop()}>"

    def typed(self, tag: str) -> None:
        """A tag as somebody typed it: kept where it is one of ours, else shown."""
        match = _TYPED.fullmatch(tag)
        if match is None:
            self.html += str(escape(tag))
        elif match[3]:
            if is_address(match[4]) and "a" not in self.opened:
                self.open("a", f' href="{escape(match[4])}"')
            else:
                self.html += str(escape(tag))
        elif match[1] or match[5]:
            if not self.close((match[2] or match[6]).lower()):
                self.html += str(escape(tag))
        else:
            self.open(match[2].lower())
