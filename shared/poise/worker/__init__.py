"""Workers: a process that serves one tier."""
