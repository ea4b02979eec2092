-- What workers had in hand when they died: found by a living one in the mark that each keeps on its disk
-- (docs/worker.md, "A message that kills"). Read once per assigned partition; a few rows per crash.

CREATE TABLE IF NOT EXISTS ${database}.deaths
(
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16,
    -- One message when they are equal.
    `first_offset` UInt64,
    `last_offset` UInt64,
    -- WORK, WAIT (for the store) or FAULT (an exception of our own).
    `phase` LowCardinality(String),
    -- Name of the mark: worker, process and a random number. The same death found twice is one row.
    `mark` String,
    `found_at` DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (log_id, topic, partition, first_offset, last_offset, mark)
SETTINGS storage_policy = '${storage_policy}', non_replicated_deduplication_window = 1000,
         fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Which messages workers had in hand when they died';
