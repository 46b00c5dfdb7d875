from datetime import UTC, datetime, timedelta

from sharegram_simulator.authorization import CODE_LIFETIME, CODES_LIMIT, Grant, Grants

GRANT = Grant("sg_1", "safevideo", "http://127.0.0.1/", "a challenge", None)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_code_is_good_until_its_minute_is_over() -> None:
    grants = Grants()
    early, late = grants.open(GRANT, NOW), grants.open(GRANT, NOW)
    assert grants.take(early, NOW + CODE_LIFETIME - timedelta(seconds=1)) is GRANT
    assert grants.take(late, NOW + CODE_LIFETIME) is None


def test_the_oldest_codes_fall_out_beyond_the_limit() -> None:
    grants = Grants()
    codes = [grants.open(GRANT, NOW) for _ in range(CODES_LIMIT + 1)]
    assert grants.take(codes[0], NOW) is None
    assert grants.take(codes[1], NOW) is GRANT
