"""The embedded stack: Kafka, Valkey, a model server and the workers, run as child processes on loopback."""
