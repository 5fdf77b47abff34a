"""Executors: blocking and CPU-bound work in threads and processes."""
