"""Causes: from a reference by name to an edge that is verified."""
