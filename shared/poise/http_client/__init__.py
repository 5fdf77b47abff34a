"""HTTP clients: bounded reading of response bodies, and loopback addresses."""
