"""The journal: replies of finished steps, so that a message delivered twice is answered alike and paid once."""

from typing import Final

from poise.cache.connection import Cache

LONGEST_KEPT: Final = 24 * 3_600.0
"""Seconds that a step's reply is kept at most."""


class Journal:
    """Successful replies by tenant, run and step."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def read(self, tenant: str, run: str, step: str) -> bytes | None:
        """The stored reply's body, or None."""
        return await self._cache.get(_key(tenant, run, step))

    async def write(self, tenant: str, run: str, step: str, reply: bytes, ttl: float) -> None:
        """Store a reply's body for `ttl` seconds, before it is published."""
        await self._cache.put(_key(tenant, run, step), reply, min(ttl, LONGEST_KEPT))


def _key(tenant: str, run: str, step: str) -> str:
    return f"poise:step:{tenant}:{run}:{step}"
