//! Ways in other than webhooks: schedule, queues, folders; all end in `pipeline::intake`.

#[cfg(feature = "amqp")]
mod amqp;
mod folder;
#[cfg(feature = "nats")]
mod nats;
pub mod poll;
pub mod queue;
pub mod ways;
