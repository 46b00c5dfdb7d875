"""MariaDB and MySQL as servers of the local stack: MariaDB by default, MySQL with `LOCAL_DATABASE=mysql`."""

import os
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safevideo_devstack.backends import probes, process
from safevideo_devstack.backends.install import find
from safevideo_devstack.backends.stack import Role

USER = "safevideo"
LOOPBACK = "127.0.0.1"
INSTALL_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class MySQLFamilyServer(ABC):
    """A server with one account; the first preparation makes its password."""

    folder: Path
    port: int
    name: str
    software: str
    role: Role = "database"
    settings: Mapping[str, object] = field(default_factory=dict)
    """Further settings; they win."""
    host: str = LOOPBACK
    """The address that it listens on. On another one than the loopback's the account is good from any address."""

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the database `safevideo`, for SQLAlchemy's asynchronous engine."""
        return f"mysql+aiomysql://{USER}:{self._secret.read_text()}@{self.address}/safevideo?charset=utf8mb4"

    def prepare(self) -> None:
        """Write the configuration and, the first time, the system tables."""
        self._exchange.mkdir(parents=True, exist_ok=True)
        self._temporary.mkdir(exist_ok=True)
        if not self._secret.exists():
            _write_private(self._secret, secrets.token_hex(16))
        _write_private(self._accounts, self.account_statements())
        self._configuration.write_text(self._settings())
        if not self._data.exists():
            self._install()

    def command(self) -> list[str]:
        """Return program and arguments."""
        # Not in the configuration: an installation reads that too, and has no table of accounts yet.
        return [self.program(), f"--defaults-file={self._configuration}", f"--init-file={self._accounts}"]

    def probe(self) -> str:
        """Return its version, such as `10.11.14-MariaDB-0+deb12u2` or `8.4.6`. Raises `NotReady`."""
        return probes.mysql_version(self.url)

    @abstractmethod
    def program(self) -> str:
        """Return the server's program, with its path where it is found."""

    @abstractmethod
    def install_command(self) -> list[str]:
        """Return program and arguments that write the system tables, without configuration and data folder."""

    @abstractmethod
    def own_settings(self) -> Mapping[str, object]:
        """Return the settings that only this kind of server has."""

    def account_statements(self) -> str:
        """Return the SQL that the server runs at each start, with all privileges."""
        account = f"'{USER}'@'{LOOPBACK if self.host == LOOPBACK else '%'}'"
        return (
            f"CREATE DATABASE IF NOT EXISTS safevideo;\n"
            f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{self._secret.read_text()}';\n"
            f"GRANT ALL ON *.* TO {account} WITH GRANT OPTION;\n"
        )

    def _install(self) -> None:
        # Whole or not at all: a preparation that was interrupted is done again.
        draft = self.folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        program, *arguments = self.install_command()
        paths = [f"--defaults-file={self._configuration}", f"--datadir={draft}"]  # the first one must come first
        process.run([program, *paths, *arguments], self.folder / "install.log", seconds=INSTALL_SECONDS)
        draft.rename(self._data)

    def _settings(self) -> str:
        settings: dict[str, object] = {
            "datadir": self._data,
            "tmpdir": self._temporary,  # its own: a server that starts removes files of other servers there
            "port": self.port,
            "bind-address": self.host,
            "socket": "server.sock",  # relative to the data folder: a socket's whole path may have 107 bytes only
            "pid-file": "server.pid",
            "skip-name-resolve": 1,
            "secure-file-priv": self._exchange,
            "local-infile": 0,
            "transaction-isolation": "READ-COMMITTED",
            "innodb_flush_log_at_trx_commit": 1,
            "innodb_buffer_pool_size": "1G",  # for the indexes of long tables; unused pages take no memory
            "character-set-server": "utf8mb4",
            **self.own_settings(),
            **self.settings,
        }
        if os.geteuid() == 0:
            # An account of its own could not reach a checkout below a home folder. What runs here is reachable from
            # this machine alone, by password, and may touch no file outside of its data folder.
            settings["user"] = "root"
        return "[mysqld]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _exchange(self) -> Path:
        return self.folder / "exchange"

    @property
    def _temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def _configuration(self) -> Path:
        return self.folder / "server.cnf"

    @property
    def _accounts(self) -> Path:
        return self.folder / "accounts.sql"

    @property
    def _secret(self) -> Path:
        return self.folder / "password"


def _write_private(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.write_text(content)


@dataclass(frozen=True, slots=True)
class MariaDBServer(MySQLFamilyServer):
    """A MariaDB; its system tables are written in 0.7 s."""

    name: str = "mariadb"
    software: str = "MariaDB"

    def program(self) -> str:
        """Return the server's program."""
        return find("mariadbd") or "mariadbd"

    def install_command(self) -> list[str]:
        """Return the command that writes the system tables."""
        # With the method `socket` there is no `root` without a password, so the only way in over TCP is the account of
        # the init file.
        program = find("mariadb-install-db") or "mariadb-install-db"
        return [program, "--auth-root-authentication-method=socket", "--skip-test-db"]

    def own_settings(self) -> Mapping[str, object]:
        """Return the settings that MySQL does not have, nor releases before 10.6.18."""
        return {"loose-innodb_snapshot_isolation": 1}


@dataclass(frozen=True, slots=True)
class MySQLServer(MySQLFamilyServer):
    """A MySQL, the `mysqld` of PATH; its system tables are written in 4 s. It keeps a binary log, as in production."""

    name: str = "mysql"
    software: str = "MySQL"

    def program(self) -> str:
        """Return the server's program."""
        return find("mysqld") or "mysqld"

    def command(self) -> list[str]:
        """Return program and arguments. The lock of a killed server goes, since that may not be reaped yet."""
        (self._data / "server.sock.lock").unlink(missing_ok=True)
        return MySQLFamilyServer.command(self)

    def install_command(self) -> list[str]:
        """Return the command that writes the system tables: the server itself."""
        return [self.program(), "--initialize-insecure"]

    def own_settings(self) -> Mapping[str, object]:
        """Return the settings that MariaDB does not have, or reads differently."""
        return {
            "mysqlx": 0,  # it has a port of its own
            "enforce-gtid-consistency": 0,  # as 8.4 has it; of tests, one counts in a table without transactions
            "gtid-mode": "OFF",  # cannot be on without the former
        }

    def account_statements(self) -> str:
        """Return the SQL of the account, and lock the one that could connect by socket without a password."""
        return MySQLFamilyServer.account_statements(self) + "ALTER USER 'root'@'localhost' ACCOUNT LOCK;\n"
