"""Tables, migrations, transactions and the inbox.

What MySQL, MariaDB and SQLite do differently sits in `dialect/` alone.
"""
