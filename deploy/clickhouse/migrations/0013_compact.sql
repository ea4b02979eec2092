-- What an insert writes holds its columns in one file instead of one or more a column: a part of `events` had 204 files, each
-- made, synced and, after its first merge, deleted. Merges write wide parts as before (ADR 0136).
ALTER TABLE ${database}.events MODIFY SETTING min_level_for_wide_part = 1;
ALTER TABLE ${database}.edges_by_parent MODIFY SETTING min_level_for_wide_part = 1;
ALTER TABLE ${database}.edges_by_child MODIFY SETTING min_level_for_wide_part = 1;
ALTER TABLE ${database}.entity_events MODIFY SETTING min_level_for_wide_part = 1;
