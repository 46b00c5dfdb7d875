"""The one table of what came up, for the command line and for test runs."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from safevideo_devstack.backends.stack import Backends


def render(backends: Backends) -> Group:
    """Each part with its version and the time it took, then why better stacks were passed over."""
    table = Table(title=f"Backends: {backends.stack}", title_justify="left")
    for column in ("part", "what it is", "version", "address"):
        table.add_column(column, overflow="fold")
    table.add_column("came up in", justify="right")
    for part in backends.parts:
        table.add_row(part.name, part.software, part.version or "–", part.address, f"{part.started_in_seconds:.1f} s")  # noqa: RUF001
    return Group(table, *(Text(f"not {reason}") for reason in backends.skipped))
