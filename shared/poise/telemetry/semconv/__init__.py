"""The names of every attribute, span and metric, each once.

They follow OpenTelemetry's semantic conventions for messaging and GenAI where these have a name, else `poise.*`.
"""

from poise.telemetry.semconv.attributes import *  # noqa: F403 - one table in three modules
from poise.telemetry.semconv.metrics import *  # noqa: F403 - one table in three modules
from poise.telemetry.semconv.spans import *  # noqa: F403 - one table in three modules
