-- What is stored per event.
--
-- Every accepted event enters through the Null table `ingest`: one INSERT, whose SELECT checks the record
-- boundaries before any of the materialized views sees the block, fills four tables:
--
--     ingest -> events            one row an event
--            -> edges_by_parent   one row a parent reference, found from the parent (what came of it?)
--            -> edges_by_child    one row a parent reference, found from the child (where is it from?)
--            -> entity_events     one row an input or output, found by the data set
--
-- The last three are tables and not projections: ReplacingMergeTree refuses projections by default.
--
-- Choices that hold for all tables of this file:
-- * PARTITION BY the month of `arrival`, never of `occurred_at`: backfilled history would touch 180 months in one
--   block, which the engine refuses, and an insert must stay within one partition to be atomic.
-- * ReplacingMergeTree without a version: rows are immutable, a flush that is done again writes identical rows.
--   The sorting key ends with the coordinates (log_id, topic, partition, offset), so that a row of an abandoned log
--   never replaces a committed one.
-- * PRIMARY KEY is a short prefix of the sorting key: it is held in memory.
-- * No UUID in a sorting key: ClickHouse sorts UUIDs by their low half. Ids are FixedString, big-endian.
-- * non_replicated_deduplication_window: off by default; a repeated insert with the same token is dropped.
-- * fsync_after_insert, fsync_part_directory: an acknowledged insert survives a power cut. Off by default.
-- * ttl_only_drop_parts and TTL by arrival: whole parts move to the volume `cold`, none is rewritten for it.
-- * LowCardinality for names that few producers share (a dictionary a part instead of a string a row).
-- * Delta + ZSTD for numbers and times that grow slowly, plain ZSTD(1) where neighbours look alike, NONE for hashes:
--   random bytes do not compress, and trying costs time at each merge.

CREATE TABLE IF NOT EXISTS ${database}.ingest
(
    `tenant` String,
    `chain_id` FixedString(32),
    `seq` UInt64,
    `branch` UInt32,
    `event_id` FixedString(16),
    `leaf_hash` FixedString(32),
    `batch_seq` UInt64,
    `log_id` String,
    `topic` String,
    `partition` UInt16,
    `offset` UInt64,
    `arrival` DateTime64(6, 'UTC'),
    `time_source` String,
    `environment` String,
    `producer` String,
    `instance` String,
    `signed_at` DateTime64(6, 'UTC'),
    `occurred_at` DateTime64(6, 'UTC'),
    `event_type` String,
    `importance` String,
    `activity` String,
    `run_id` Nullable(FixedString(16)),
    `actor_id` String,
    `actor_kind` String,
    `on_behalf_of` Nullable(String),
    `inputs` Array(Tuple(namespace String, name String, version Nullable(String), digest Nullable(FixedString(32)), size_bytes Nullable(Int64))),
    `outputs` Array(Tuple(namespace String, name String, version Nullable(String), digest Nullable(FixedString(32)), size_bytes Nullable(Int64))),
    `code_repository` Nullable(String),
    `code_revision` Nullable(String),
    `code_image` Nullable(String),
    `trace_id` Nullable(FixedString(16)),
    `span_id` Nullable(FixedString(8)),
    `policy` Nullable(String),
    `backfill` Bool,
    `attributes` Map(String, String),
    `protected` Array(Tuple(subject FixedString(16), key_id FixedString(16), ciphertext String)),
    `commitments` Array(FixedString(32)),
    `parents` Array(Tuple(event_id FixedString(16), occurred_at DateTime64(6, 'UTC'), leaf_hash FixedString(32))),
    `salt` FixedString(16)
)
ENGINE = Null
COMMENT 'Entrance of all accepted events; holds nothing';

-- The same columns and no views behind it: a flush that needs several inserts is tried here first, and a flush that
-- failed is tried here batch by batch until the offender is found.
CREATE TABLE IF NOT EXISTS ${database}.ingest_check AS ${database}.ingest
ENGINE = Null
COMMENT 'Dry run of an insert into ingest';

CREATE TABLE IF NOT EXISTS ${database}.events
(
    -- A handful of tenants.
    `tenant` LowCardinality(String),
    -- Runs of equal values within an hour (it stands in the sorting key): ZSTD makes nothing of them.
    `chain_id` FixedString(32) CODEC(ZSTD(1)),
    -- Grows by one from row to row.
    `seq` UInt64 CODEC(Delta, ZSTD(1)),
    -- Nearly always 0: a fork is rare.
    `branch` UInt32 CODEC(ZSTD(1)),
    -- 82 bits of the chain and the sequence number: neighbours share all but the last bytes.
    `event_id` FixedString(16) CODEC(ZSTD(1)),
    -- A hash: random.
    `leaf_hash` FixedString(32) CODEC(NONE),
    `batch_seq` UInt64 CODEC(Delta, ZSTD(1)),
    -- One value for the life of a broker.
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    -- Equal for all events of a batch.
    `arrival` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    -- LOG_APPEND, RECEIPT or ORIGINAL.
    `time_source` LowCardinality(String),
    `environment` LowCardinality(String),
    `producer` LowCardinality(String),
    -- Processes come and go, but few live in one part.
    `instance` LowCardinality(String),
    `signed_at` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `occurred_at` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `event_type` LowCardinality(String),
    `importance` LowCardinality(String),
    -- Names in the code of services.
    `activity` LowCardinality(String),
    -- Equal for the events of one run, which follow one another.
    `run_id` Nullable(FixedString(16)) CODEC(ZSTD(1)),
    -- Users may be many: no dictionary.
    `actor_id` String CODEC(ZSTD(1)),
    `actor_kind` LowCardinality(String),
    `on_behalf_of` Nullable(String) CODEC(ZSTD(1)),
    `inputs` Array(Tuple(namespace LowCardinality(String), name String, version Nullable(String), digest Nullable(FixedString(32)), size_bytes Nullable(Int64))) CODEC(ZSTD(1)),
    `outputs` Array(Tuple(namespace LowCardinality(String), name String, version Nullable(String), digest Nullable(FixedString(32)), size_bytes Nullable(Int64))) CODEC(ZSTD(1)),
    `code_repository` LowCardinality(Nullable(String)),
    -- One value for a deployment.
    `code_revision` LowCardinality(Nullable(String)),
    `code_image` LowCardinality(Nullable(String)),
    `trace_id` Nullable(FixedString(16)) CODEC(ZSTD(1)),
    `span_id` Nullable(FixedString(8)) CODEC(ZSTD(1)),
    `policy` LowCardinality(Nullable(String)),
    `backfill` Bool CODEC(ZSTD(1)),
    -- Keys repeat, values need not.
    `attributes` Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    -- Ciphertexts are random; the list is empty for nearly all events.
    `protected` Array(Tuple(subject FixedString(16), key_id FixedString(16), ciphertext String)) CODEC(ZSTD(1)),
    `commitments` Array(FixedString(32)) CODEC(ZSTD(1)),
    `parents` Array(Tuple(event_id FixedString(16), occurred_at DateTime64(6, 'UTC'), leaf_hash FixedString(32))) CODEC(ZSTD(1)),
    -- Random; kept so that an audit compares every field of the signed bytes.
    `salt` FixedString(16) CODEC(NONE),

    -- "What happened between ...?": arrival is in the sorting key, the producer's time is not. Live events come in
    -- nearly in order of it, so that most granules span seconds.
    INDEX by_occurred_at occurred_at TYPE minmax GRANULARITY 1,
    -- "What did this message hold?" and the audits of a range of offsets.
    INDEX by_offset offset TYPE minmax GRANULARITY 1,
    -- "Show me this event": ids of one chain are spread over all hours in which it wrote. 8 to 43 ms instead of 120 ms on
    -- 5 M rows. The second form is what the view `events` shows: a filter on it must find an index too.
    INDEX by_event_id event_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_event_text UUIDNumToString(event_id) TYPE bloom_filter(0.01) GRANULARITY 1,
    -- "Everything of this chain": the hour stands before the chain in the sorting key. Few values a granule: small.
    INDEX by_chain_id chain_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_chain_text lower(hex(chain_id)) TYPE bloom_filter(0.01) GRANULARITY 1,
    -- "Which events carry this leaf?" (a proof is given, the event is wanted).
    INDEX by_leaf_hash leaf_hash TYPE bloom_filter(0.01) GRANULARITY 4,
    -- "What did this person or service do?" and "what happened in this trace or run?".
    INDEX by_actor_id actor_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_trace_id trace_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_run_id run_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(arrival)
-- Tenant first: a question is asked for one of them. Then the hour, so that time ranges read few granules, then the
-- chain, so that its events lie together and compress.
PRIMARY KEY (tenant, toStartOfHour(arrival), chain_id, seq)
ORDER BY (tenant, toStartOfHour(arrival), chain_id, seq, branch, log_id, topic, partition, offset)
TTL toDateTime(arrival) + INTERVAL ${cold_after_days} DAY TO VOLUME 'cold'
SETTINGS storage_policy = '${storage_policy}', ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Accepted events as the engine read them from the signed bytes';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.ingest_events TO ${database}.events AS
SELECT * FROM ${database}.ingest;

CREATE TABLE IF NOT EXISTS ${database}.edges_by_parent
(
    `tenant` LowCardinality(String),
    -- First in the key after the tenant: children of one parent lie together and share it.
    `parent_id` FixedString(16) CODEC(ZSTD(1)),
    -- What the child says of its parent; the linker compares it with what is stored.
    `parent_occurred_at` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `parent_leaf` FixedString(32) CODEC(NONE),
    `child_chain` FixedString(32) CODEC(ZSTD(1)),
    `child_seq` UInt64 CODEC(Delta, ZSTD(1)),
    `child_branch` UInt32 CODEC(ZSTD(1)),
    `child_id` FixedString(16) CODEC(ZSTD(1)),
    -- Position among the child's parents, from 0; an event has at most 64.
    `ordinal` UInt8 CODEC(ZSTD(1)),
    `child_occurred_at` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `arrival` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),

    -- The view `lineage_edges` shows ids as text and is asked from either end.
    INDEX by_parent_text UUIDNumToString(parent_id) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_child_text UUIDNumToString(child_id) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_offset offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(arrival)
PRIMARY KEY (tenant, parent_id)
ORDER BY (tenant, parent_id, child_chain, child_seq, child_branch, ordinal, log_id, topic, partition, offset)
TTL toDateTime(arrival) + INTERVAL ${cold_after_days} DAY TO VOLUME 'cold'
SETTINGS storage_policy = '${storage_policy}', ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Parent references sorted by the parent: lineage downwards';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.ingest_edges_by_parent TO ${database}.edges_by_parent AS
SELECT tenant,
       tupleElement(parent, 'event_id') AS parent_id,
       tupleElement(parent, 'occurred_at') AS parent_occurred_at,
       tupleElement(parent, 'leaf_hash') AS parent_leaf,
       chain_id AS child_chain, seq AS child_seq, branch AS child_branch, event_id AS child_id,
       toUInt8(position - 1) AS ordinal, occurred_at AS child_occurred_at,
       log_id, topic, partition, offset, arrival
FROM ${database}.ingest
ARRAY JOIN parents AS parent, arrayEnumerate(parents) AS position;

CREATE TABLE IF NOT EXISTS ${database}.edges_by_child
(
    `tenant` LowCardinality(String),
    `parent_id` FixedString(16) CODEC(ZSTD(1)),
    `parent_occurred_at` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `parent_leaf` FixedString(32) CODEC(NONE),
    `child_chain` FixedString(32) CODEC(ZSTD(1)),
    `child_seq` UInt64 CODEC(Delta, ZSTD(1)),
    `child_branch` UInt32 CODEC(ZSTD(1)),
    `child_id` FixedString(16) CODEC(ZSTD(1)),
    `ordinal` UInt8 CODEC(ZSTD(1)),
    `child_occurred_at` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `arrival` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    INDEX by_offset offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(arrival)
-- The child's id begins with its chain's first bits and ends with its sequence number: sorted by it, a chain's edges lie
-- together, and a walk upwards needs the id alone.
PRIMARY KEY (tenant, child_id)
ORDER BY (tenant, child_id, child_chain, child_seq, child_branch, ordinal, log_id, topic, partition, offset)
TTL toDateTime(arrival) + INTERVAL ${cold_after_days} DAY TO VOLUME 'cold'
SETTINGS storage_policy = '${storage_policy}', ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Parent references sorted by the child: lineage upwards';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.ingest_edges_by_child TO ${database}.edges_by_child AS
SELECT tenant,
       tupleElement(parent, 'event_id') AS parent_id,
       tupleElement(parent, 'occurred_at') AS parent_occurred_at,
       tupleElement(parent, 'leaf_hash') AS parent_leaf,
       chain_id AS child_chain, seq AS child_seq, branch AS child_branch, event_id AS child_id,
       toUInt8(position - 1) AS ordinal, occurred_at AS child_occurred_at,
       log_id, topic, partition, offset, arrival
FROM ${database}.ingest
ARRAY JOIN parents AS parent, arrayEnumerate(parents) AS position;

CREATE TABLE IF NOT EXISTS ${database}.entity_events
(
    `tenant` LowCardinality(String),
    `namespace` LowCardinality(String),
    -- Sorted by it: neighbours share long beginnings (paths, table names).
    `name` String CODEC(ZSTD(1)),
    -- '' stands for none: a Nullable column may not stand in a sorting key by default.
    `version` String CODEC(ZSTD(1)),
    `direction` Enum8('input' = 1, 'output' = 2),
    -- Position among the event's inputs or outputs, from 0: the same entity may stand there twice.
    `ordinal` UInt16 CODEC(ZSTD(1)),
    `digest` Nullable(FixedString(32)) CODEC(ZSTD(1)),
    `size_bytes` Nullable(Int64) CODEC(ZSTD(1)),
    `event_id` FixedString(16) CODEC(ZSTD(1)),
    `chain_id` FixedString(32) CODEC(ZSTD(1)),
    `seq` UInt64 CODEC(Delta, ZSTD(1)),
    `branch` UInt32 CODEC(ZSTD(1)),
    `event_type` LowCardinality(String),
    `occurred_at` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `log_id` LowCardinality(String),
    `topic` LowCardinality(String),
    `partition` UInt16 CODEC(ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `arrival` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),

    -- "Where else does this content appear?", by digest.
    INDEX by_digest digest TYPE bloom_filter(0.01) GRANULARITY 4,
    -- "What did this event read and write?": asked with the text of the id.
    INDEX by_event_text UUIDNumToString(event_id) TYPE bloom_filter(0.01) GRANULARITY 1,
    -- A name is often known without its namespace.
    INDEX by_name name TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_offset offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(arrival)
PRIMARY KEY (tenant, namespace, name)
ORDER BY (tenant, namespace, name, version, chain_id, seq, branch, direction, ordinal, log_id, topic, partition, offset)
TTL toDateTime(arrival) + INTERVAL ${cold_after_days} DAY TO VOLUME 'cold'
SETTINGS storage_policy = '${storage_policy}', ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Inputs and outputs of events sorted by data set';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.ingest_entity_events TO ${database}.entity_events AS
SELECT tenant,
       tupleElement(entity, 'namespace') AS namespace,
       tupleElement(entity, 'name') AS name,
       ifNull(tupleElement(entity, 'version'), '') AS version,
       CAST(if(place <= length(inputs), 'input', 'output'), 'Enum8(\'input\' = 1, \'output\' = 2)') AS direction,
       toUInt16(if(place <= length(inputs), place, place - length(inputs)) - 1) AS ordinal,
       tupleElement(entity, 'digest') AS digest,
       tupleElement(entity, 'size_bytes') AS size_bytes,
       event_id, chain_id, seq, branch, event_type, occurred_at, log_id, topic, partition, offset, arrival
FROM ${database}.ingest
ARRAY JOIN arrayConcat(inputs, outputs) AS entity, arrayEnumerate(arrayConcat(inputs, outputs)) AS place;
