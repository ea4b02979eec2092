-- Which offsets are complete, and the base tables as far as they are: each row once, no identifiers turned into text.
-- Tools (worker, linker, audits) read these; people read the views of 0004.

-- The end of what is contiguously committed, for each partition and life of a log. A worker commits only what follows
-- its last commit, so that the highest offset is that end, unless rows of `commits` were lost or tampered with: then
-- less is covered than lies between first and last, and the exact answer is computed, for such partitions only.
-- (Repeated commits cover more than there is and could hide such a hole here. The worker's own cursor is always exact,
-- and an audit names the hole.)
CREATE OR REPLACE VIEW ${database}.committed AS
WITH ends AS
(
    SELECT log_id, topic, partition, min(first_offset) AS first, max(last_offset) AS last, sum(covered) AS covered
    FROM ${database}.commit_ends
    GROUP BY log_id, topic, partition
)
SELECT log_id, topic, partition, last AS committed
FROM ends
WHERE covered >= last - first + 1
UNION ALL
SELECT log_id, topic, partition, ifNull(min(if(number > 1 AND first_offset > reached + 1, reached, NULL)), max(last_offset)) AS committed
FROM
(
    SELECT log_id, topic, partition, first_offset, last_offset,
           row_number() OVER w AS number,
           max(last_offset) OVER (PARTITION BY log_id, topic, partition ORDER BY first_offset, last_offset
                                  ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
    FROM ${database}.commits
    WHERE (log_id, topic, partition) IN (SELECT log_id, topic, partition FROM ends WHERE covered < last - first + 1)
    WINDOW w AS (PARTITION BY log_id, topic, partition ORDER BY first_offset, last_offset)
)
GROUP BY log_id, topic, partition;

CREATE OR REPLACE VIEW ${database}.committed_events AS
SELECT e.* FROM ${database}.events AS e FINAL
INNER JOIN ${database}.committed AS c ON e.log_id = c.log_id AND e.topic = c.topic AND e.partition = c.partition
WHERE e.offset <= c.committed;

CREATE OR REPLACE VIEW ${database}.committed_edges_by_parent AS
SELECT e.* FROM ${database}.edges_by_parent AS e FINAL
INNER JOIN ${database}.committed AS c ON e.log_id = c.log_id AND e.topic = c.topic AND e.partition = c.partition
WHERE e.offset <= c.committed;

CREATE OR REPLACE VIEW ${database}.committed_edges_by_child AS
SELECT e.* FROM ${database}.edges_by_child AS e FINAL
INNER JOIN ${database}.committed AS c ON e.log_id = c.log_id AND e.topic = c.topic AND e.partition = c.partition
WHERE e.offset <= c.committed;

CREATE OR REPLACE VIEW ${database}.committed_entity_events AS
SELECT e.* FROM ${database}.entity_events AS e FINAL
INNER JOIN ${database}.committed AS c ON e.log_id = c.log_id AND e.topic = c.topic AND e.partition = c.partition
WHERE e.offset <= c.committed;

CREATE OR REPLACE VIEW ${database}.committed_batches AS
SELECT e.* FROM ${database}.batches AS e FINAL
INNER JOIN ${database}.committed AS c ON e.log_id = c.log_id AND e.topic = c.topic AND e.partition = c.partition
WHERE e.offset <= c.committed;

CREATE OR REPLACE VIEW ${database}.committed_payloads AS
SELECT e.* FROM ${database}.payloads AS e FINAL
INNER JOIN ${database}.committed AS c ON e.log_id = c.log_id AND e.topic = c.topic AND e.partition = c.partition
WHERE e.offset <= c.committed;

CREATE OR REPLACE VIEW ${database}.committed_dispositions AS
SELECT e.* FROM ${database}.dispositions AS e FINAL
INNER JOIN ${database}.committed AS c ON e.log_id = c.log_id AND e.topic = c.topic AND e.partition = c.partition
WHERE e.offset <= c.committed;

CREATE OR REPLACE VIEW ${database}.committed_quarantine AS
SELECT e.* FROM ${database}.quarantine AS e FINAL
INNER JOIN ${database}.committed AS c ON e.log_id = c.log_id AND e.topic = c.topic AND e.partition = c.partition
WHERE e.offset <= c.committed;

-- Findings of a flush are visible with its commit; those of linker, timers and audits at once.
CREATE OR REPLACE VIEW ${database}.committed_findings AS
SELECT e.* FROM ${database}.findings AS e FINAL
LEFT JOIN ${database}.committed AS c ON e.log_id = c.log_id AND e.topic = c.topic AND e.partition = c.partition
WHERE e.origin != 'ingest' OR (c.log_id = e.log_id AND e.offset <= c.committed);
