//! Which processes run, how far the archive's move is, which recordings are held, and what lies in the archive without a row.

crate::dialect::step!(
    "m0026_storage",
    "
-- A process that serves or works, for as long as it says so. What stops it from being mistaken for a dead one is seen_at_ms.
create table process (
    process_id {uuid} primary key,
    machine text not null,
    parts text not null,
    started_at_ms bigint not null,
    seen_at_ms bigint not null
);

-- Objects that lie verified in the archive that is moved to; of one move, and empty when none is under way.
create table archive_move (
    object_key {ordered} primary key,
    size_bytes bigint not null,
    sha256 {bytes} not null,
    version_id text,
    verified_at_ms bigint not null
);

-- Recordings whose objects the store itself keeps from being deleted until somebody lifts it.
create table legal_hold (
    recording_id {uuid} primary key,
    reason text not null,
    placed_by text not null,
    placed_at_ms bigint not null,
    lifting_by text
);

-- Objects of which the store was seen to hold them.
create table legal_hold_object (
    object_id {uuid} primary key,
    recording_id {uuid} not null,
    held_at_ms bigint not null
);
create index legal_hold_object_recording on legal_hold_object (recording_id);

-- Objects that no row speaks of, until a later look finds a row for them.
create table archive_orphan (
    object_key {ordered} primary key,
    size_bytes bigint not null,
    found_at_ms bigint not null,
    seen_at_ms bigint not null
);
"
);
