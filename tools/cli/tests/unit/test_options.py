"""Options that several commands take, at the ends of what can be typed."""

from contextlib import suppress

import typer

from safevideo_cli.options import parse_timestamp
from safevideo_common.clock import rfc3339
from safevideo_common.domain.times import EVENT_YEARS
from safevideo_testkit.fuzz.ends import texts_of


def test_a_time_at_its_ends_is_a_time_of_the_database_or_refused() -> None:
    taken = 0
    for text in (*texts_of(200), "0s", "99999d", "-99999d", "100000d", "1y"):
        with suppress(typer.BadParameter):
            at = parse_timestamp(text)
            assert rfc3339(at)
            assert at.year in EVENT_YEARS or text.endswith("99999d")
            taken += 1
    assert taken > 5
