-- What is stored per message (signed batch), per flush, and what is found about them.
--
-- Choices for all tables: see 0001_events.sql. Small tables are not moved to the cold volume: they are read to
-- rebuild a worker's state, and by every audit.

CREATE TABLE IF NOT EXISTS ${database}.batches
(
    `tenant` LowCardinality(String),
    `chain_id` FixedString(32) CODEC(ZSTD(1)),
    `batch_seq` UInt64 CODEC(Delta, ZSTD(1)),
    `branch` UInt32 CODEC(ZSTD(1)),
    `first_seq` UInt64 CODEC(Delta, ZSTD(1)),
    `count` UInt32 CODEC(ZSTD(1)),
    -- Three hashes: random.
    `statement_hash` FixedString(32) CODEC(NONE),
    `previous` FixedString(32) CODEC(NONE),
    `root` FixedString(32) CODEC(NONE),
    `closes` Bool CODEC(ZSTD(1)),
    `environment` LowCardinality(String),
    `producer` LowCardinality(String),
    `instance` LowCardinality(String),
    -- Fingerprints: a handful of keys.
    `signers` Array(FixedString(32)) CODEC(ZSTD(1)),
    -- From the genesis; zeros and -1 in all but a chain's first batch, or when it continues none.
    `heartbeat_s` UInt32 CODEC(ZSTD(1)),
    `continues_chain` FixedString(32) CODEC(ZSTD(1)),
    `continues_batch` Int64 CODEC(ZSTD(1)),
    `continues_head` FixedString(32) CODEC(ZSTD(1)),
    `opened_at` DateTime64(6, 'UTC') CODEC(ZSTD(1)),
    -- Fingerprint of the writer schema: a handful.
    `event_schema` FixedString(32) CODEC(ZSTD(1)),
    `signed_at` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `clock_error_us` Nullable(Int64) CODEC(ZSTD(1)),
    `sampled_out` UInt64 CODEC(Delta, ZSTD(1)),
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `arrival` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `time_source` LowCardinality(String),
    INDEX by_offset offset TYPE minmax GRANULARITY 1,
    -- An outside reference (a log leaf, a heartbeat) names a batch by the hash of its statement.
    INDEX by_statement_hash statement_hash TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(arrival)
-- By chain: its batches are read in order (audit), or one of them (is this a duplicate?).
PRIMARY KEY (chain_id, batch_seq)
ORDER BY (chain_id, batch_seq, branch, log_id, topic, partition, offset)
SETTINGS storage_policy = '${storage_policy}', non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Statements of accepted batches, one row each';

CREATE TABLE IF NOT EXISTS ${database}.payloads
(
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `arrival` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `key` String CODEC(ZSTD(1)),
    -- The evidence: half of it hashes and salts, the rest text that repeats from event to event.
    `value` String CODEC(ZSTD(1)),
    `headers` Array(Tuple(name String, value String)) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(arrival)
ORDER BY (log_id, topic, partition, offset)
TTL toDateTime(arrival) + INTERVAL ${cold_after_days} DAY TO VOLUME 'cold'
-- Values are large: small granules, so that one message is read without its hundred neighbours.
SETTINGS storage_policy = '${storage_policy}', ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 128
COMMENT 'Kafka messages of accepted batches, byte for byte';

CREATE TABLE IF NOT EXISTS ${database}.dispositions
(
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `arrival` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `time_source` LowCardinality(String),
    -- accepted, duplicate, quarantined, parked, released, heartbeat or lost: the conservation law sums over all.
    `disposition` LowCardinality(String),
    -- Finding and validation step of what was refused; '' and 0 else.
    `code` LowCardinality(String),
    `step` UInt8 CODEC(ZSTD(1)),
    `detail` String CODEC(ZSTD(1)),
    -- SHA-256 of the Kafka value, zeros without one.
    `digest` FixedString(32) CODEC(NONE),
    `chain_id` FixedString(32) CODEC(ZSTD(1)),
    `batch_seq` UInt64 CODEC(Delta, ZSTD(1)),
    `branch` UInt32 CODEC(ZSTD(1)),
    -- How many events the message holds, whatever became of it.
    `events` UInt32 CODEC(ZSTD(1)),
    -- Where a released message was parked; '' and zeros else.
    `from_log_id` LowCardinality(String),
    `from_topic` LowCardinality(String),
    `from_partition` UInt16 CODEC(ZSTD(1)),
    `from_offset` UInt64 CODEC(ZSTD(1)),
    -- "What was refused?": rare values.
    INDEX by_disposition disposition TYPE set(8) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(arrival)
ORDER BY (log_id, topic, partition, offset)
SETTINGS storage_policy = '${storage_policy}', non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What became of each offset, one row each';

CREATE TABLE IF NOT EXISTS ${database}.quarantine
(
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `arrival` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    -- Null where the message has none: it is sent again exactly so.
    `key` Nullable(String) CODEC(ZSTD(1)),
    `value` Nullable(String) CODEC(ZSTD(1)),
    `headers` Array(Tuple(name String, value String)) CODEC(ZSTD(1)),
    -- parked (waits for a key or a schema) or quarantined.
    `disposition` LowCardinality(String),
    `code` LowCardinality(String),
    `step` UInt8 CODEC(ZSTD(1)),
    `detail` String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(arrival)
ORDER BY (log_id, topic, partition, offset)
SETTINGS storage_policy = '${storage_policy}', non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 128
COMMENT 'Refused messages, byte for byte, with the reason';

CREATE TABLE IF NOT EXISTS ${database}.quarantine_acts
(
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16,
    `offset` UInt64,
    -- released or dismissed.
    `act` LowCardinality(String),
    `at` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    -- Offset of the message that was sent in its place; 0 when dismissed.
    `new_offset` UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (log_id, topic, partition, offset, act, at)
SETTINGS storage_policy = '${storage_policy}', non_replicated_deduplication_window = 1000,
         fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What people and the worker did about quarantined messages';

CREATE TABLE IF NOT EXISTS ${database}.findings
(
    -- Hash of what was found where: found again, it is the same row.
    `finding_id` FixedString(16) CODEC(NONE),
    `code` LowCardinality(String),
    `severity` LowCardinality(String),
    -- ingest (by a flush: visible with its commit), linker, timer or audit (visible at once).
    `origin` LowCardinality(String),
    `tenant` LowCardinality(String),
    `chain_id` FixedString(32) CODEC(ZSTD(1)),
    `batch_seq` UInt64 CODEC(ZSTD(1)),
    `event_id` Nullable(FixedString(16)) CODEC(ZSTD(1)),
    -- The chain that is probably wrong.
    `suspect` Nullable(FixedString(32)) CODEC(ZSTD(1)),
    `estimate_us` Int64 CODEC(ZSTD(1)),
    `tolerance_us` Int64 CODEC(ZSTD(1)),
    `detail` String CODEC(ZSTD(1)),
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(ZSTD(1)),
    `arrival` DateTime64(6, 'UTC') CODEC(ZSTD(1)),
    `found_at` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    -- "Is anything known of this event?"
    INDEX by_event_id event_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_offset offset TYPE minmax GRANULARITY 1
)
-- Without a month: a finding of a timer is found again later and must still be one row.
ENGINE = ReplacingMergeTree
ORDER BY (code, chain_id, batch_seq, finding_id)
SETTINGS storage_policy = '${storage_policy}', non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Findings of the closed list';

CREATE TABLE IF NOT EXISTS ${database}.commits
(
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16 CODEC(ZSTD(1)),
    -- The previous commit's last_offset + 1.
    `first_offset` UInt64 CODEC(Delta, ZSTD(1)),
    `last_offset` UInt64 CODEC(Delta, ZSTD(1)),
    -- flush, or lost: these offsets were gone from the log before they were read.
    `kind` Enum8('flush' = 1, 'lost' = 2),
    -- Messages among the offsets = rows in dispositions.
    `messages` UInt64 CODEC(ZSTD(1)),
    -- Events accepted among them = rows in events.
    `rows` UInt64 CODEC(ZSTD(1)),
    -- SHA-256 over the dispositions of the flush (docs/sql.md, "Commits").
    `digest` FixedString(32) CODEC(NONE),
    -- The latest of its messages.
    `arrival` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1))
)
-- Without a month: the cursor is read from all of it, and it stays small (one row a flush).
ENGINE = ReplacingMergeTree
ORDER BY (log_id, topic, partition, first_offset, last_offset)
SETTINGS storage_policy = '${storage_policy}', non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Which offsets are completely stored; readers see no others';

-- The sum of `commits`, one row a partition and life of a log: every view asks where the commits end, and must not read
-- millions of them for it. `covered` counts a repeated commit twice; see the view `committed` for why that is harmless.
CREATE TABLE IF NOT EXISTS ${database}.commit_ends
(
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16,
    `first_offset` SimpleAggregateFunction(min, UInt64),
    `last_offset` SimpleAggregateFunction(max, UInt64),
    `covered` SimpleAggregateFunction(sum, UInt64)
)
ENGINE = AggregatingMergeTree
ORDER BY (log_id, topic, partition)
SETTINGS storage_policy = '${storage_policy}', non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Where the commits of each partition begin and end';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.commits_ends TO ${database}.commit_ends AS
SELECT log_id, topic, partition, first_offset, last_offset, last_offset - first_offset + 1 AS covered
FROM ${database}.commits;

CREATE TABLE IF NOT EXISTS ${database}.receipts
(
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `arrival` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1))
)
-- Plain MergeTree in one partition, every row kept with the number of the block that brought it: the first writer wins,
-- whatever its clock said. (Replacing would keep the last, and block numbers compare within a partition only.)
ENGINE = MergeTree
ORDER BY (log_id, topic, partition, offset)
SETTINGS storage_policy = '${storage_policy}', non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1, enable_block_number_column = 1
COMMENT 'When messages were first seen, where the broker does not say';

CREATE TABLE IF NOT EXISTS ${database}.heartbeats
(
    `chain_id` FixedString(32),
    `batch_seq` UInt64,
    `head` FixedString(32),
    `time` DateTime64(6, 'UTC'),
    `arrival` DateTime64(6, 'UTC'),
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16,
    `offset` UInt64
)
-- Only the latest of a chain is kept.
ENGINE = ReplacingMergeTree(arrival)
ORDER BY (chain_id)
SETTINGS storage_policy = '${storage_policy}', non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Latest heartbeat of each chain';

CREATE TABLE IF NOT EXISTS ${database}.link_verdicts
(
    `child_chain` FixedString(32) CODEC(ZSTD(1)),
    `child_seq` UInt64 CODEC(Delta, ZSTD(1)),
    `child_branch` UInt32 CODEC(ZSTD(1)),
    `ordinal` UInt8 CODEC(ZSTD(1)),
    `parent_id` FixedString(16) CODEC(ZSTD(1)),
    -- PENDING, POSITION, VERIFIED, MISMATCH, ORPHAN, LOST_WITH_PRODUCER or EXTERNAL.
    `verdict` LowCardinality(String),
    `decided_at` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `version` UInt64 CODEC(ZSTD(1))
)
-- The highest version counts. Without a month: a verdict is replaced in a later one.
ENGINE = ReplacingMergeTree(version)
ORDER BY (child_chain, child_seq, child_branch, ordinal)
SETTINGS storage_policy = '${storage_policy}', non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'What is known of each link from an event to its parent';

CREATE TABLE IF NOT EXISTS ${database}.key_records
(
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16,
    `offset` UInt64,
    `arrival` DateTime64(6, 'UTC'),
    `record_key` String CODEC(ZSTD(1)),
    -- The signed record, byte for byte: a broker that starts anew gets it back from here.
    `record_value` String CODEC(ZSTD(1))
)
-- As receipts: the first writer's arrival counts, and a batch is judged by what had arrived.
ENGINE = MergeTree
ORDER BY (log_id, topic, partition, offset)
SETTINGS storage_policy = '${storage_policy}', non_replicated_deduplication_window = 1000,
         fsync_after_insert = 1, fsync_part_directory = 1, enable_block_number_column = 1
COMMENT 'Messages of the keys topic';
