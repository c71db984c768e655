//! What lies in one message queue: shown, hidden, shown again, deleted. Moments are the vendor's, handed in.

use std::sync::Arc;

use super::super::house::Call;

/// How a message is put on the wire.
#[derive(Clone, Debug)]
pub struct Message {
    pub id: String,
    /// As it stands in `MessageBody`: base64, or the plain text.
    pub body: String,
    pub enqueued_ms: i64,
    pub visible_ms: i64,
    pub first_dequeued_ms: Option<i64>,
    pub dequeue_count: u32,
    pub priority: u8,
    /// The only handle that is good, while the message is hidden.
    pub handle: Option<String>,
    /// Whose mishaps it meets.
    pub call: Option<Arc<Call>>,
}

#[derive(Debug, Default)]
pub struct Shelf {
    messages: Vec<Message>,
}

/// What became of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handle {
    Good,
    /// Used before, replaced, or past its time.
    Dead,
}

impl Shelf {
    pub fn put(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Messages that are visible now, oldest first.
    pub fn visible(&mut self, most: usize, now_ms: i64) -> Vec<&mut Message> {
        self.messages
            .iter_mut()
            .filter(|message| message.visible_ms <= now_ms)
            .take(most)
            .collect()
    }

    pub fn counts(&self, now_ms: i64) -> (usize, usize) {
        let active = self
            .messages
            .iter()
            .filter(|message| message.visible_ms <= now_ms)
            .count();
        (active, self.messages.len() - active)
    }

    /// A message that this handle hides at this moment.
    fn holding(&mut self, handle: &str, now_ms: i64) -> Option<usize> {
        self.messages.iter().position(|message| {
            message.handle.as_deref() == Some(handle) && now_ms < message.visible_ms
        })
    }

    /// Deletes a message; `keep` may decide that the queue forgets to, and shows it again.
    pub fn delete(
        &mut self,
        handle: &str,
        now_ms: i64,
        keep: impl FnOnce(&Message) -> bool,
    ) -> Handle {
        let Some(at) = self.holding(handle, now_ms) else {
            return Handle::Dead;
        };
        if keep(&self.messages[at]) {
            self.messages[at].handle = None;
            self.messages[at].visible_ms = now_ms;
            return Handle::Dead;
        }
        self.messages.remove(at);
        Handle::Good
    }

    /// Hides a message until another moment, under a new handle.
    pub fn hide(&mut self, handle: &str, until_ms: i64, new: String, now_ms: i64) -> Handle {
        match self.holding(handle, now_ms) {
            Some(at) => {
                self.messages[at].visible_ms = until_ms;
                self.messages[at].handle = Some(new);
                Handle::Good
            }
            None => Handle::Dead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> Message {
        Message {
            id: id.to_owned(),
            body: "{}".to_owned(),
            enqueued_ms: 0,
            visible_ms: 0,
            first_dequeued_ms: None,
            dequeue_count: 0,
            priority: 8,
            handle: None,
            call: None,
        }
    }

    #[test]
    fn a_handle_works_once_and_dies_with_its_time() {
        let mut shelf = Shelf::default();
        shelf.put(message("a"));
        for message in shelf.visible(16, 0) {
            message.handle = Some("h1".to_owned());
            message.visible_ms = 100;
        }
        assert!(shelf.visible(16, 99).is_empty());
        assert_eq!(shelf.counts(99), (0, 1));
        assert_eq!(shelf.hide("h1", 200, "h2".to_owned(), 50), Handle::Good);
        assert_eq!(shelf.delete("h1", 60, |_| false), Handle::Dead);
        assert_eq!(shelf.delete("h2", 200, |_| false), Handle::Dead, "too late");
        assert_eq!(shelf.visible(16, 200).len(), 1);
        assert_eq!(shelf.delete("h2", 150, |_| false), Handle::Good);
        assert_eq!(shelf.counts(999), (0, 0));
    }
}
