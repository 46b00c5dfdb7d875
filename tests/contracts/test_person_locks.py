"""Whatever writes on a person has locked the person: in the same function, or by a lock that it is given.

The tables of the people's half are written by functions that take a `PersonLock`, or call one of the functions that
make one. Only `database/person_locks.py` and `users/person.py` make one.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = sorted(
    path
    for pattern in ("libs/*/src", "services/*/src", "tools/cli/src")
    for folder in ROOT.glob(pattern)
    for path in folder.rglob("*.py")
    if "migrations" not in path.parts
)
TABLES: Final = frozenset({
    "users", "user_identities", "user_merges", "legal_holds", "legal_hold_subjects", "erasure_orders",
    "erased_identifiers", "role_grants",
})  # fmt: skip
WRITES: Final = frozenset({"insert", "update", "delete"})
LOCKS: Final = frozenset({"lock", "lock_known", "lock_root", "lock_names", "lock_performer", "lock_request"})
PROOFS: Final = frozenset({"PersonLock", "LockedPerson"})
MAKERS: Final = frozenset({"database/person_locks.py", "users/person.py"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    """Yield the outermost functions and methods: what is inside belongs to them."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield node
        else:
            yield from functions(node)


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def written(function: Function) -> set[str]:
    """Return the tables that a function writes: `update(users)`, or `users.delete()`."""
    found = set()
    for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        if name_of(call.func) in WRITES and call.args:
            found.add(name_of(call.args[0]))
        if isinstance(call.func, ast.Attribute) and call.func.attr in WRITES:
            found.add(name_of(call.func.value))
    return found & TABLES


def has_lock(function: Function) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    is_given = any(each.annotation and name_of(each.annotation) in PROOFS for each in arguments)
    calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
    return is_given or any(name_of(call.func) in LOCKS for call in calls)


def writers() -> dict[str, Function]:
    return {
        f"{path.relative_to(ROOT)}:{function.name}": function
        for path in SOURCES
        for function in functions(ast.parse(path.read_text()))
        if written(function)
    }


@pytest.mark.parametrize("place", writers())
def test_writer_on_a_person_has_the_lock(place: str) -> None:
    function = writers()[place]
    assert has_lock(function), f"{place} writes {written(function)}: take a PersonLock, or call users/person.py"


def test_all_tables_of_people_have_writers() -> None:
    assert {table for function in writers().values() for table in written(function)} == TABLES


def test_only_the_two_modules_of_locks_make_one() -> None:
    makers = {
        str(path.relative_to(path.parents[1]))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and name_of(node.func) in PROOFS
    }
    assert makers == MAKERS
