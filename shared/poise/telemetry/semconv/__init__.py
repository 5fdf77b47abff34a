"""The names of all attributes, spans and metrics.

They follow OpenTelemetry's semantic conventions for messaging and GenAI; names that these lack begin with `poise.`.
"""

from poise.telemetry.semconv.attributes import *  # noqa: F403 - one table in three modules
from poise.telemetry.semconv.metrics import *  # noqa: F403 - one table in three modules
from poise.telemetry.semconv.spans import *  # noqa: F403 - one table in three modules
