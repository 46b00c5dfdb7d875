"""`/api/v1/admin/users`: accounts found and shown, and what each may do (contract, §6)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.http.body import Body, BodyTimestamp, parse_body
from gateway.http.caller import caller_of
from gateway.http.endpoint import ADMIN_PATH, ADMINS, Endpoint, Returns, Shape
from gateway.http.idempotency import keep_response
from gateway.http.query import KeyedPageQuery, QueryFlag, parse_query, row_id_of
from gateway.http.sentence import Sentence
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.sessions import SessionStore
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.errors import InvalidStatusTransition, LastAdmin, UserNotFound, VersionConflict
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.privacy.holds import HoldDocument, active_holds, hold_document
from safevideo_common.users.account_details import DetailsDocument, details_document, find_details, find_sessions
from safevideo_common.users.directory import (
    MAX_SEARCH,
    AccountFilter,
    AccountRightsDocument,
    AccountState,
    AccountSummaryDocument,
    ListedAccount,
    find_accounts,
    rights_document,
    summary_document,
)
from safevideo_common.users.rights import Act, RoleGrant, UserRights
from safevideo_common.users.role_grants import PendingGrantDocument, find_pending, grant_document
from safevideo_common.web.responses import success

Version = Annotated[int, Field(ge=0, lt=2**63)]


class AccountsQuery(KeyedPageQuery):
    """The accounts to list."""

    search: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_SEARCH,
        description="The whole of an id, an e-mail, a user name, an id of Sharegram, or the subject of an identity.",
    )
    role: Role | None = Field(None, description="The role in force of the account itself, apart from merges.")
    state: AccountState | None = Field(None, description="`merged` is part of another account.")
    merged: QueryFlag | None = Field(None, description="Whether others are merged into the account.")
    is_held: QueryFlag | None = Field(None, alias="held", description="Whether a legal hold names the account.")


class RightsBody(Body):
    """The reason of an act, and the version of the account that the caller has seen."""

    reason: Sentence = Field(description="Such as the number of a ticket. No personal data: it is in the audit log.")
    version: Version = Field(description="`version` of the account as it was read. If it has changed since: 409.")


class RoleBody(RightsBody):
    """The role that the account gets, for good or until a time."""

    role: Annotated[Role, Field(strict=False)]
    until: BodyTimestamp | None = Field(
        None, description="Then the account has the role of before if that is lower, else `performer`."
    )


class AccountDetailsDocument(DetailsDocument):
    """An account with all that belongs to its person. `sessions` is null while Redis is unavailable."""

    holds: list[HoldDocument]


_AT: Final = "2026-11-24T20:58:25.123Z"
_CHANGED: Final[AccountRightsDocument] = {
    "id": 123,
    "role": "moderator",
    "ownRole": "moderator",
    "roleSource": "admin",
    "roleEndsAt": "2026-12-04T18:00:00.000Z",
    "roleAfterwards": "performer",
    "state": "active",
    "suspendedAt": None,
    "mergedInto": None,
    "mergedIds": [],
    "version": 3,
}
_SUMMARY: Final[AccountSummaryDocument] = {
    **_CHANGED,
    "email": "jane@example.com",
    "isEmailVerified": True,
    "username": "jane",
    "displayName": "Jane",
    "sharegramId": "sg_1",
    "createdAt": _AT,
    "lastSignInAt": _AT,
}
_DETAILS: Final[AccountDetailsDocument] = {
    "account": _SUMMARY,
    "userIds": [123],
    "performerIds": ["sg_1"],
    "members": [],
    "identities": [
        {
            "userId": 123,
            "provider": "sharegram",
            "issuer": "https://sharegram.example",
            "subject": "sg_1",
            "createdAt": _AT,
        }
    ],
    "sessions": [
        {
            "sessionId": "q3Jc0qPpXb6vN9wTqzWm8C2dYxL4sHkR",
            "provider": "sharegram",
            "createdAt": _AT,
            "expiresAt": "2026-11-25T20:58:25.123Z",
            "address": "192.0.2.7",
            "lastUsedAt": None,
        }
    ],
    "orders": [],
    "kycRequests": [
        {"requestId": 7, "performerId": "sg_1", "status": "verified", "submittedAt": _AT, "expiresAt": None}
    ],
    "changes": [
        {
            "id": 41,
            "at": _AT,
            "actor": "user:1",
            "role": "admin",
            "action": "users.role_changed",
            "target": "user:123",
            "remote": "192.0.2.1",
            "requestId": "0f8fad5bd9cb469fa16570867728950e",
            "details": {
                "roleBefore": "performer",
                "role": "moderator",
                "until": "2026-12-04T18:00:00.000Z",
                "reason": "stands in for Ann",
                "versionBefore": 2,
            },
        }
    ],
    "holds": [],
}
_PENDING: Final[PendingGrantDocument] = {
    "grantId": 2,
    "email": "ann@example.com",
    "role": "admin",
    "roleEndsAt": None,
    "reason": "first admin",
    "grantedAt": _AT,
    "grantedBy": "root",
    "expiresAt": "2026-12-01T20:58:25.123Z",
}
_RIGHTS: Final = {"reason": "ticket 114", "version": 3}
_ROLE: Final = {"role": "moderator", "until": "2099-12-04T18:00:00Z", **_RIGHTS}


class AccountsApi:
    """The endpoints of accounts: who there is, and what each may do."""

    def __init__(
        self, database: Database, sessions: SessionStore, rights: UserRights, clock: Clock, logger: FilteringBoundLogger
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._rights = rights
        self._clock = clock
        self._logger = logger.bind(stream="audit")

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        path = f"{ADMIN_PATH}/users"
        summaries = Returns(AccountSummaryDocument, _SUMMARY, shape=Shape.PAGE)
        grants = Returns(PendingGrantDocument, _PENDING, shape=Shape.LIST)
        details = Returns(AccountDetailsDocument, _DETAILS)
        return [
            Endpoint("GET", path, self.list_all, ADMINS, summaries, query=AccountsQuery),
            Endpoint("GET", f"{path}/grants", self.list_pending, ADMINS, grants),
            Endpoint("GET", f"{path}/{{id}}", self.show, ADMINS, details, (UserNotFound,)),
            _act(f"{path}/{{id}}/role", self.set_role, RoleBody, _ROLE),
            _act(f"{path}/{{id}}/suspend", self.suspend, RightsBody, _RIGHTS),
            _act(f"{path}/{{id}}/reinstate", self.reinstate, RightsBody, _RIGHTS),
            _act(f"{path}/{{id}}/sessions/end", self.end_sessions, RightsBody, _RIGHTS),
        ]

    async def list_all(self, request: web.Request) -> web.Response:
        """Return one page of accounts by id, merged and erased ones too.

        `ownRole` was given to the account itself. `role` is what its sessions have: the lowest of all that it is merged
        with.
        """
        query = parse_query(AccountsQuery, request)
        matching = AccountFilter(query.search, query.role, query.state, query.merged, query.is_held)
        async with self._database.read_connection() as reading:
            found, total = await find_accounts(
                reading, matching, self._clock(), page=query.page, limit=query.limit, order=query.order,
                after=query.after,
            )  # fmt: skip
        return query.response(map(summary_document, found), total)

    async def list_pending(self, _request: web.Request) -> web.Response:
        """Return the roles that wait for the first sign-in of somebody, the newest first. Each ends after a week."""
        async with self._database.read_connection() as reading:
            found = await find_pending(reading, self._clock())
        return success([grant_document(each) for each in found])

    async def show(self, request: web.Request) -> web.Response:
        """Return one account with identities, members, sessions, holds, orders, KYC requests and changes of rights.

        The time at which a session was last used is to the minute. The address is that of its sign-in. Changes come
        from the audit log, so they go back as far as it does.
        """
        async with self._database.read_connection() as reading:
            details = await find_details(reading, row_id_of(request), self._clock())
            holds = await active_holds(reading, details.person)
        document: AccountDetailsDocument = {
            **details_document(details, await find_sessions(self._sessions, details)),
            "holds": [hold_document(each) for each in holds],
        }
        return success(document)

    async def set_role(self, request: web.Request) -> web.Response:
        """Give the account a role of its own, for good or until a time. It counts within a second.

        A merged account has the lowest role of all that are in it. Raises `UserNotFound`, `VersionConflict`,
        `LastAdmin`, and `InvalidStatusTransition` for an account that is erased.
        """
        body = await parse_body(RoleBody, request)
        grant = RoleGrant(body.role, body.until)
        return await self._done("Role changed", request, body, lambda act: self._rights.set_role(act, grant))

    async def suspend(self, request: web.Request) -> web.Response:
        """Suspend the account with all that it is merged with. Sessions end within a second, and nobody can sign in.

        Raises `UserNotFound`, `VersionConflict`, `LastAdmin`, `InvalidStatusTransition`.
        """
        body = await parse_body(RightsBody, request)
        return await self._done("Account suspended", request, body, self._rights.suspend)

    async def reinstate(self, request: web.Request) -> web.Response:
        """End the suspension of the account. Sessions of before stay ended.

        Raises `UserNotFound`, `VersionConflict`, `InvalidStatusTransition`.
        """
        body = await parse_body(RightsBody, request)
        return await self._done("Account reinstated", request, body, self._rights.reinstate)

    async def end_sessions(self, request: web.Request) -> web.Response:
        """End all sessions of the account within a second, also those of sign-ins that are in progress.

        Raises `UserNotFound`, `VersionConflict`, and `InvalidStatusTransition` for a merged account: it has none.
        """
        body = await parse_body(RightsBody, request)
        return await self._done("Sessions ended", request, body, self._rights.end_sessions)

    async def _done(
        self,
        sentence: str,
        request: web.Request,
        body: RightsBody,
        run: Callable[[Act], Awaitable[ListedAccount]],
    ) -> web.Response:
        async def keep(tx: AsyncConnection, listed: ListedAccount) -> None:
            await keep_response(request, tx, 200, dict(rights_document(listed)))

        user_id, caller = row_id_of(request), caller_of(request)
        listed = await run(Act(user_id, caller, body.reason, body.version, keep))
        self._logger.info(sentence, user=user_id, actor=caller.name, request_id=caller.request_id)
        return success(rights_document(listed))


def _act(
    path: str, handler: Callable[[web.Request], Awaitable[web.Response]], body: type[Body], example: dict[str, object]
) -> Endpoint:
    errors = (UserNotFound, VersionConflict, LastAdmin, InvalidStatusTransition)
    rights = Returns(AccountRightsDocument, _CHANGED)
    return Endpoint(
        "POST", path, handler, ADMINS, rights, errors, takes_idempotency_key=True, body=body, body_example=example
    )
