"""The stream processor: validate, place in chain, link, and write to ClickHouse."""
