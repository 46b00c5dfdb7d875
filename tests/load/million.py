"""The numbers from 1 to a million as a table, in words that MySQL and MariaDB have in common."""

from typing import Final

_DIGITS: Final = " UNION ALL ".join(f"SELECT {digit} AS digit" for digit in range(10))
_PLACES: Final = ", ".join(f"({_DIGITS}) AS d{place}" for place in range(6))
_NUMBER: Final = " + ".join(f"d{place}.digit * {10**place}" for place in range(6))
MILLION: Final = f"(SELECT 1 + {_NUMBER} AS seq FROM {_PLACES} ORDER BY seq LIMIT 1000000) AS million"
"""In order, with the column `seq`: a bound is what makes both servers sort a derived table."""
