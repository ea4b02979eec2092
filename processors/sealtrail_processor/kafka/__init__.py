"""The brokers: reading, publishing, administering, and the matrix of who may do what."""
