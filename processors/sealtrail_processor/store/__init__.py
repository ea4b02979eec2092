"""ClickHouse: rows and how they are written, read back, migrated, shared out and restored."""
