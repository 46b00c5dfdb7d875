"""What the plugin's fixtures promise to a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import text

from safevideo_common.errors import StartupError
from safevideo_devstack.backends import lifecycle
from safevideo_devstack.backends.lifecycle import RunningBackends
from safevideo_devstack.backends.probes import mysql_connection
from safevideo_devstack.backends.stack import local_database
from safevideo_testkit.databases import created, dropped, emptied


def test_a_fresh_database_is_empty_and_utf8(fresh_mysql_database: str) -> None:
    with mysql_connection(fresh_mysql_database) as connection:
        assert connection.execute(text("SHOW TABLES")).all() == []
        assert connection.scalar(text("SELECT @@character_set_database")) == "utf8mb4"


def test_a_dropped_database_is_gone(mysql_server_url: str) -> None:
    url = created(mysql_server_url)
    dropped(url)
    with mysql_connection(mysql_server_url) as connection:
        assert url.rpartition("/")[2].partition("?")[0] not in connection.scalars(text("SHOW DATABASES")).all()


@pytest.mark.parametrize("_time", ["first", "second"])
@pytest.mark.parametrize("number", [0, 2, 3])
def test_every_test_finds_an_empty_redis(redis_url: str, number: int, _time: str) -> None:
    with redis.Redis.from_url(redis_url, db=number) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


@pytest.fixture
def somebody_elses_redis(tmp_path: Path) -> Iterator[str]:
    with lifecycle.running("embedded", folder=tmp_path / "somebody-elses") as backends:
        yield backends.redis_url


def test_a_redis_of_somebody_elses_is_not_emptied(somebody_elses_redis: str) -> None:
    with redis.Redis.from_url(somebody_elses_redis, db=2) as client:
        client.set("sso:session:1", "of a person")
        with pytest.raises(StartupError, match="keys that no test wrote"):
            emptied(somebody_elses_redis, ours=False)
        assert client.dbsize() == 1


def test_a_given_redis_that_was_found_empty_is_emptied_from_then_on(somebody_elses_redis: str) -> None:
    emptied(somebody_elses_redis, ours=False)
    with redis.Redis.from_url(somebody_elses_redis, db=2) as client:
        client.set("sso:session:1", "of a test")
        emptied(f"{somebody_elses_redis}/0", ours=False)
        assert client.dbsize() == 0


def test_only_the_servers_of_this_machine_can_be_broken(backends: RunningBackends) -> None:
    names = {"local": {"kafka-1", local_database(), "redis"}, "embedded": {"valkey"}}
    assert {server.name for server in backends.servers()} == names.get(backends.stack, set())
    with pytest.raises(LookupError, match="no server postgres of its own"):
        backends.server("postgres")
