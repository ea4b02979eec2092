"""The embedded stack: broker, schema registry and store as processes on loopback."""
