//! The tables: columns and nothing else. The database room turns them into domain types.
//!
//! Times are UTC milliseconds (`*_at_ms`), ids are UUIDs, JSON is text.

pub mod account;
pub mod alarm_told;
pub mod api_token;
pub mod archive_move;
pub mod archive_object;
pub mod archive_orphan;
pub mod audit_event;
pub mod audit_head;
pub mod backfill;
pub mod call;
pub mod call_alias;
pub mod call_leg;
pub mod call_note;
pub mod call_tag;
pub mod door_counter;
pub mod fault;
pub mod fixity_finding;
pub mod fixity_run;
pub mod given_reason;
pub mod identity;
pub mod installation;
pub mod legal_hold;
pub mod legal_hold_object;
pub mod marker;
pub mod notice;
pub mod notice_link;
pub mod oidc_flow;
pub mod one_time_link;
pub mod pace;
pub mod party;
pub mod process;
pub mod provider_delete;
pub mod recording;
pub mod recording_alias;
pub mod recording_event;
pub mod saved_search;
pub mod schedule_job;
pub mod schedule_run;
pub mod search_key;
pub mod session;
pub mod source_seen;
pub mod sweep;
pub mod sweep_walk;
