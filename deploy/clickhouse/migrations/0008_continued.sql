-- Which chain continues another: asked by the worker for each chain that it does not hold (ADR 0120). Nearly all rows
-- continue none, so that the filter leaves next to nothing to read. Older parts have it once they are merged.
ALTER TABLE ${database}.batches
    ADD INDEX IF NOT EXISTS by_continued continues_chain TYPE bloom_filter(0.01) GRANULARITY 4;
