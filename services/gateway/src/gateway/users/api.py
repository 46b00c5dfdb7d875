"""`/api/v1/admin/users`: accounts that share an e-mail, and their merge (contract, §6)."""

from collections.abc import Sequence
from typing import Annotated, Final, TypedDict

from aiohttp import web
from pydantic import Field

from gateway.http.body import Body, parse_body
from gateway.http.caller import caller_of
from gateway.http.endpoint import ADMIN_PATH, ADMINS, Endpoint, Returns, Shape
from gateway.http.query import PageQuery, parse_query, row_id_of
from safevideo_common.clock import TimestampText, format_timestamp, rfc3339
from safevideo_common.database.engine import Database
from safevideo_common.errors import InvalidStatusTransition, LastAdmin, UserNotFound
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.users import store
from safevideo_common.users.merge import MAX_DUPLICATES, UserChanges, UserMerges
from safevideo_common.users.store import User
from safevideo_common.web.responses import success

UserId = Annotated[int, Field(ge=1, lt=2**63)]


class AccountDocument(TypedDict):
    """An account among its duplicates."""

    id: int
    username: str | None
    role: str
    isEmailVerified: bool | None
    sharegramId: str | None
    createdAt: TimestampText
    updatedAt: TimestampText
    lastSignInAt: TimestampText | None


class DuplicatesDocument(TypedDict):
    """Accounts that share an e-mail, the oldest first."""

    email: str
    users: list[AccountDocument]


class UserChangesDocument(TypedDict):
    """The effect of a merge, or of its preview: rows by column, fields and role of the primary account afterwards."""

    dryRun: bool
    primaryUserId: int
    duplicateUserIds: list[int]
    moved: dict[str, int]
    fields: list[str]
    role: str
    notMoved: list[str]


_ACCOUNT: Final[AccountDocument] = {
    "id": 123,
    "username": "jane",
    "role": "performer",
    "isEmailVerified": True,
    "sharegramId": "sg_1",
    "createdAt": "2026-11-24T20:58:25.123Z",
    "updatedAt": "2026-11-24T20:58:25.123Z",
    "lastSignInAt": None,
}
_DUPLICATES: Final[DuplicatesDocument] = {"email": "jane@example.com", "users": [_ACCOUNT, {**_ACCOUNT, "id": 456}]}
_CHANGES: Final[UserChangesDocument] = {
    "dryRun": True,
    "primaryUserId": 123,
    "duplicateUserIds": [456, 789],
    "moved": {"user_identities.user_id": 2},
    "fields": ["display_name"],
    "role": "performer",
    "notMoved": [],
}


class MergeBody(Body):
    """The account that stays, and those that become part of it."""

    primary_user_id: UserId
    duplicate_user_ids: list[UserId] = Field(min_length=1, max_length=MAX_DUPLICATES)
    dry_run: bool = False


class UnmergeBody(Body):
    """The kind of reversal: a real one, or a preview."""

    dry_run: bool = True


class UsersApi:
    """The endpoints of duplicate accounts."""

    def __init__(self, database: Database, merges: UserMerges, logger: FilteringBoundLogger) -> None:
        self._database = database
        self._merges = merges
        self._logger = logger.bind(stream="audit")

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        path = f"{ADMIN_PATH}/users"
        duplicates = Returns(DuplicatesDocument, _DUPLICATES, shape=Shape.PAGE)
        changes = Returns(UserChangesDocument, _CHANGES)
        errors = (UserNotFound, InvalidStatusTransition)
        merge = {"primaryUserId": 123, "duplicateUserIds": [456, 789], "dryRun": True}
        return [
            Endpoint("GET", f"{path}/duplicates", self.duplicates, ADMINS, duplicates, query=PageQuery),
            Endpoint(
                "POST", f"{path}/merge", self.merge, ADMINS, changes, (*errors, LastAdmin), body=MergeBody,
                body_example=merge,
            ),
            Endpoint(
                "POST", f"{path}/{{id}}/unmerge", self.unmerge, ADMINS, changes, errors, body=UnmergeBody,
                body_example={"dryRun": True},
            ),
        ]  # fmt: skip

    async def duplicates(self, request: web.Request) -> web.Response:
        """Return one page of the e-mails that several accounts share, without merged accounts."""
        query = parse_query(PageQuery, request)
        async with self._database.read_connection() as reading:
            groups, total = await store.find_duplicates(reading, page=query.page, limit=query.limit, order=query.order)
        return query.response(map(_duplicates_document, groups), total)

    async def merge(self, request: web.Request) -> web.Response:
        """Merge duplicates into one account: all or nothing. They cannot sign in any more, and their sessions end.

        Raises `UserNotFound`, `InvalidStatusTransition` for an account that is merged already, and `LastAdmin`.
        """
        body = await parse_body(MergeBody, request)
        changes = await self._merges.merge(
            body.primary_user_id, body.duplicate_user_ids, caller_of(request), dry_run=body.dry_run
        )
        return self._done("Users merged", changes)

    async def unmerge(self, request: web.Request) -> web.Response:
        """Reverse the last merge of an account. What was touched since stays, and is in `notMoved`.

        Raises `UserNotFound`, `InvalidStatusTransition` for an account that is not merged.
        """
        body = await parse_body(UnmergeBody, request)
        changes = await self._merges.unmerge(row_id_of(request), caller_of(request), dry_run=body.dry_run)
        return self._done("Users unmerged", changes)

    def _done(self, sentence: str, changes: UserChanges) -> web.Response:
        if not changes.is_dry_run:
            self._logger.info(sentence, primary=changes.primary_id, duplicates=list(changes.duplicate_ids))
        return success(changes_document(changes))


def changes_document(changes: UserChanges) -> UserChangesDocument:
    """Return the changes as the API shows them."""
    return {
        "dryRun": changes.is_dry_run,
        "primaryUserId": changes.primary_id,
        "duplicateUserIds": list(changes.duplicate_ids),
        "moved": dict(changes.moved),
        "fields": list(changes.fields),
        "role": changes.role,
        "notMoved": list(changes.not_moved),
    }


def _duplicates_document(users: Sequence[User]) -> DuplicatesDocument:
    return {"email": users[0].email or "", "users": [_account_document(user) for user in users]}


def _account_document(user: User) -> AccountDocument:
    return {
        "id": user.id,
        "username": user.username,
        "role": user.role,
        "isEmailVerified": user.is_email_verified,
        "sharegramId": user.sharegram_id,
        "createdAt": rfc3339(user.created_at),
        "updatedAt": rfc3339(user.updated_at),
        "lastSignInAt": format_timestamp(user.last_sign_in_at),
    }
