-- A vertical merge sorts by the key columns and then copies the others one by one; a horizontal one moves all 39 columns
-- of `events` row by row. Measured, CPU an event: 2.9 us against 8.3 for four parts of 40,960 rows, 6.5 to 7.3 against
-- 9.6 to 11.8 for eight of 10,240. By default the engine merges so from 131,072 rows on, and what a few flushes leave is
-- less.
ALTER TABLE ${database}.events MODIFY SETTING vertical_merge_algorithm_min_rows_to_activate = 16384;
