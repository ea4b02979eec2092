-- What a small part costs. The engine gathers statistics of each column of each part, for the order of joins, and no
-- question here depends on them: 1 us of some 40 an event in blocks of 30,000, 15 % of the store's time in blocks of
-- 2,000. And it merges as soon as it can: rows were written anew 5.9 times (blocks of 30,000) to 21 times (of 2,000).
-- With ten parts at a time it is 3.6 and 10 times, and a table has some tens of parts at most (ADR 0116).
ALTER TABLE ${database}.events MODIFY SETTING
    auto_statistics_types = '', min_parts_to_merge_at_once = 10, merge_selector_base = 10;
ALTER TABLE ${database}.edges_by_parent MODIFY SETTING
    auto_statistics_types = '', min_parts_to_merge_at_once = 10, merge_selector_base = 10;
ALTER TABLE ${database}.edges_by_child MODIFY SETTING
    auto_statistics_types = '', min_parts_to_merge_at_once = 10, merge_selector_base = 10;
ALTER TABLE ${database}.entity_events MODIFY SETTING
    auto_statistics_types = '', min_parts_to_merge_at_once = 10, merge_selector_base = 10;
ALTER TABLE ${database}.payloads MODIFY SETTING
    auto_statistics_types = '', min_parts_to_merge_at_once = 10, merge_selector_base = 10;
ALTER TABLE ${database}.dispositions MODIFY SETTING auto_statistics_types = '';
ALTER TABLE ${database}.batches MODIFY SETTING auto_statistics_types = '';
ALTER TABLE ${database}.commits MODIFY SETTING auto_statistics_types = '';
ALTER TABLE ${database}.commit_ends MODIFY SETTING auto_statistics_types = '';
ALTER TABLE ${database}.receipts MODIFY SETTING auto_statistics_types = '';
ALTER TABLE ${database}.link_verdicts MODIFY SETTING auto_statistics_types = '';
ALTER TABLE ${database}.findings MODIFY SETTING auto_statistics_types = '';
