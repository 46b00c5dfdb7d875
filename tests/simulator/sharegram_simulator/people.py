"""Plausible performers: names, addresses and pictures that belong to no one."""

import random
from typing import Final

Profile = dict[str, str | bool | None]
"""The six fields of a profile by their names on the wire; null is cleared."""

EMPTY_PROFILE: Final[Profile] = {
    "username": None,
    "displayName": None,
    "email": None,
    "profileImage": None,
    "bio": None,
    "verified": False,
}

FIRST: Final = ("Ada", "Bruno", "Carmen", "Dmitri", "Elif", "Farah", "Goran", "Hana", "Ines", "Jonas", "Kofi", "Linnéa")
LAST: Final = ("Abe", "Bergström", "Costa", "Duarte", "Eriksen", "Fontaine", "Grau", "Horváth", "Ito", "Jansen", "Kaya")
PLACES: Final = ("Lisbon", "Oslo", "Osaka", "Accra", "Québec", "Kraków")
TRADES: Final = ("Dancer", "Singer", "Painter", "Cook", "Juggler", "Storyteller")
STATUSES: Final = ("active", "active", "active", "active", "pending", "under_review", "suspended")


class People:
    """Makes performers up from its dice."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def performer_id(self) -> str:
        """A new Sharegram id."""
        return f"sg_{self._dice.getrandbits(48):012x}"

    def profile(self) -> Profile:
        """A complete profile."""
        first, last = self._dice.choice(FIRST), self._dice.choice(LAST)
        username = f"{first.lower()}_{self._dice.getrandbits(24):06x}"
        return {
            "username": username,
            "displayName": f"{first} {last}",
            "email": f"{username.encode('ascii', 'ignore').decode()}@example.com",
            "profileImage": f"https://images.example.com/{username.encode('ascii', 'ignore').decode()}.jpg",
            "bio": f"{self._dice.choice(TRADES)} from {self._dice.choice(PLACES)}.",
            "verified": self._dice.random() < 0.5,
        }

    def status(self) -> str:
        """Mostly active, as in life."""
        return self._dice.choice(STATUSES)
