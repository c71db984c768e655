//! Our own ids: UUIDv7, so that rows made together lie together in every index.

use uuid::{ContextV7, Timestamp as UuidTime, Uuid};

use super::clock::Timestamp;

/// A new id whose time part is `now`; the rest is random, ids of one process rise within a millisecond.
pub fn new_id(now: Timestamp) -> Uuid {
    static CONTEXT: std::sync::LazyLock<std::sync::Mutex<ContextV7>> =
        std::sync::LazyLock::new(|| std::sync::Mutex::new(ContextV7::new()));
    let ms = u64::try_from(now.ms()).unwrap_or(0);
    let nanos = u32::try_from(ms % 1000).unwrap_or(0) * 1_000_000;
    Uuid::new_v7(UuidTime::from_unix(&*CONTEXT, ms / 1000, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_in_the_order_they_were_made() {
        let now = Timestamp::from_ms(1_712_346_600_123);
        let ids: Vec<_> = (0..1000).map(|_| new_id(now)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(ids[0].get_timestamp().unwrap().to_unix().0, 1_712_346_600);
    }
}
