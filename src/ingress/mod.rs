//! Ways in other than webhooks: schedule, queues, folders; all end in `pipeline::intake`.

pub mod poll;
pub mod queue;
