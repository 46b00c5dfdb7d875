"""Who uses this terminal, for the audit log."""

import socket
from getpass import getuser
from typing import Final
from uuid import uuid4

from safevideo_common.audit.store import Caller

_NAME_LENGTH: Final = 64


def caller() -> Caller:
    """The user of this terminal. The request id ties the entries of one command together."""
    return Caller(getuser()[:_NAME_LENGTH], "cli", socket.gethostname()[:_NAME_LENGTH], uuid4().hex)
