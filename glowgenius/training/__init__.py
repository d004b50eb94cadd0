"""Training runs over any engine: connection, settings, the loop, and what comes out of it."""
