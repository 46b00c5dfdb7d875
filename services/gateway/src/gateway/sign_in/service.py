"""The steps that all sign-ins share: an identity becomes an account, and the account gets a session."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, NamedTuple

from aiohttp import web

from gateway.http.guard import CLIENT_ADDRESS
from gateway.metrics import GatewayMetrics
from gateway.sign_in.provider import IdentityProvider
from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditEntry, Caller
from safevideo_common.auth.access_tokens import AccessTokens
from safevideo_common.auth.authentication import SessionCookie
from safevideo_common.auth.jwks import SigningKeysUnavailable
from safevideo_common.auth.sessions import NewSession, SessionStore, UserSession
from safevideo_common.auth.tokens import VerifiedToken
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.errors import (
    IntegrationNotConfigured,
    SafeVideoError,
    ServiceUnavailable,
    SsoAuthFailed,
    SsoUnavailable,
    ValidationFailed,
)
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.users.account import Account
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.web.correlation import CORRELATION


class SignedIn(NamedTuple):
    """The result of a sign-in."""

    account: Account
    session: UserSession
    secret: str

    @property
    def cookie(self) -> SessionCookie:
        """The cookie that opens the session."""
        return SessionCookie(self.session.id, self.secret)


STARTED: Final = "sessions.started"
ENDED: Final = "sessions.ended"


class SignOutAudit:
    """The audit log of sign-outs. An entry is committed before the sessions end, so none is ever lost.

    A sign-out that then fails is repeated by its caller, and has an entry for each attempt.
    """

    def __init__(self, database: Database, clock: Clock, logger: FilteringBoundLogger) -> None:
        self._database = database
        self._clock = clock
        self._logger = logger.bind(stream="audit")

    async def record(self, caller: Caller, details: Mapping[str, object]) -> None:
        """Log a sign-out and add it to the audit log. Raises the errors of the database: then nobody is signed out."""
        async with self._database.transaction() as tx:
            await audit_store.record(tx, caller.entry(ENDED, self._clock, details))
        self._logger.info(ENDED, actor=caller.name, remote=caller.remote, request_id=caller.request_id, **details)


class SignInService:
    """Signs people in. Without a provider, or without `tokens`, every sign-in is `INTEGRATION_NOT_CONFIGURED`."""

    def __init__(
        self,
        providers: Mapping[str, IdentityProvider],
        accounts: UserAccounts,
        sessions: SessionStore,
        tokens: AccessTokens | None,
        audit: SignOutAudit,
        clock: Clock,
        metrics: GatewayMetrics,
        logger: FilteringBoundLogger,
        is_sharegram_enabled: Callable[[], bool],
    ) -> None:
        """`is_sharegram_enabled` says whether the integration and its feature flag allow sign-ins with Sharegram."""
        self._is_sharegram_enabled = is_sharegram_enabled
        self.audit: Final = audit
        self._clock = clock
        self.providers: Final = providers
        self.sessions: Final = sessions
        self._accounts = accounts
        self._tokens = tokens
        self._metrics = metrics
        self._logger = logger.bind(stream="audit")

    async def end_all(self, user_id: int, caller: Caller, details: Mapping[str, object]) -> None:
        """End all sessions of a person, with the entry in the audit log. Raises the errors of the database."""
        await self._accounts.end_sessions(user_id, caller.entry(ENDED, self._clock, details, f"user:{user_id}"))
        self._logger.info(ENDED, actor=caller.name, remote=caller.remote, request_id=caller.request_id, **details)

    def provider(self, name: str) -> IdentityProvider:
        """Return an enabled provider. Raises `IntegrationNotConfigured`, or `ValidationFailed` if it is unknown."""
        if self.is_enabled(name):
            return self.providers[name]
        if name == SHAREGRAM or name in self.providers:
            raise IntegrationNotConfigured("Sign-in is not configured, or switched off.")
        raise ValidationFailed("There is no such provider.", details={"provider": "is not configured"})

    def is_enabled(self, name: str) -> bool:
        """Return whether people can sign in with this provider."""
        is_switched_off = name == SHAREGRAM and not self._is_sharegram_enabled()
        return name in self.providers and self._tokens is not None and not is_switched_off

    def access_token(self, signed_in: SignedIn) -> str:
        """Return the access token of a new session."""
        assert self._tokens is not None
        return self._tokens.issue(signed_in.session, signed_in.secret)

    @asynccontextmanager
    async def attempt(self, provider: str) -> AsyncIterator[None]:
        """Count and log one sign-in. What is unavailable inside becomes `SsoUnavailable`: never a 401, and no loop."""
        try:
            try:
                yield
            except (ServiceUnavailable, SigningKeysUnavailable) as error:
                raise SsoUnavailable("No session can be made now.", retry_after=error.retry_after or 5) from error
        except SafeVideoError as error:
            reason = (error.details or {}).get("reason")
            self._metrics.sign_in(provider, "unavailable" if error.status >= 500 else "refused")
            self._logger.warning("Sign-in failed", code=error.code, provider=provider, reason=reason or error.message)
            raise
        self._metrics.sign_in(provider, "signed_in")

    async def sign_in(
        self, request: web.Request, provider: IdentityProvider, token: VerifiedToken, began_at: datetime
    ) -> SignedIn:
        """Return the account of the token's identity with a new session.

        The account and the entry in the audit log are one transaction. If the session cannot be made after it, the
        entry stands, and the sign-in fails and is repeated.
        `began_at` is `sessions.now()` when the request came: a later sign-out ends this sign-in too. Raises
        `UserMappingConflict`, `SsoAuthFailed` if the session was ended while it began, and what is unavailable.
        """

        def entry(account: Account) -> AuditEntry:
            caller = Caller(
                f"user:{account.id}", account.role, request[CLIENT_ADDRESS], request[CORRELATION].request_id
            )
            return caller.entry(STARTED, self._clock, {"userId": account.id, "provider": provider.name})

        account = await self._accounts.sign_in(
            provider.identity_of(token), may_link=provider.settings.links_by_email, audit=entry
        )
        sid = token.claims.get("sid")
        new = NewSession(
            account.id,
            account.generation,
            provider.name,
            token.issuer,
            token.subject or "",
            sid if isinstance(sid, str) and sid else None,
            token.issued_at or began_at,
            began_at,
            request[CLIENT_ADDRESS],
        )
        created = await self.sessions.create(new)
        if created is None:
            raise SsoAuthFailed("This sign-in was ended by a sign-out. Sign in again.")
        self._logger.info(STARTED, actor=f"user:{account.id}", provider=provider.name)
        return SignedIn(account, *created)
