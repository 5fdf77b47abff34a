"""HTTP clients: reading a response within bounds, and hosts that stand for this machine."""
