"""The code speaks the words of docs/glossary.md, in modules that are worth opening."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for pattern in ("libs/*/src", "services/*/src", "tools/*/src")
    for folder in ROOT.glob(pattern)
    for path in folder.rglob("*.py")
)
PRODUCTION = [path for path in SOURCES if "tools" not in path.relative_to(ROOT).parts[:1]]
PAGES = [path for path in ROOT.glob("**/*.md") if not {".venv", ".run"} & set(path.relative_to(ROOT).parts)]

# The word, and what to say instead.
BANNED_PARTS: Mapping[str, str] = {
    "aloft": "in_flight",
    "allowance": "token_bucket",
    "asked": "request",
    "ate": "record_fetch",
    "befall": "inject",
    "bury": "dead_letter",
    "foresee": "preview",
    "foreseeing": "dry_run",
    "forecast": "dry_run",
    "hungry": "starved",
    "lacking": "missing_only",
    "mend": "fix",
    "mended": "fixed",
    "mistyped": "invalid",
    "moment": "timestamp",
    "most": "max",
    "owe": "pending",
    "owed": "pending",
    "parked": "blocked",
    "safekeeping": "spooling",
    "scribe": "writer",
    "stamp": "version",
    "stamps": "versions",
    "stirred": "wakeup",
    "suspect": "throttled",
    "suspects": "throttled",
    "told": "notify, report or publish",
    "tallies": "counts",
    "verdict": "outcome",
    "verdicts": "outcomes",
    "wanted": "filter",
}
"""Not to be a part of an identifier."""

BANNED_NAMES: Mapping[str, str] = {
    "given": "external",
    "held": "locked",
    "kept": "retained",
    "known": "existing_ids",
    "log": "logger or broker",
    "lost": "expired",
    "place": "position or path",
    "placed": "stored",
    "round": "batch",
    "seen": "existing_ids",
    "shown": "visible",
    "taken": "batch",
    "turn": "run_once",
}
"""Not to be a whole identifier; a builtin that is called is none."""

BANNED_PHRASES: Mapping[str, str] = {
    r"\bthe door\b": "webhook-ingest",
    r"\b(?:is|are|was|being) away\b": "unavailable",
    r"\btaken up\b": "redriven",
    r"\bput off\b": "retried later",
    r"\bin hand\b": "in flight, running",
    r"\bset aside\b": "dead-lettered, moved",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bforesee[ns]?\b": "preview",
    r"\bforesaw\b": "previewed",
    r"\bbur(?:y|ies|ied)\b": "dead-letter",
    r"\baloft\b": "in flight",
    r"\bhouse rules\b": "coding rules",
    r"\bthe log is\b": "Kafka is",
}

OPENINGS = {
    "As",
    "How",
    "If",
    "Is",
    "It",
    "Its",
    "Nobody",
    "Of",
    "One",
    "That",
    "These",
    "This",
    "Those",
    "To",
    "Until",
    "What",
    "When",
    "Where",
    "Whether",
    "Which",
    "Who",
    "Whoever",
    "Whose",
    "With",
}
"""Words that no docstring begins with: it begins with a verb, or with a noun phrase."""

CONTRACT_WORDS = {"docs/contract.md"}
"""Pages whose words are fixed."""

QUOTED = re.compile(r"`[^`]*`|```.*?```", re.DOTALL)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module_of(path: Path) -> str:
    parts = list(path.relative_to(next(each for each in path.parents if each.name == "src")).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree(path)):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr


def parts_of(identifier: str) -> set[str]:
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier).lower().strip("_").split("_"))


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the comments and docstrings of a module."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := re.search(r"(?:^|\s)# (.*)", line):
            yield number, match[1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_no_identifier_has_a_banned_word() -> None:
    wrong = [
        f"{where(path, line)} {name}: say {instead}"
        for path in SOURCES
        for line, name in identifiers(path)
        for instead in [
            next((BANNED_PARTS[part] for part in parts_of(name) if part in BANNED_PARTS), None)
            or BANNED_NAMES.get(name.strip("_").lower())
        ]
        if instead
    ]
    assert wrong == []


def test_no_comment_and_no_docstring_has_a_banned_phrase() -> None:
    wrong = [
        f"{where(path, line)} {found[0]!r}: say {instead}"
        for path in SOURCES
        for line, text in prose(path)
        for phrase, instead in BANNED_PHRASES.items()
        if (found := re.search(phrase, text, re.IGNORECASE))
    ]
    assert wrong == []


def test_no_page_has_a_banned_phrase() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} {found[0]!r}: say {instead}"
        for path in PAGES
        if str(path.relative_to(ROOT)) not in CONTRACT_WORDS | {"docs/glossary.md"}
        for phrase, instead in BANNED_PHRASES.items()
        if (found := re.search(phrase, QUOTED.sub("", path.read_text()), re.IGNORECASE))
    ]
    assert wrong == []


def test_docstrings_begin_with_a_verb_or_a_noun_phrase() -> None:
    wrong = [
        f"{where(path, getattr(node, 'lineno', 1))} {text.splitlines()[0][:60]}"
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and (text := ast.get_docstring(node))
        and re.split(r"\W", text, maxsplit=1)[0] in OPENINGS
    ]
    assert wrong == []


def test_no_class_name_is_used_twice() -> None:
    names = Counter(
        node.name
        for path in PRODUCTION
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and (path.is_relative_to(ROOT / "libs") or not node.name.startswith("_"))
    )
    assert [name for name, count in names.items() if count > 1] == []


def imports_of(path: Path, modules: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {full if (full := f"{node.module}.{each.name}") in modules else node.module for each in node.names}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
    return found & modules


def test_no_small_module_has_a_sibling_as_its_only_importer() -> None:
    modules = {module_of(path): path for path in PRODUCTION}
    importers: dict[str, set[str]] = defaultdict(set)
    for name, path in modules.items():
        for imported in imports_of(path, set(modules)):
            importers[imported].add(name)
    wrong = [
        f"{name} is imported by {next(iter(importers[name]))} only"
        for name, path in modules.items()
        if len(path.read_text().splitlines()) < 80
        and path.stem not in {"__init__", "__main__", "settings", "metrics", "port", "app"}
        and name != "safevideo_common.database.dialect.literals"  # the argument for its escaping stands alone
        and len(importers[name]) == 1
        and next(iter(importers[name])).rpartition(".")[0] == name.rpartition(".")[0]
    ]
    assert wrong == []


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"])
def test_files_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    names = set(re.findall(r"`((?:libs|services|tools|tests|deploy|docs)/[\w./-]+)`", text))
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []
