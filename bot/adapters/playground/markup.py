"""The small HTML of messages as a tree of plain data: the page builds its nodes from it, never from markup."""

from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

TAGS = frozenset({"b", "i", "u", "s", "code", "pre", "a", "blockquote"})
SCHEMES = frozenset({"http", "https", "mailto", "tel", "geo"})

Node = str | dict[str, Any]


def tree(html: str) -> list[Node]:
    """What a message shows: words, and ``{"tag", "href"?, "children"}``. All other markup is only words."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.roots


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.roots: list[Node] = []
        self._open: list[dict[str, Any]] = []

    def set_cdata_mode(self, elem: str, **_more: Any) -> None:
        """There are no elements here whose inside is raw text, such as script."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self._add(self.get_starttag_text() or "")
            return
        node: dict[str, Any] = {"tag": tag, "children": []}
        href = dict(attrs).get("href") if tag == "a" else None
        if href and urlsplit(href).scheme.lower() in SCHEMES:
            node["href"] = href
        self._add(node)
        self._open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        if not any(node["tag"] == tag for node in self._open):
            self._add(f"</{tag}>")
            return
        while self._open.pop()["tag"] != tag:
            pass

    def handle_data(self, data: str) -> None:
        self._add(data)

    def handle_comment(self, data: str) -> None:
        self._add(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        self._add(f"<!{decl}>")

    def handle_pi(self, data: str) -> None:
        self._add(f"<?{data}>")

    def unknown_decl(self, data: str) -> None:
        self._add(f"<![{data}]>")

    def _add(self, node: Node) -> None:
        into = self._open[-1]["children"] if self._open else self.roots
        if isinstance(node, str) and into and isinstance(into[-1], str):
            into[-1] += node
        elif node:
            into.append(node)
