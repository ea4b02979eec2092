"""The benchmark: measures all rooms together, on the embedded stack or on real servers."""
