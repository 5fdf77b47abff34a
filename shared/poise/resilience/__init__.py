"""Resilience: circuit breaker, concurrency limiter, token bucket and Retry-After parsing."""
