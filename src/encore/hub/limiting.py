"""How often somebody may do something: the library `limits`, counting in the hub's own database.

So several web processes count together, and a restart forgets nothing. Searches alone are counted in memory.
"""

from __future__ import annotations

import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, Storage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy import case, delete

from encore.base.errors import InputError
from encore.hub.database import Database, RateLimit, insert_into

LIMITS = {
    "sign_in_address": "5/hour",
    "sign_in_client": "20/hour",
    "subscribe_address": "5/hour",
    "subscribe_client": "20/hour",
    "link_client": "60/hour",
    "vote": "120/minute",
    "comment": "10/minute",
    "tag": "60/minute",
    "submit": "20/day",
    "run": "10/minute",
    "search_client": "120/minute",
}
"""Of each kind of doing, as the library writes it."""

IN_MEMORY = {"search_client"}
"""What is done too often to be written down; each web process counts for itself."""


class TooOftenError(InputError):
    """Somebody did something too often.

    Attributes:
        seconds: after which it may be done again.
    """

    def __init__(self, seconds: int) -> None:
        self.seconds = max(seconds, 1)
        wait = f"{self.seconds} seconds" if self.seconds < 120 else f"{self.seconds // 60} minutes"
        super().__init__("that was too often", f"try again in {wait}")


class DatabaseStorage(Storage):
    """Counts in the table `rate_limits`."""

    STORAGE_SCHEME = None

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """What the library may catch: nothing."""
        return ()

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a count, which begins anew when its window is over."""
        moment = time.time()
        over = RateLimit.expires <= moment
        with self.database.writing() as transaction:
            statement = insert_into(transaction, RateLimit).values(key=key, count=amount, expires=moment + expiry)
            counted = transaction.scalar(
                statement.on_conflict_do_update(
                    index_elements=[RateLimit.key],
                    set_={
                        "count": case((over, amount), else_=RateLimit.count + amount),
                        "expires": case((over, moment + expiry), else_=RateLimit.expires),
                    },
                ).returning(RateLimit.count)
            )
        assert counted is not None
        return counted

    def get(self, key: str) -> int:
        """A count; 0 where its window is over."""
        with self.database.reading() as transaction:
            row = transaction.get(RateLimit, key)
        return row.count if row is not None and row.expires > time.time() else 0

    def get_expiry(self, key: str) -> float:
        """When a window ends."""
        with self.database.reading() as transaction:
            row = transaction.get(RateLimit, key)
        return row.expires if row is not None else time.time()

    def check(self) -> bool:
        """Always there."""
        return True

    def reset(self) -> int | None:
        """Forget everything."""
        with self.database.writing() as transaction:
            transaction.execute(delete(RateLimit))
        return None

    def clear(self, key: str) -> None:
        """Forget one count."""
        with self.database.writing() as transaction:
            transaction.execute(delete(RateLimit).where(RateLimit.key == key))


class Limiter:
    """Counts what somebody does, and refuses what is too often.

    Args:
        database: keeps the counts.
    """

    def __init__(self, database: Database) -> None:
        self._written = FixedWindowRateLimiter(DatabaseStorage(database))
        self._in_memory = FixedWindowRateLimiter(MemoryStorage())
        self._items: dict[str, RateLimitItem] = {kind: parse(text) for kind, text in LIMITS.items()}

    def count(self, kind: str, who: str) -> None:
        """Count once.

        Raises:
            TooOftenError: with the seconds to wait.
        """
        item = self._items[kind]
        limiter = self._in_memory if kind in IN_MEMORY else self._written
        if not limiter.hit(item, kind, who):
            ends = limiter.get_window_stats(item, kind, who).reset_time
            raise TooOftenError(int(ends - time.time()) + 1)
