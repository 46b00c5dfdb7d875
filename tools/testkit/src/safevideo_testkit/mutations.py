"""Named mutations of the code: defects of which a test must prove that it detects them.

A scenario is a coroutine function that raises `AssertionError` when a promise is broken. `assert_detected` runs it on
the code as it is, where it must pass, and on the mutated code, where it must fail.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Scenario = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A method of a class or a function of a module that is replaced. `name` says what the mutated code does wrong."""

    name: str
    owner: object
    method: str
    replacement: Callable[..., object]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Mutate the running code for the block."""
        original = getattr(self.owner, self.method)
        setattr(self.owner, self.method, self.replacement)
        try:
            yield
        finally:
            setattr(self.owner, self.method, original)


async def assert_detected(mutation: Mutation, scenario: Scenario) -> None:
    """Raise `AssertionError` unless the scenario passes on the code and fails on the mutated code."""
    await scenario()
    with mutation.applied():
        try:
            await scenario()
        except AssertionError:
            return
    raise AssertionError(f"no test detects this defect: {mutation.name}")
