"""Text: Markdown, Unicode normalization, log lines, and error messages without addresses."""
