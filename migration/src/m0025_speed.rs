//! Orders in which a search walks what it looks for, so that each filter alone has an index which is in order of time.
//!
//! `recording_counts` is what a status is counted from, without the table; `recording_slack` begins with the closest call.
//!
//! Ids are left out of `search_key_time`: hardly two calls share one. A tag knows its call's time, as a word does; a row
//! from before, or of an older process beside this one, has none and is looked up by its call.

crate::dialect::step!(
    "m0025_speed",
    "
create index search_key_time on search_key (kind, value, at_ms, call_id) where kind <> 'i';

create index call_direction on call (direction, at_ms, call_id) where direction is not null;
create index call_duration on call (duration_ms, at_ms, call_id) where duration_ms is not null;
create index call_bare_source on call (source, at_ms, call_id) where not has_recording;

create index recording_counts on recording (source, state, found_by);
create index recording_slack on recording (source, (gone_at_ms - archived_at_ms)) where gone_at_ms is not null and archived_at_ms is not null;
create index recording_noted_as on recording (notes, at_ms, recording_id) where notes <> '[]';

alter table call_tag add column at_ms bigint;
update call_tag set at_ms = (select c.at_ms from call c where c.call_id = call_tag.call_id);
create index call_tag_time on call_tag (tag, at_ms, call_id);
"
);
