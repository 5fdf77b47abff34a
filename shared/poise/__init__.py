"""Poise: an async, message-driven mesh for AI applications that measures its answers and keeps itself in balance."""

from poise.errors import FaultError, PoiseError, RetryableError, TerminalError

__all__ = ["FaultError", "PoiseError", "RetryableError", "TerminalError"]
