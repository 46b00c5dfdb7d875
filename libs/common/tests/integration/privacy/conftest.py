"""The tests of this folder that use `database` run on SQLite and on the MySQL family."""

from safevideo_testkit.each_database import *  # noqa: F403 - pytest finds fixtures by name
