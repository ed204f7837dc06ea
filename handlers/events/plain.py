"""Words out of HTML: what some calendars keep as the text of an event.

Tags are found by one expression, in time that grows with the text alone: html.parser takes seconds for “<a <a <a”.
"""

import re
from html import unescape

_NAMES = "a|b|br|div|em|font|h[1-6]|head|html|body|i|li|ol|p|script|span|strong|style|table|td|tr|u|ul"
MARKUP = re.compile(rf"<(?P<end>/?)(?P<tag>{_NAMES})(?P<more>(?:\s[^<>]*)?)/?>", re.IGNORECASE)
_LINE = re.compile(r"br|div|h\d|li|ol|p|table|tr|ul")
_LINK = re.compile(r"""\bhref\s*=\s*["']?(https?://[^\s"'<>]+)""", re.IGNORECASE)
_UNSEEN = re.compile(r"head|script|style")


def plain(html: str) -> str:
    """The words of it, with its lines, its lists and where its links lead."""
    words, at, link, shown_from = "", 0, "", 0
    hidden = ""
    for found in MARKUP.finditer(html):
        tag, ends = found["tag"].casefold(), bool(found["end"])
        if not hidden:
            words += re.sub(r"\s+", " ", unescape(html[at : found.start()]))
        at = found.end()
        if _UNSEEN.fullmatch(tag):
            hidden = tag if not ends and not hidden else "" if ends and tag == hidden else hidden
        elif tag == "a":
            if ends and link and link not in words[shown_from:]:
                words += f" ({link})"
            leads = None if ends else _LINK.search(found["more"])
            link, shown_from = unescape(leads[1]) if leads is not None else "", len(words)
        elif _LINE.fullmatch(tag) and not (ends and tag in ("div", "li", "tr")):
            words += "\n- " if tag == "li" else "\n"
    words += "" if hidden else re.sub(r"\s+", " ", unescape(html[at:]))
    lines = (line.strip() for line in words.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
