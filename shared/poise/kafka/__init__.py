"""Kafka: consumers, producers, log readers and administration. The only importer of aiokafka and FastStream."""
