"""The secrets of one system: made at its first run, kept in `.run/secrets.json` for the later ones."""

from base64 import urlsafe_b64encode
from pathlib import Path
from secrets import token_bytes
from typing import Final

import msgspec

from safevideo_common.errors import StartupError
from safevideo_devstack.run.place import write_private

SECRET_BYTES: Final = 32


class SecretStore:
    """Secrets by name. Readable by their owner alone; never printed, never in an environment but the services' own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._secrets = _read(path)

    def get(self, name: str) -> str | None:
        """The secret, if it was made already."""
        return self._secrets.get(name)

    def made(self, name: str) -> str:
        """The secret; a new random one the first time, in URL-safe base64 as `ENCRYPTION_KEY` wants it."""
        if name not in self._secrets:
            self.put(name, urlsafe_b64encode(token_bytes(SECRET_BYTES)).decode())
        return self._secrets[name]

    def put(self, name: str, secret: str) -> None:
        """Keep what was made elsewhere. It is on disk when this returns."""
        self._secrets[name] = secret
        write_private(self._path, msgspec.json.format(msgspec.json.encode(self._secrets)).decode() + "\n")


def _read(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError:
        raise StartupError(f"{path} is damaged. Type: make clean, which forgets all state") from None
