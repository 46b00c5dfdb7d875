"""MariaDB, the MySQL-family server of the local stack."""

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from safevideo_common.testing.backends import probes, process
from safevideo_common.testing.backends.programs import find
from safevideo_common.testing.backends.stack import Role

USER = "safevideo"
INSTALL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class MariaDBServer:
    """A MariaDB on the loopback interface with one account, whose password is made on the first preparation."""

    folder: Path
    port: int
    name: str = "mariadb"
    software: str = "MariaDB"
    role: Role = "database"

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Of the database `safevideo`, for SQLAlchemy's asynchronous engine."""
        return f"mysql+aiomysql://{USER}:{self._secret.read_text()}@{self.address}/safevideo?charset=utf8mb4"

    def prepare(self) -> None:
        """Write the configuration and, the first time, the system tables (0.7 s)."""
        self._exchange.mkdir(parents=True, exist_ok=True)
        self._temporary.mkdir(exist_ok=True)
        if not self._secret.exists():
            _write_private(self._secret, secrets.token_hex(16))
        _write_private(self._accounts, self._account_statements())
        self._configuration.write_text(self._settings())
        if not self._data.exists():
            self._install()

    def command(self) -> list[str]:
        """Program and arguments."""
        return [find("mariadbd") or "mariadbd", f"--defaults-file={self._configuration}"]

    def probe(self) -> str:
        """Its version, such as `10.11.14-MariaDB-0+deb12u2`. Raises `NotReady`."""
        return probes.mysql_version(self.url)

    def _install(self) -> None:
        # Whole or not at all: a preparation that was interrupted is done again. With the method `socket` there is no
        # `root` without a password, so the only way in over TCP is the account of the init file.
        draft = self.folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        process.run(
            [
                find("mariadb-install-db") or "mariadb-install-db",
                f"--defaults-file={self._configuration}",
                f"--datadir={draft}",
                "--auth-root-authentication-method=socket",
                "--skip-test-db",
            ],
            self.folder / "install.log",
            seconds=INSTALL_SECONDS,
        )
        draft.rename(self._data)

    def _settings(self) -> str:
        settings = {
            "datadir": self._data,
            "tmpdir": self._temporary,  # a server that starts clears it of what looks like its own
            "port": self.port,
            "bind-address": "127.0.0.1",
            "socket": "mariadb.sock",  # relative to the data folder: a socket's whole path may have 107 bytes only
            "pid-file": "mariadb.pid",
            "init-file": self._accounts,
            "skip-name-resolve": 1,
            "secure-file-priv": self._exchange,
            "local-infile": 0,
            "transaction-isolation": "READ-COMMITTED",
            "loose-innodb_snapshot_isolation": 1,  # releases before 10.6.18 do not know it
            "innodb_flush_log_at_trx_commit": 1,
            "innodb_buffer_pool_size": "1G",  # for the indexes of long tables; what is not touched takes no memory
            "character-set-server": "utf8mb4",
        }
        if os.geteuid() == 0:
            # An account of its own could not reach a checkout below a home folder. What runs here is reachable from
            # this machine alone, by password, and may touch no file outside of its data folder.
            settings["user"] = "root"
        return "[mariadbd]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())

    def _account_statements(self) -> str:
        account = f"'{USER}'@'127.0.0.1'"
        return (
            f"CREATE DATABASE IF NOT EXISTS safevideo;\n"
            f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{self._secret.read_text()}';\n"
            f"GRANT ALL ON *.* TO {account};\n"
        )

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
        return self.folder / "mariadb.cnf"

    @property
    def _accounts(self) -> Path:
        return self.folder / "accounts.sql"

    @property
    def _secret(self) -> Path:
        return self.folder / "password"


def _write_private(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.write_text(content)
