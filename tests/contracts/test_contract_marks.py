"""`docs/contract.md` marks as planned what is not built, and nothing else."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import gateway
from gateway.http.planned import PLANNED
from safevideo_cli.app import NOUNS, build_app

CONTRACT = (Path(__file__).parents[2] / "docs" / "contract.md").read_text()
CALL = re.compile(r"`(GET|POST|PUT|DELETE) (/[^`?]*)[^`]*`( \*planned\*)?")
FIRST_SECTION, LAST_SECTION = "## 3. ", "## 7. "

Call = tuple[str, str]


def nameless(path: str) -> str:
    """The path without the names of its parameters."""
    return re.sub(r"\{\w+\}", "{}", path)


def written_calls(*, planned: bool) -> set[Call]:
    tables = CONTRACT[CONTRACT.index(FIRST_SECTION) : CONTRACT.index(LAST_SECTION)]
    cells = [line.split(" | ")[0] for line in tables.splitlines() if line.startswith("| `")]
    found = (match for cell in cells for match in CALL.finditer(cell))
    calls = (match.groups() for match in found)
    return {(method, nameless(path)) for method, path, mark in calls if bool(mark) is planned}


def built_calls() -> Iterator[Call]:
    """The calls that every `…Api` of the gateway declares; a declaration needs none of its services."""
    for found in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if name.endswith("Api") and name != "Api" and kind.__module__ == module.__name__:
                api: Any = kind.__new__(kind)
                yield from ((each.method, nameless(each.path)) for each in api.endpoints())


def test_every_call_is_in_the_contract_and_none_that_is_built_is_marked_as_planned() -> None:
    assert set(built_calls()) == written_calls(planned=False)


def test_every_planned_call_says_so() -> None:
    planned = {(method, nameless(path)) for method, path in PLANNED}
    assert planned == written_calls(planned=True) | {("GET", "/console")}
    assert not planned & set(built_calls())


def commands_of(command: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
    if not hasattr(command, "commands"):
        yield " ".join(words)
        return
    if command.invoke_without_command:
        yield " ".join(words)
    for name, each in command.commands.items():
        yield from commands_of(each, (*words, name))


def written_commands() -> Iterator[str]:
    tables = CONTRACT[CONTRACT.index("## 13. ") : CONTRACT.index("## 14. ")]
    for line in tables.splitlines():
        if match := re.match(r"\| `([a-z]+)` \| (.*) \|$", line):
            noun, rest = match.groups()
            spans = [re.match(r"[a-z -]*", each)[0].strip() for each in re.findall(r"`([^`]+)`", rest)]  # type: ignore[index]
            names = [re.sub(r" --.*| -$", "", each).strip() for each in spans if each and not each.startswith("-")]
            yield from (f"{noun} {each}" for each in names)


def test_every_command_is_in_the_contract_and_no_other() -> None:
    whole = typer.main.get_command(build_app(frozenset(NOUNS)))
    built = set(commands_of(whole)) - {""}
    alone = {"replay", "audit", "migrate", "health", "trace"}
    assert built == set(written_commands()) | alone
