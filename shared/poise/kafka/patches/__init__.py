"""Patches of aiokafka and FastStream, one module for each; what they need fails loudly when a version moves it."""
