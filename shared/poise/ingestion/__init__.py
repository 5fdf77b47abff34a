"""Ingestion: publish documents and wait until they can be found."""
