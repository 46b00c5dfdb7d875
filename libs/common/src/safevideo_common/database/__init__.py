"""The database: engine, errors, schema, and the tables that several features use.

Only `dialect/` knows the differences between MySQL, MariaDB and SQLite. Queries of one feature are in its package.
"""
