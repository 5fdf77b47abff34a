"""Limits of connections and bytes, and which idle connection is closed."""

import pytest

from poise.errors import RateLimitedError, RetryableError
from poise_services.gateway.connections import MAX_REFUSED_CONNECTIONS, ByteBudget, Connections, peer_key
from poise_services.gateway.settings import SMALL_REQUEST_BYTES, GatewaySettings, HttpLimits


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        (None, ""),
        ("a socket", "a socket"),
    ],
)
def test_a_peer_is_an_address_or_an_ipv6_network(address: str | None, peer: str) -> None:
    assert peer_key(address) == peer


class IdleConnections:
    """Idle connections. Records which were closed to make room."""

    def __init__(self, connections: Connections) -> None:
        self.closed: list[str] = []
        self._connections = connections

    def waits(self, name: str, peer: str) -> None:
        self._connections.add(peer)
        self._connections.mark_idle(peer, lambda: self.close(name, peer))

    def close(self, name: str, peer: str) -> None:
        self.closed.append(name)
        self._connections.remove(peer)


def test_the_longest_idle_connection_is_closed() -> None:
    connections = Connections(HttpLimits(max_connections=3), 1)
    waiting = IdleConnections(connections)
    for name in "abcde":
        waiting.waits(name, "peer")
    assert waiting.closed == ["a", "b"]
    assert len(connections) == 3


def test_an_address_at_its_limit_closes_only_its_own_idle_connection() -> None:
    connections = Connections(HttpLimits(max_connections=10, max_connections_per_peer=2), 1)
    waiting = IdleConnections(connections)
    waiting.waits("theirs", "other")
    for name in "abc":
        waiting.waits(name, "peer")
    assert waiting.closed == ["a"]


def test_connections_with_a_request_are_not_closed() -> None:
    connections = Connections(HttpLimits(max_connections=3, max_connections_per_peer=2), 1)
    connections.add("a")
    connections.add("a")
    with pytest.raises(RateLimitedError):
        connections.add("a")
    connections.remove("a")
    connections.add("b")
    with pytest.raises(RetryableError, match="too many connections"):
        connections.add("c")
    assert not connections.is_over_capacity(), "it gets an error response"
    for _ in range(MAX_REFUSED_CONNECTIONS):
        with pytest.raises(RetryableError):
            connections.add("d")
    assert connections.is_over_capacity()


def test_half_of_the_budget_is_reserved_for_small_requests() -> None:
    budget = ByteBudget(10 * SMALL_REQUEST_BYTES)
    assert budget.reserve(5 * SMALL_REQUEST_BYTES, 0)
    assert not budget.reserve(SMALL_REQUEST_BYTES + 1, 0)
    assert not budget.reserve(1, SMALL_REQUEST_BYTES)
    assert [budget.reserve(SMALL_REQUEST_BYTES, 0) for _ in range(6)] == [True] * 5 + [False]
    assert budget.used == 10 * SMALL_REQUEST_BYTES
    budget.release(10 * SMALL_REQUEST_BYTES)
    assert budget.has_room(5 * SMALL_REQUEST_BYTES)
    assert budget.used == 0


def test_the_largest_document_must_fit_the_budget() -> None:
    with pytest.raises(ValueError, match="max_inflight_bytes must be more than twice max_documents_bytes"):
        GatewaySettings(max_documents_bytes=40_000_000)


def test_the_idle_timeout_is_longer_than_that_of_clients_and_load_balancers() -> None:
    assert HttpLimits().idle_timeout > 60
