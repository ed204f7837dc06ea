"""The documentation: it names everything a person can use, and its links lead somewhere."""

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bot.__main__ import app
from bot.config import Settings
from bot.metrics import Metrics
from bot.text import Catalogues
from handlers import assemble

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PATHS = {"healthz", "metrics", "telegram", "data", "tmp", "x"}
BOTFATHER = {"newbot", "revoke", "setprivacy", "setdescription", "setabouttext", "setuserpic", "setjoingroups", "token"}
"""What stands behind a slash and is no command of labbot."""

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


@pytest.fixture(scope="module")
def documentation() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def names(text: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, text))


def metrics() -> list[str]:
    return sorted(
        family.name + ("_total" if family.type == "counter" else "") for family in Metrics().registry.collect()
    )


@pytest.mark.parametrize("command", sorted(assemble().commands))
def test_every_command_is_described(documentation: str, command: str) -> None:
    assert re.search(rf"/{command}\b", documentation)


@pytest.mark.parametrize("field", sorted(Settings.model_fields))
def test_every_setting_is_described(documentation: str, field: str) -> None:
    assert re.search(rf"\bLABBOT_{field.upper()}\b", documentation)
    assert re.search(rf"^#?LABBOT_{field.upper()}=", (ROOT / "deploy" / "env.example").read_text(), re.MULTILINE)


@pytest.mark.parametrize("metric", metrics())
def test_every_metric_is_described(documentation: str, metric: str) -> None:
    assert metric in documentation


@pytest.mark.parametrize(
    "command", [command.callback.__name__ for command in app.registered_commands if command.callback]
)
def test_every_command_of_the_command_line_is_described(documentation: str, command: str) -> None:
    assert re.search(rf"labbot {command}\b", documentation)


def test_every_setting_that_is_described_is_there(documentation: str) -> None:
    settings = {f"LABBOT_{field.upper()}" for field in Settings.model_fields}
    assert names(documentation, r"\bLABBOT_[A-Z]+(?:_[A-Z]+)*\b") <= settings


def test_every_metric_that_is_described_is_there(documentation: str) -> None:
    described = names(documentation, r"\blabbot_[a-z_]+_(?:total|seconds|pending)\b")
    assert described <= set(metrics())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_described_is_there(page: Path) -> None:
    router = assemble()
    catalogues = Catalogues("de", ZoneInfo("Europe/Berlin"))
    known = set(router.commands).union(*(catalogues.aliases(command) for command in router.commands))
    described = names(page.read_text(encoding="utf-8"), r"`/([a-z]\w*)(?:[ \[][^`]*)?`")
    assert described - known <= PATHS | BOTFATHER


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for found in LINK.finditer(text):
        target = found[1] or found[2]
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file) if file else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor and linked.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{page.name}: {target}"


def test_there_is_a_page_for_everybody() -> None:
    assert {page.name for page in PAGES} >= {"README.md", "architecture.md", "operators.md", "organisers.md"}
