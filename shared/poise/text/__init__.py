"""Texts: Markdown, Unicode forms, log lines, and what of an error may be public."""
