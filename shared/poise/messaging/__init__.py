"""How it is said: consumers, calls, replies, retries and dead letters over Kafka. The only importer of aiokafka."""

from poise.messaging.admin import Admin, TopicState
from poise.messaging.connection import Connection
from poise.messaging.dead_letter_admin import DeadLetterAdmin
from poise.messaging.dead_letter_filter import Filter
from poise.messaging.dead_letters import DeadLetter
from poise.messaging.ends import Ends
from poise.messaging.epoch_check import EpochCheck
from poise.messaging.follow import Follower
from poise.messaging.loading import load_module, serve
from poise.messaging.log_reader import LogReader
from poise.messaging.mesh import Mesh
from poise.messaging.offloaded import in_processes
from poise.messaging.partitioner import partition_for
from poise.messaging.process import run
from poise.messaging.record import Position, Record
from poise.messaging.redrive import Outcome, Redrive
from poise.messaging.slots import parked
from poise.messaging.streams import Stream
from poise.messaging.tier import Context, Handler, Tier

__all__ = [
    "Admin",
    "Connection",
    "Context",
    "DeadLetter",
    "DeadLetterAdmin",
    "Ends",
    "EpochCheck",
    "Filter",
    "Follower",
    "Handler",
    "LogReader",
    "Mesh",
    "Outcome",
    "Position",
    "Record",
    "Redrive",
    "Stream",
    "Tier",
    "TopicState",
    "in_processes",
    "load_module",
    "parked",
    "partition_for",
    "run",
    "serve",
]
