"""MySQL 8 and 9 and MariaDB each have words that another has not. A run of the tests meets one of them alone."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIALECT = ROOT / "libs/common/src/safevideo_common/database/dialect"
FUNCTIONS = "|".join((
    "md5|sha|sha1|password|encrypt|des_encrypt|des_decrypt|old_password",  # not MySQL 9
    "json_exists|json_compact|json_loose|lastval|nextval|setval|to_char|sys_guid|natural_sort_key",  # not MySQL
    "any_value|bin_to_uuid|uuid_to_bin|is_uuid|regexp_like|json_storage_size",  # not MariaDB
    "json_overlaps|json_schema_valid",  # not MariaDB 10.6
))  # fmt: skip
NOT_SHARED = re.compile(
    rf"\bfunc\.(?:{FUNCTIONS})\(|\b(?:{FUNCTIONS.upper()})\("
    r"|\.returning\(|\bEXPLAIN (?!FORMAT=TRADITIONAL)|\bAS new\b|\bVALUES\([a-z{]"
)


def sources() -> Iterator[Path]:
    for folder in ("libs", "services"):
        yield from (path for path in (ROOT / folder).glob("*/src/**/*.py") if DIALECT not in path.parents)


def test_no_sql_outside_of_the_dialect_is_that_of_one_server_alone() -> None:
    found = [f"{path.name}: {words[0]}" for path in sources() for words in NOT_SHARED.finditer(path.read_text())]
    assert not found, "write it in database/dialect, for each server: " + "; ".join(found)


@pytest.mark.parametrize(
    "sql", ["func.md5(_c.key)", "SELECT MD5(name)", "EXPLAIN SELECT 1", "n = VALUES(n)", "insert(jobs).returning(_c)"]
)
def test_what_one_server_has_alone_is_found(sql: str) -> None:
    assert NOT_SHARED.search(sql)


@pytest.mark.parametrize(
    "sql", ["func.sum(_c.id)", "INSERT INTO jobs VALUES (1)", "EXPLAIN FORMAT=TRADITIONAL SELECT 1", "hashlib.md5(x)"]
)
def test_what_all_of_them_have_passes(sql: str) -> None:
    assert not NOT_SHARED.search(sql)
