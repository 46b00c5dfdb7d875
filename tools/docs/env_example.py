"""The generator of `.env.example`: `make env-example` runs it, and a test compares the file and the settings."""

import sys
from collections.abc import Iterator
from typing import Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from gateway.settings import GatewaySettings
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.settings import CommonSettings
from sync_worker.settings import SyncWorkerSettings
from webhook_ingest.settings import IngestSettings

HEADING: Final = """\
# All settings of all services. `make env-example` writes this file from the settings classes; change those.
# A setting without a value is required. A commented line shows the default."""

SECTIONS: Final[tuple[tuple[str, type[CommonSettings]], ...]] = (
    ("every service", CommonSettings),
    ("kyc-worker and sync-worker", ConsumerSettings),
    ("webhook-ingest", IngestSettings),
    ("kyc-worker", KycWorkerSettings),
    ("sync-worker", SyncWorkerSettings),
    ("gateway", GatewaySettings),
)


def env_example() -> str:
    """Return the file. A setting is in the first section that has it, a port in the section of its service."""
    parts = [HEADING]
    listed: set[str] = set()
    for title, settings in SECTIONS:
        names = [name for name in settings.model_fields if name not in listed]
        listed.update(name for name in names if name != "port")
        parts.append("\n".join([f"# --- {title} ---", "", *_lines(settings, names)]).rstrip())
    return "\n\n".join(parts) + "\n"


def _lines(settings: type[CommonSettings], names: list[str]) -> Iterator[str]:
    for name in names:
        field = settings.model_fields[name]
        if name == "port" and field.default == 0:
            continue  # no service listens on the common default
        yield f"# {field.description}"
        yield f"{name.upper()}=" if field.is_required() else f"# {name.upper()}={_default(field)}"
        yield ""


def _default(field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, SecretStr):
        return default.get_secret_value()  # a default in the code is no secret
    return "" if default is None else str(default)


if __name__ == "__main__":
    sys.stdout.write(env_example())
