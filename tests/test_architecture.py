"""The shape of the code, where the import linter cannot see it."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import SQLModel

import handlers
import storage
from bot.adapters.memory import Memory
from bot.port import Adapter
from bot.router import Router
from handlers import assemble
from storage.erasure import RULES

ROOT = Path(__file__).parent.parent
FOLDERS = ("bot", "handlers", "storage")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "versions" not in path.parts)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_only_its_adapter_imports_a_messengers_library(path: Path) -> None:
    for name, folder in (("telegram", "bot/adapters/telegram"), ("nio", "bot/adapters/matrix")):
        if not relative(path).startswith(folder):
            assert name not in {module.partition(".")[0] for module in imported(path)}


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_says_in_a_line_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(tree(path))
    assert docstring or relative(path) == "bot/__init__.py"
    if docstring:
        assert docstring.splitlines()[0].endswith(".")


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent.name == "handlers"], ids=relative)
def test_a_handler_never_waits(path: Path) -> None:
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert [node for node in ast.walk(tree(path)) if isinstance(node, waits)] == []
    assert {"asyncio", "time", "requests", "httpx"}.isdisjoint(imported(path))


def test_every_feature_has_a_router_that_is_taken_in() -> None:
    together = assemble()
    found = 0
    for module in pkgutil.iter_modules(handlers.__path__):
        router = importlib.import_module(f"handlers.{module.name}").router
        assert isinstance(router, Router)
        assert router.commands.items() <= together.commands.items()
        assert router.presses.items() <= together.presses.items()
        found += len(router.commands)
    assert found == len(together.commands) > 10


def test_every_action_and_step_that_is_named_is_there() -> None:
    router = assemble()
    makers, steps, actions = set(), set(), set()
    for path in (ROOT / "handlers").glob("*.py"):
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            words = [argument.value if isinstance(argument, ast.Constant) else None for argument in node.args]
            if name == "Choice" and len(words) > 1 and isinstance(words[1], str):
                actions.add(words[1])
            if name == "Attachment" and len(words) > 2:
                makers.add(words[2])
            steps |= {
                keyword.value.value
                for keyword in node.keywords
                if keyword.arg == "step" and isinstance(keyword.value, ast.Constant)
            }
    assert actions - set(router.presses) == set()
    assert steps - set(router.steps) == set()
    assert makers - set(router.makers) == set()
    assert actions
    assert steps
    assert makers


def test_every_table_says_what_happens_when_a_person_leaves() -> None:
    assert set(RULES) == set(SQLModel.metadata.tables)


def test_every_table_that_names_a_person_has_a_rule_that_does_something() -> None:
    for table in SQLModel.metadata.sorted_tables:
        if any(key.column.table.name in ("person", "account") for key in table.foreign_keys):
            assert callable(RULES[table.name]), table.name


def test_rules_come_in_the_order_that_keys_allow() -> None:
    order = list(RULES)
    for table in SQLModel.metadata.sorted_tables:
        for key in table.foreign_keys:
            owner = key.column.table.name
            if callable(RULES[table.name]) and owner == "person":
                assert order.index(table.name) < order.index(owner)


def test_every_foreign_key_is_indexed_so_that_leaving_is_quick() -> None:
    for table in SQLModel.metadata.sorted_tables:
        first = {next(iter(index.columns)).name for index in table.indexes} | {
            next(iter(table.primary_key.columns)).name
        }
        for key in table.foreign_keys:
            if key.column.table.name == "person":
                assert key.parent.name in first, f"{table.name}.{key.parent.name}"


def test_every_module_of_storage_is_imported_with_it() -> None:
    modules = {module.name for module in pkgutil.iter_modules(storage.__path__)} - {"migrations", "engine"}
    assert modules <= set(storage.__all__)


def test_the_memory_messenger_has_everything_of_the_port() -> None:
    wanted = {name for name in vars(Adapter) if not name.startswith("_")}
    assert "send" in wanted
    assert wanted <= set(dir(Memory()))


def test_a_messenger_that_is_not_used_costs_no_memory() -> None:
    program = "import sys, bot.app, handlers; handlers.assemble(); print('telegram' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "False\n"
