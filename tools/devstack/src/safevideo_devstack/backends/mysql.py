"""MySQL, the server of production, for the local stack where `LOCAL_DATABASE=mysql` asks for it."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from safevideo_devstack.backends.mysql_family import MySQLFamilyServer
from safevideo_devstack.backends.programs import find

VERSION_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class MySQLServer(MySQLFamilyServer):
    """A MySQL, the `mysqld` of PATH; its system tables are written in 4 s. It keeps a binary log, as in production."""

    name: str = "mysql"
    software: str = "MySQL"

    def program(self) -> str:
        """The server's."""
        return find("mysqld") or "mysqld"

    def installing(self) -> list[str]:
        """What writes the system tables: the server itself."""
        return [self.program(), "--initialize-insecure"]

    def own_settings(self) -> Mapping[str, object]:
        """What MariaDB does not know, or means otherwise."""
        return {
            "mysqlx": 0,  # it has a port of its own
            "enforce-gtid-consistency": 0,  # as 8.4 has it; of tests, one counts in a table without transactions
            "gtid-mode": "OFF",  # cannot be on without the former
        }

    def account_statements(self) -> str:
        """The account of all, and none for who comes by the socket without a password."""
        return MySQLFamilyServer.account_statements(self) + "ALTER USER 'root'@'localhost' ACCOUNT LOCK;\n"


def is_mysql() -> bool:
    """Whether the `mysqld` of PATH is there and is MySQL's: MariaDB's packages have a link of that name."""
    if not (program := find("mysqld")):
        return False
    told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=False)
    return "MariaDB" not in told.stdout
