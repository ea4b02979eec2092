-- As in 0010, but parked messages may be without their bytes, too (SEALTRAIL_PARKED_BYTES_PER_HOUR); `state` gone: their record
-- came, and the topic had them no longer.
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
    if(u.unkept = 1, toUInt64OrZero(extract(q.detail, '^not kept: (\\d+) bytes')), length(q.value)) AS bytes,
    lower(hex(if(u.unkept = 1, u.digest, SHA256(q.value)))) AS digest,
    if(a.act = '', NULL, a.acted_at) AS acted_at,
    if(a.act = 'released', a.released_as, NULL) AS released_as
FROM ${database}.committed_quarantine AS q
LEFT JOIN
(
    SELECT log_id, topic, partition, offset,
           argMax(act, at) AS act, max(at) AS acted_at, argMax(new_offset, at) AS released_as
    FROM ${database}.quarantine_acts
    GROUP BY log_id, topic, partition, offset
) AS a ON a.log_id = q.log_id AND a.topic = q.topic AND a.partition = q.partition AND a.offset = q.offset
LEFT JOIN
(
    SELECT log_id, topic, partition, offset, digest, 1 AS unkept
    FROM ${database}.committed_dispositions
    WHERE disposition IN ('parked', 'quarantined') AND startsWith(detail, 'not kept: ')
) AS u ON u.log_id = q.log_id AND u.topic = q.topic AND u.partition = q.partition AND u.offset = q.offset;
