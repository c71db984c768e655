//! Recordings and their work columns, the names they go by, their history, and their objects.

crate::dialect::step!(
    "m0003_recordings",
    "
create table recording (
    recording_id {uuid} not null primary key,
    call_id {uuid} not null references call (call_id),
    source text not null,
    kind text not null,
    provider_recording_id text,
    part text not null,
    handle text not null,
    link_url text,
    link_url_until_ms bigint,
    link_renewable boolean not null,
    ready_after_ms bigint,
    link_until_ms bigint,
    gone_at_ms bigint,
    deadline_at_ms bigint not null,
    arrived_at_ms bigint not null,
    at_ms bigint not null,
    found_by text not null,
    confirmed_at_ms bigint,
    archived_at_ms bigint,
    state text not null,
    state_since_ms bigint not null,
    reason text,
    evidence text,
    notes text not null,
    folder text,
    facts_version bigint not null default 1,
    work_class bigint,
    available_at_ms bigint not null,
    lease_token bigint not null default 0,
    lease_owner text,
    attempts bigint not null default 0,
    lapses bigint not null default 0,
    not_ready_tries bigint not null default 0,
    failures bigint not null default 0,
    access_due boolean not null default false,
    access_tries bigint not null default 0,
    access_lapses bigint not null default 0,
    manifest_due boolean not null default false,
    recheck_at_ms bigint,
    recheck_planned boolean not null default false
);
create index recording_call on recording (call_id);
create index recording_at on recording (at_ms, recording_id);
create index recording_source_at on recording (source, at_ms, recording_id);
create index recording_state_at on recording (state, at_ms, recording_id);
create index recording_urgent on recording (deadline_at_ms, recording_id) where work_class <= 3;
create index recording_work on recording (work_class, deadline_at_ms, recording_id) where work_class is not null;
create index recording_leased on recording (lease_owner) where lease_owner is not null;

create table recording_alias (
    source text not null,
    alias text not null,
    recording_id {uuid} not null references recording (recording_id),
    primary key (source, alias)
);
create index recording_alias_recording on recording_alias (recording_id);

create table recording_event (
    event_id {uuid} not null primary key,
    recording_id {uuid} not null references recording (recording_id),
    at_ms bigint not null,
    from_state text,
    to_state text not null,
    reason text
);
create index recording_event_recording on recording_event (recording_id, event_id);

create table notice_link (
    subject_id {uuid} not null,
    sha256 {bytes} not null,
    notice_id {uuid},
    arrived_at_ms bigint not null,
    primary key (subject_id, sha256)
);

create table archive_object (
    object_id {uuid} not null primary key,
    recording_id {uuid} not null references recording (recording_id),
    role text not null,
    n bigint not null,
    object_key text not null,
    size_bytes bigint not null,
    sha256 {bytes} not null,
    mime text not null,
    version_id text,
    codec text,
    sample_rate_hz bigint,
    channels bigint,
    duration_ms bigint,
    created_at_ms bigint not null,
    verified_at_ms bigint,
    made_from {bytes},
    tool text,
    settings text,
    facts_version bigint
);
create unique index archive_object_recording_role_n on archive_object (recording_id, role, n);
create index archive_object_key on archive_object (object_key);
"
);
