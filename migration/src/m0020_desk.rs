//! What people leave beside a call: markers, notes, tags, and searches that they keep.
//!
//! Nothing of it is a fact of the archive; it comes back from a backup alone. What is taken away stays as a row that says so.

crate::dialect::step!(
    "m0020_desk",
    "
create table marker (
    marker_id {uuid} not null primary key,
    recording_id {uuid} not null,
    offset_ms bigint not null,
    body text not null,
    author text not null,
    made_at_ms bigint not null,
    removed_at_ms bigint
);
create index marker_recording on marker (recording_id, offset_ms);

create table call_note (
    note_id {uuid} not null primary key,
    call_id {uuid} not null,
    body text not null,
    author text not null,
    made_at_ms bigint not null,
    removed_at_ms bigint
);
create index call_note_call on call_note (call_id, note_id);

create table call_tag (
    call_id {uuid} not null,
    tag {ordered} not null,
    author text not null,
    made_at_ms bigint not null,
    primary key (call_id, tag)
);
create index call_tag_tag on call_tag (tag, call_id);

create table saved_search (
    search_id {uuid} not null primary key,
    owner text not null,
    name text not null,
    query text not null,
    made_at_ms bigint not null
);
create index saved_search_owner on saved_search (owner, search_id);

create index recording_noted on recording (at_ms, recording_id) where notes <> '[]';
"
);
