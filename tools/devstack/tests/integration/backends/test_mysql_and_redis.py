"""MariaDB or MySQL, and Redis, as this run has them: their settings, and that they can be broken and come back."""

import pytest
import redis
from sqlalchemy import text

from safevideo_devstack.backends import NotReady, probes
from safevideo_devstack.backends.lifecycle import RunningServer
from safevideo_devstack.backends.probes import mysql_connection
from safevideo_devstack.backends.stack import local_database

DURABLE = {"innodb_flush_log_at_trx_commit": "1", "character_set_server": "utf8mb4"}
SETTINGS = {
    "mariadb": {**DURABLE, "innodb_snapshot_isolation": "ON", "tx_isolation": "READ-COMMITTED"},
    "mysql": {**DURABLE, "sync_binlog": "1", "transaction_isolation": "READ-COMMITTED"},  # it has a binary log
}


@pytest.mark.usefixtures("local")
def test_database_is_durable_and_reads_committed_rows(mysql_server_url: str) -> None:
    with mysql_connection(mysql_server_url) as connection:
        found = {row[0]: row[1] for row in connection.execute(text("SHOW GLOBAL VARIABLES"))}
    assert SETTINGS[local_database()].items() <= found.items()


def test_frozen_mysql_answers_only_after_resume(mysql_server: RunningServer, mysql_server_url: str) -> None:
    with mysql_server.paused(), pytest.raises(NotReady):
        probes.mysql_version(mysql_server_url)
    mysql_server.wait_ready()
    assert probes.mysql_version(mysql_server_url)


def test_killed_mysql_keeps_committed_rows(mysql_server: RunningServer, fresh_mysql_database: str) -> None:
    with mysql_connection(fresh_mysql_database) as connection:
        connection.execute(text("CREATE TABLE survivors (id INT PRIMARY KEY)"))
        connection.execute(text("INSERT INTO survivors VALUES (7)"))
    with mysql_server.killed():
        assert not mysql_server.alive()
        with pytest.raises(NotReady):
            probes.mysql_version(fresh_mysql_database)
    with mysql_connection(fresh_mysql_database) as connection:
        assert connection.scalar(text("SELECT id FROM survivors")) == 7


def test_killed_redis_keeps_its_keys(redis_server: RunningServer, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("key", "value")
    redis_server.restart()
    with redis.Redis.from_url(redis_url) as client:
        assert client.get("key") == b"value"


def test_start_of_a_running_server_changes_nothing(redis_server: RunningServer, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        before = client.info("server")["process_id"]
        redis_server.start()
        assert client.info("server")["process_id"] == before
