//! Published messages that wait for one other node.

use super::queue::ByteQueue;
use crate::model::topic::Publication;

/// What became of a message for another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    Yes,
    /// As much waits as may.
    Full,
    /// The path is over.
    Over,
}

/// Published messages that wait to be written on one path.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// `None`: the path is over.
    queue: Option<ByteQueue<Publication>>,
}

impl Outgoing {
    /// Holds at most so many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { queue: Some(ByteQueue::new(limit)) }
    }

    pub(crate) fn push(&mut self, publication: Publication) -> Queued {
        let size = publication.size();
        match self.queue.as_mut().map(|queue| queue.push(publication, size)) {
            Some(true) => Queued::Yes,
            Some(false) => Queued::Full,
            None => Queued::Over,
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Publication> {
        self.queue.as_mut()?.pop()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.as_ref().is_none_or(ByteQueue::is_empty)
    }

    /// The path is over. Tells how many messages are lost with it.
    pub(crate) fn end(&mut self) -> usize {
        self.queue.take().map_or(0, |queue| queue.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::TopicName;

    #[test]
    fn what_was_not_written_is_lost_with_its_path_and_counted() {
        let publication = Publication {
            topic: TopicName::new("t").expect("a valid name"),
            known: 1,
            trace: None,
            name: "m".into(),
            body: vec![0; 100].into(),
        };
        let mut outgoing = Outgoing::new(2 * publication.size());
        let pushed = [Queued::Yes, Queued::Yes, Queued::Full];
        assert_eq!([(); 3].map(|()| outgoing.push(publication.clone())), pushed);
        assert_eq!(outgoing.pop(), Some(publication.clone()));
        assert_eq!(outgoing.end(), 1);
        assert_eq!(outgoing.push(publication), Queued::Over);
        assert!(outgoing.is_empty() && outgoing.end() == 0 && outgoing.pop().is_none());
    }
}
