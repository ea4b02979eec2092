"""From the consumer to the commit: lanes, partitions, flushes, and what watches over them."""
