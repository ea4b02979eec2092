-- Payloads are nearly half of what is stored, and compress by a seventh more in the second that a better codec takes for a
-- hundred thousand events: done when their parts go to `cold`, not while they come in (ADR 0130). A part is compressed anew
-- only in columns without a codec of their own: `value` has the table's, which is what it was.
ALTER TABLE ${database}.payloads MODIFY SETTING
    default_compression_codec = 'ZSTD(1)', materialize_ttl_recalculate_only = 1;
ALTER TABLE ${database}.payloads MODIFY COLUMN `value` String CODEC(Default);
ALTER TABLE ${database}.payloads MODIFY TTL
    toDateTime(arrival) + INTERVAL ${cold_after_days} DAY TO VOLUME 'cold',
    toDateTime(arrival) + INTERVAL ${cold_after_days} DAY RECOMPRESS CODEC(ZSTD(6));
