-- Views for people: ids as text, hashes as hex, only what is committed, each row once. Example questions: docs/sql.md.
--
-- ClickHouse shows times from 1900 to 2299; an event may carry any time of the calendar, and its exact value is then in
-- toUnixTimestamp64Micro(occurred_at).

CREATE OR REPLACE VIEW ${views}.events AS
SELECT
    -- Written exactly as the expression of the index by_event_text: a filter on event_id finds it.
    UUIDNumToString(event_id) AS event_id,
    lower(hex(chain_id)) AS chain_id,
    seq,
    branch,
    batch_seq,
    tenant,
    environment,
    producer,
    instance,
    occurred_at,
    signed_at,
    arrival,
    time_source,
    event_type,
    importance,
    activity,
    if(run_id IS NULL, NULL, UUIDNumToString(assumeNotNull(run_id))) AS run_id,
    actor_id,
    actor_kind,
    on_behalf_of,
    arrayMap(x -> CAST((x.1, x.2, x.3, lower(hex(x.4)), x.5), 'Tuple(namespace String, name String, version Nullable(String), digest Nullable(String), size_bytes Nullable(Int64))'), inputs) AS inputs,
    arrayMap(x -> CAST((x.1, x.2, x.3, lower(hex(x.4)), x.5), 'Tuple(namespace String, name String, version Nullable(String), digest Nullable(String), size_bytes Nullable(Int64))'), outputs) AS outputs,
    code_repository,
    code_revision,
    code_image,
    lower(hex(trace_id)) AS trace_id,
    lower(hex(span_id)) AS span_id,
    policy,
    backfill,
    attributes,
    length(protected) AS protected_values,
    length(commitments) AS commitments,
    arrayMap(x -> UUIDNumToString(x.1), parents) AS parents,
    lower(hex(leaf_hash)) AS leaf_hash,
    log_id,
    topic,
    partition,
    offset
FROM ${database}.committed_events;

CREATE OR REPLACE VIEW ${views}.lineage_edges AS
SELECT
    tenant,
    UUIDNumToString(parent_id) AS parent_id,
    UUIDNumToString(child_id) AS child_id,
    ordinal,
    parent_occurred_at,
    child_occurred_at,
    lower(hex(parent_leaf)) AS parent_leaf,
    lower(hex(child_chain)) AS child_chain,
    child_seq,
    child_branch,
    arrival,
    log_id,
    topic,
    partition,
    offset
FROM ${database}.committed_edges_by_parent;

-- Edges with what is known of each. An edge that nobody has looked at yet is PENDING.
CREATE OR REPLACE VIEW ${views}.links AS
SELECT
    e.tenant AS tenant,
    UUIDNumToString(e.parent_id) AS parent_id,
    UUIDNumToString(e.child_id) AS child_id,
    e.ordinal AS ordinal,
    if(v.verdict = '', 'PENDING', toString(v.verdict)) AS verdict,
    if(v.verdict = '', NULL, v.decided_at) AS decided_at,
    e.parent_occurred_at AS parent_occurred_at,
    e.child_occurred_at AS child_occurred_at,
    lower(hex(e.child_chain)) AS child_chain,
    e.child_seq AS child_seq,
    e.child_branch AS child_branch,
    e.arrival AS arrival
FROM ${database}.committed_edges_by_child AS e
LEFT JOIN (SELECT * FROM ${database}.link_verdicts FINAL) AS v
    ON v.child_chain = e.child_chain AND v.child_seq = e.child_seq AND v.child_branch = e.child_branch AND v.ordinal = e.ordinal;

CREATE OR REPLACE VIEW ${views}.entity_history AS
SELECT
    tenant,
    namespace,
    name,
    version,
    direction,
    lower(hex(digest)) AS digest,
    size_bytes,
    UUIDNumToString(event_id) AS event_id,
    event_type,
    occurred_at,
    arrival,
    lower(hex(chain_id)) AS chain_id,
    seq,
    branch,
    log_id,
    topic,
    partition,
    offset
FROM ${database}.committed_entity_events;

-- One row a chain. next_batch and next_seq: end of what is contiguous; stalled: neither closed nor continued, and silent
-- for two heartbeats.
CREATE OR REPLACE VIEW ${views}.chain_status AS
WITH
    chains AS
    (
        SELECT
            chain_id,
            any(tenant) AS tenant,
            any(environment) AS environment,
            any(producer) AS producer,
            any(instance) AS instance,
            any(topic) AS topic,
            any(partition) AS partition,
            count() AS batches,
            sum(count) AS events,
            countIf(branch > 0) AS forks,
            min(arrival) AS first_arrival,
            max(arrival) AS last_arrival,
            max(heartbeat_s) AS heartbeat_s,
            maxIf(closes, branch = 0) AS closed,
            -- (batch_seq, first sequence number after it), in order
            arraySort(groupUniqArrayIf((batch_seq, first_seq + count), branch = 0)) AS trunk,
            arrayFirstIndex((batch, place) -> batch.1 != place - 1, trunk, arrayEnumerate(trunk)) AS broken,
            if(broken = 0, length(trunk), broken - 1) AS contiguous
        FROM ${database}.committed_batches
        GROUP BY chain_id
    ),
    beats AS (SELECT chain_id, arrival AS beat FROM ${database}.heartbeats FINAL),
    continued AS (SELECT DISTINCT continues_chain FROM ${database}.committed_batches WHERE continues_batch >= 0)
SELECT
    lower(hex(c.chain_id)) AS chain_id,
    c.tenant AS tenant,
    c.environment AS environment,
    c.producer AS producer,
    c.instance AS instance,
    c.topic AS topic,
    c.partition AS partition,
    c.batches AS batches,
    c.events AS events,
    toUInt64(c.contiguous) AS next_batch,
    if(c.contiguous = 0, 0, c.trunk[c.contiguous].2) AS next_seq,
    -- Ranges of missing batches, and how many batches that are.
    arrayCount((batch, before) -> batch.1 > before + 1, arrayPopFront(c.trunk), arrayPopBack(arrayMap(x -> x.1, c.trunk)))
        + (c.trunk[1].1 > 0) AS gaps,
    if(empty(c.trunk), 0, c.trunk[-1].1 + 1 - length(c.trunk)) AS missing_batches,
    c.forks AS forks,
    c.first_arrival AS first_arrival,
    c.last_arrival AS last_arrival,
    nullIf(b.beat, toDateTime64(0, 6, 'UTC')) AS last_heartbeat,
    c.heartbeat_s AS heartbeat_s,
    toBool(c.closed) AS closed,
    c.chain_id IN (SELECT continues_chain FROM continued) AS continued,
    NOT c.closed AND NOT continued AND c.heartbeat_s > 0
        AND greatest(c.last_arrival, b.beat) < now64(6, 'UTC') - toIntervalSecond(2 * c.heartbeat_s) AS stalled
FROM chains AS c
LEFT JOIN beats AS b ON b.chain_id = c.chain_id;

-- How far a producer's clock is from arrival, seconds; positive: signed after it arrived, its clock runs ahead. Transport
-- makes it negative: compare with other chains.
CREATE OR REPLACE VIEW ${views}.clock_offsets AS
SELECT
    lower(hex(chain_id)) AS chain_id,
    any(tenant) AS tenant,
    any(producer) AS producer,
    any(instance) AS instance,
    count() AS batches,
    quantileExact(0.5)(toUnixTimestamp64Micro(signed_at) - toUnixTimestamp64Micro(arrival)) / 1e6 AS median_s,
    min(toUnixTimestamp64Micro(signed_at) - toUnixTimestamp64Micro(arrival)) / 1e6 AS min_s,
    max(toUnixTimestamp64Micro(signed_at) - toUnixTimestamp64Micro(arrival)) / 1e6 AS max_s,
    max(clock_error_us) / 1e6 AS clock_error_s,
    max(arrival) AS last_arrival
FROM ${database}.committed_batches
GROUP BY chain_id;

-- Refused messages with what became of them: parked, quarantined, released or dismissed.
CREATE OR REPLACE VIEW ${views}.quarantined AS
SELECT
    q.log_id AS log_id,
    q.topic AS topic,
    q.partition AS partition,
    q.offset AS offset,
    q.arrival AS arrival,
    if(a.act = '', toString(q.disposition), a.act) AS state,
    q.code AS code,
    q.step AS step,
    q.detail AS detail,
    length(q.value) AS bytes,
    lower(hex(SHA256(q.value))) AS digest,
    if(a.act = '', NULL, a.acted_at) AS acted_at,
    if(a.act = 'released', a.released_as, NULL) AS released_as
FROM ${database}.committed_quarantine AS q
LEFT JOIN
(
    SELECT log_id, topic, partition, offset,
           argMax(act, at) AS act, max(at) AS acted_at, argMax(new_offset, at) AS released_as
    FROM ${database}.quarantine_acts
    GROUP BY log_id, topic, partition, offset
) AS a ON a.log_id = q.log_id AND a.topic = q.topic AND a.partition = q.partition AND a.offset = q.offset;

-- Findings that nothing has cleared: a gap by the batches that were missing, a refused message by its release or
-- dismissal.
CREATE OR REPLACE VIEW ${views}.open_findings AS
WITH
    gaps AS
    (
        SELECT chain_id, groupUniqArray(batch_seq) AS present
        FROM ${database}.committed_batches
        WHERE branch = 0 AND chain_id IN (SELECT chain_id FROM ${database}.findings WHERE code = 'GAP')
        GROUP BY chain_id
    ),
    cleared AS
    (
        SELECT log_id, topic, partition, offset, 1 AS done
        FROM ${database}.quarantine_acts
        GROUP BY log_id, topic, partition, offset
    ),
    -- Events whose parents were waited for in vain, and have all come since.
    come AS
    (
        SELECT child_chain, child_seq
        FROM ${database}.link_verdicts FINAL
        WHERE child_chain IN (SELECT chain_id FROM ${database}.findings WHERE code IN ('ORPHAN', 'LOST_WITH_PRODUCER'))
        GROUP BY child_chain, child_seq
        HAVING countIf(verdict IN ('ORPHAN', 'LOST_WITH_PRODUCER')) = 0
    ),
    found AS
    (
        SELECT
            f.code AS code, f.severity AS severity, f.chain_id AS chain_id, f.tenant AS tenant, f.found_at AS found_at,
            f.detail AS detail, f.suspect AS suspect, f.estimate_us AS estimate_us,
            extractGroups(f.detail, 'batches (\\d+) to (\\d+) are missing') AS ends,
            length(ends) = 2 ? toUInt64OrZero(ends[1]) : f.batch_seq AS first_missing,
            length(ends) = 2 ? toUInt64OrZero(ends[2]) : f.batch_seq AS last_missing,
            arrayCount(x -> x BETWEEN first_missing AND last_missing, g.present) AS arrived
        FROM ${database}.committed_findings AS f
        LEFT JOIN gaps AS g ON g.chain_id = f.chain_id
        LEFT JOIN cleared AS c ON c.log_id = f.log_id AND c.topic = f.topic AND c.partition = f.partition AND c.offset = f.offset
        WHERE f.code != 'GAP_FILLED'
            AND NOT (f.origin = 'ingest' AND c.done = 1)
            AND NOT (f.code = 'GAP' AND arrived = last_missing - first_missing + 1)
            AND NOT (f.code IN ('ORPHAN', 'LOST_WITH_PRODUCER')
                AND (f.chain_id, bitAnd(byteSwap(reinterpretAsUInt64(substring(assumeNotNull(f.event_id), 9, 8))), 1099511627775)) IN come)
    )
SELECT
    code,
    any(severity) AS severity,
    lower(hex(chain_id)) AS chain_id,
    any(tenant) AS tenant,
    count() AS findings,
    min(found_at) AS first_found,
    max(found_at) AS last_found,
    argMax(detail, found_at) AS latest_detail,
    lower(hex(anyHeavy(suspect))) AS suspect,
    max(abs(estimate_us)) / 1e6 AS largest_estimate_s
FROM found
GROUP BY code, chain_id;
