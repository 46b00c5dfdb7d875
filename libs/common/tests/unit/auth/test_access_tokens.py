"""Our access tokens against clocks that differ: Redis's, which dates a session, and that of the process that reads."""

from datetime import UTC, datetime, timedelta

import pytest

from safevideo_common.auth.access_tokens import AccessTokens
from safevideo_common.auth.sessions import LIFETIME, UserSession
from safevideo_common.errors import Unauthorized

TOKENS = AccessTokens("a secret of this test, long enough")
APART = timedelta(seconds=30)
FAR = timedelta(minutes=5)


def token_of_session(created_at: datetime) -> str:
    session = UserSession("the-id", 7, "", "sharegram", created_at, created_at + LIFETIME, b"")
    return TOKENS.issue(session, "the-secret")


@pytest.mark.parametrize("ahead", [APART, FAR])
def test_token_is_good_though_redis_is_ahead_of_the_process(ahead: timedelta) -> None:
    token = token_of_session(datetime.now(UTC) + ahead)
    assert TOKENS.read(token) == ("the-id", "the-secret")


def test_token_is_good_though_redis_is_a_little_behind_the_process() -> None:
    assert TOKENS.read(token_of_session(datetime.now(UTC) - LIFETIME - APART)) == ("the-id", "the-secret")


def test_token_of_a_session_that_ended_is_refused() -> None:
    with pytest.raises(Unauthorized):
        TOKENS.read(token_of_session(datetime.now(UTC) - LIFETIME - FAR))
