"""The generator of `docs/roles.md`, which role may call what: `make roles-page` runs it."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any, Final

import gateway
from gateway.http.endpoint import Endpoint
from safevideo_common.auth.api_keys import Role

PAGE: Final = """\
# Roles

The matrix of the API: which role may call what. `make roles-page` writes this page from the declarations of the
endpoints; change those. `services/gateway/tests/integration/test_roles.py` calls each route with each role.

- A system has the role of its API key. A person has the role of the account: it was given to the account itself, and a
  merged account has the lowest role of all that are in it.
- Whoever has the wrong role gets 403 `FORBIDDEN`. A session of an account that is suspended, merged away or erased, and
  a key that is revoked, get 401 `UNAUTHORIZED` on every route that is not public.
- `owner`: performers see their own KYC requests only; those of others are 404.
- `GET /healthz`, `GET /readyz` and `GET /metrics` of each process are public. Whoever should not see them is kept out
  by the proxy in front.

| call | public | {roles} |
| --- | --- | {dashes} |
{rows}
"""

OWNER: Final = "owner"
YES: Final = "yes"


def endpoints() -> list[Endpoint]:
    """Return the endpoints that every `…Api` of the gateway declares. A declaration needs none of its services."""
    return sorted(_declared(), key=lambda each: (each.path, each.method))


def _declared() -> Iterator[Endpoint]:
    for found in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if name.endswith("Api") and name != "Api" and kind.__module__ == module.__name__:
                api: Any = kind.__new__(kind)
                yield from api.endpoints()


def roles_page() -> str:
    """Return the page."""
    return PAGE.format(
        roles=" | ".join(f"`{role}`" for role in Role),
        dashes=" | ".join("---" for _ in Role),
        rows="\n".join(_row(each) for each in endpoints()),
    )


def _row(endpoint: Endpoint) -> str:
    is_public = endpoint.roles is None
    cells = [_cell(endpoint, role) for role in Role]
    return f"| `{endpoint.method} {endpoint.path}` | {YES if is_public else ''} | {' | '.join(cells)} |"


def _cell(endpoint: Endpoint, role: Role) -> str:
    if endpoint.roles is None or role not in endpoint.roles:
        return ""
    is_own = role is Role.PERFORMER and endpoint.path.startswith("/api/v1/kyc/{")
    return OWNER if is_own else YES


if __name__ == "__main__":
    sys.stdout.write(roles_page())
