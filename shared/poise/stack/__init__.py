"""The stack that Poise brings along: Kafka, Valkey, a model and the workers, as child processes on loopback."""

from poise.stack.kafka import Kafka, Node
from poise.stack.model import ModelServer
from poise.stack.valkey import Valkey

__all__ = ["Kafka", "ModelServer", "Node", "Valkey"]
