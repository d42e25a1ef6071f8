//! The topics that one instance of a child listens to: from when it has started until it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Since, Subscriber, SubscriberId, TooManyTopics, Topics};
use crate::model::{
    child::ChildSpec,
    id::{ChildId, TopicName},
};

/// The topics of one instance.
pub(crate) struct InstanceTopics {
    topics: Arc<Topics>,
    child: ChildId,
    state: Mutex<State>,
}

enum State {
    /// It was made and has not started. While a child moves, the older instance may be the one that goes
    /// on: this one is given nothing yet.
    Made(BTreeSet<TopicName>),
    Runs {
        subscriber: Arc<dyn Subscriber>,
        listens: BTreeMap<TopicName, SubscriberId>,
    },
    Ended,
}

impl InstanceTopics {
    /// Those that its spec names.
    pub(crate) fn new(topics: Arc<Topics>, spec: &ChildSpec) -> Arc<Self> {
        let state = Mutex::new(State::Made(spec.topics().clone()));
        Arc::new(Self { topics, child: spec.id().clone(), state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under a lock is a defect of ours; the others go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instance listens to one more topic, if it has not ended.
    pub(crate) fn subscribe(&self, topic: TopicName) -> Result<(), TooManyTopics> {
        match &mut *self.lock() {
            State::Made(wanted) => drop(wanted.insert(topic)),
            State::Runs { listens, .. } if listens.contains_key(&topic) => {}
            State::Runs { subscriber, listens } => {
                let id = self.topics.subscribe(&topic, subscriber.clone(), Since::Now)?;
                listens.insert(topic, id);
            }
            State::Ended => {}
        }
        Ok(())
    }

    /// The instance listens to a topic no more.
    pub(crate) fn unsubscribe(&self, topic: &str) {
        match &mut *self.lock() {
            State::Made(wanted) => drop(wanted.remove(topic)),
            State::Runs { listens, .. } => {
                if let Some((topic, id)) = listens.remove_entry(topic) {
                    self.topics.unsubscribe(&topic, id);
                }
            }
            State::Ended => {}
        }
    }

    /// The instance has started.
    pub(crate) fn begin(&self, subscriber: Arc<dyn Subscriber>) {
        let mut state = self.lock();
        let State::Made(wanted) = &mut *state else { return };
        let mut listens = BTreeMap::new();
        for topic in std::mem::take(wanted) {
            match self.topics.subscribe(&topic, subscriber.clone(), Since::Now) {
                Ok(id) => drop(listens.insert(topic, id)),
                Err(error) => {
                    tracing::warn!(child = %self.child, %topic, %error, "a child does not listen");
                }
            }
        }
        *state = State::Runs { subscriber, listens };
    }

    /// The instance has ended.
    pub(crate) fn end(&self) {
        let state = std::mem::replace(&mut *self.lock(), State::Ended);
        if let State::Runs { listens, .. } = state {
            for (topic, id) in listens {
                self.topics.unsubscribe(&topic, id);
            }
        }
    }
}
