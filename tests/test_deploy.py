"""What stands in deploy/ fits the code: the same variables, and a unit systemd understands."""

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from bot.config import Settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
VARIABLES = {f"LABBOT_{field.upper()}" for field in Settings.model_fields}

systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that exists on this machine in the place of labbot."""
    text = (DEPLOY / "labbot.service").read_text()
    copy = tmp_path / "labbot.service"
    copy.write_text(text.replace("ExecStart=/opt/labbot/bin/labbot", f"ExecStart={shutil.which('true')}"))
    return copy


@systemd
def test_systemd_understands_every_line_of_the_unit(unit: Path) -> None:
    result = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    # An unknown or wrong setting is only a warning to systemd: it leaves the line out.
    complaints = [line for line in result.stderr.splitlines() if "labbot.service" in line]
    assert (result.returncode, complaints) == (0, [])


@systemd
def test_the_unit_gives_away_little_of_the_machine(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
    if "--offline" not in subprocess.run(["systemd-analyze", "--help"], capture_output=True, text=True).stdout:
        pytest.skip("this systemd-analyze only looks at loaded units")
    # The threshold is ten times the exposure, which goes from 0 to 10.
    result = subprocess.run([*command, "--threshold=20", unit], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout.splitlines()[-1:]


def test_a_bad_configuration_is_not_tried_again_and_a_crash_is() -> None:
    unit = (DEPLOY / "labbot.service").read_text().splitlines()
    assert "RestartPreventExitStatus=2" in unit
    assert "Restart=on-failure" in unit


def test_the_example_lists_every_variable_once_and_no_other() -> None:
    listed = re.findall(r"^#?([A-Z_]+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(VARIABLES)


def test_the_example_explains_each_variable_in_the_line_above() -> None:
    lines = (DEPLOY / "env.example").read_text().splitlines()
    for before, line in pairwise(lines):
        if re.match(r"#?[A-Z_]+=", line):
            assert re.match(r"# [A-Z].*[.:]$", before), line


def test_the_example_as_it_is_sets_nothing_but_the_empty_token() -> None:
    lines = (DEPLOY / "env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["LABBOT_TELEGRAM_TOKEN="]


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "labbot.service"])
def test_only_variables_that_exist_are_mentioned(name: str) -> None:
    mentioned = set(re.findall(r"LABBOT_[A-Z_]+", (DEPLOY / name).read_text()))
    assert mentioned
    assert mentioned <= VARIABLES


def test_the_image_is_given_the_source_and_no_secrets() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(rule for rule in rules if rule and not rule.startswith("#")) == "*"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert {"bot", "handlers", "locales", "storage", "pyproject.toml", "requirements.lock"} <= allowed
    assert not any(name.startswith((".", "data")) for name in allowed)
    assert "**/.env" in rules
