//! Who has subscribed to which topic: each subscriber of this node, and each other node that has one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{
    id::{NodeRun, TopicName},
    topic::{MOST_TOPICS, TopicChange},
};

/// Names a subscriber of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SubscriberId(u64);

/// From when on a subscriber is given messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// It may have been given older ones elsewhere: those that were sent with knowledge of it.
    Now,
    /// It is here alone: all that come.
    Ever,
}

/// As many topics as a node may have subscribers for have some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST_TOPICS} topics have subscribers on this node, and no more may have")]
pub(crate) struct TooManyTopics;

#[derive(Debug)]
struct Entry<S> {
    subscriber: S,
    /// The version of the set at which it began to listen.
    since: u64,
}

/// Who has subscribed to which topic. The set of topics with subscribers here has a version, as in
/// [`TopicWord`](crate::model::topic::TopicWord).
#[derive(Debug)]
pub(crate) struct Table<S> {
    here: HashMap<TopicName, BTreeMap<SubscriberId, Entry<S>>>,
    subscribers: u64,
    version: u64,
    /// What is still to be told of this node's set.
    changes: Vec<TopicChange>,
    told: u64,
    elsewhere: HashMap<TopicName, BTreeSet<NodeRun>>,
    versions: HashMap<NodeRun, u64>,
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self {
            here: HashMap::new(),
            subscribers: 0,
            version: 0,
            changes: Vec::new(),
            told: 0,
            elsewhere: HashMap::new(),
            versions: HashMap::new(),
        }
    }
}

impl<S> Table<S> {
    /// Adds a subscriber of this node.
    pub(crate) fn subscribe(
        &mut self,
        topic: &TopicName,
        subscriber: S,
        since: Since,
    ) -> Result<SubscriberId, TooManyTopics> {
        let is_new = !self.here.contains_key(topic);
        if is_new && self.here.len() >= MOST_TOPICS {
            return Err(TooManyTopics);
        }
        if is_new {
            self.change(topic, true);
        } else if since == Since::Now {
            self.version += 1;
        }
        let since = match since {
            Since::Now => self.version,
            Since::Ever => 0,
        };
        self.subscribers += 1;
        let id = SubscriberId(self.subscribers);
        self.here.entry(topic.clone()).or_default().insert(id, Entry { subscriber, since });
        Ok(id)
    }

    /// Removes a subscriber of this node, if it is still there.
    pub(crate) fn unsubscribe(&mut self, topic: &TopicName, id: SubscriberId) -> Option<S> {
        let of_topic = self.here.get_mut(topic)?;
        let removed = of_topic.remove(&id)?;
        if of_topic.is_empty() {
            self.here.remove(topic);
            self.change(topic, false);
        }
        Some(removed.subscriber)
    }

    /// Removes all subscribers of this node, of a hub that tells nobody so.
    pub(crate) fn take_all(&mut self) -> Vec<S> {
        let all = std::mem::take(&mut self.here).into_values().flat_map(BTreeMap::into_values);
        all.map(|entry| entry.subscriber).collect()
    }

    fn change(&mut self, topic: &TopicName, subscribed: bool) {
        self.version += 1;
        self.changes.push(TopicChange { topic: topic.clone(), subscribed });
    }

    /// Whether [`news`](Self::news) has something to tell.
    pub(crate) fn has_news(&self) -> bool {
        self.told < self.version
    }

    /// The version of this node's set, and what changed since this was asked last.
    pub(crate) fn news(&mut self) -> (u64, Vec<TopicChange>) {
        self.told = self.version;
        (self.version, std::mem::take(&mut self.changes))
    }

    /// The version of this node's set.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Topics with subscribers here.
    pub(crate) fn topics(&self) -> usize {
        self.here.len()
    }

    /// How many subscribers of this node a topic has.
    pub(crate) fn count(&self, topic: &TopicName) -> usize {
        self.here.get(topic).map_or(0, BTreeMap::len)
    }

    /// The subscribers of this node that are given a message whose sender knew this version of its set.
    pub(crate) fn of(&self, topic: &TopicName, known: u64) -> impl Iterator<Item = &S> {
        let entries = self.here.get(topic).into_iter().flat_map(BTreeMap::values);
        entries.filter(move |entry| entry.since <= known).map(|entry| &entry.subscriber)
    }

    /// Topics have subscribers on another node, or have none there any more.
    pub(crate) fn learn(&mut self, run: NodeRun, version: u64, changes: Vec<TopicChange>) {
        for TopicChange { topic, subscribed } in changes {
            if subscribed {
                self.elsewhere.entry(topic).or_default().insert(run);
            } else if let Some(runs) = self.elsewhere.get_mut(&topic) {
                runs.remove(&run);
                if runs.is_empty() {
                    self.elsewhere.remove(&topic);
                }
            }
        }
        self.versions.insert(run, version);
    }

    /// Another node is out.
    pub(crate) fn forget(&mut self, run: NodeRun) {
        self.versions.remove(&run);
        self.elsewhere.retain(|_, runs| {
            runs.remove(&run);
            !runs.is_empty()
        });
    }

    /// The other nodes with subscribers of a topic, each with the version at which its set is known.
    pub(crate) fn elsewhere(&self, topic: &TopicName) -> Vec<(NodeRun, u64)> {
        let runs = self.elsewhere.get(topic).into_iter().flatten();
        runs.map(|run| (*run, self.versions.get(run).copied().unwrap_or(0))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::NodeId;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).expect("a valid name")
    }

    fn change(name: &str, subscribed: bool) -> TopicChange {
        TopicChange { topic: topic(name), subscribed }
    }

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    fn of(table: &Table<char>, name: &str, known: u64) -> Vec<char> {
        table.of(&topic(name), known).copied().collect()
    }

    #[test]
    fn the_first_subscriber_of_a_topic_and_its_last_change_the_set() {
        let mut table = Table::default();
        let a = table.subscribe(&topic("t"), 'a', Since::Ever).expect("there is room");
        let b = table.subscribe(&topic("t"), 'b', Since::Ever).expect("there is room");
        assert_eq!(table.news(), (1, vec![change("t", true)]));
        assert!(!table.has_news());
        assert_eq!(table.unsubscribe(&topic("t"), a), Some('a'));
        assert_eq!(table.unsubscribe(&topic("t"), a), None);
        assert!(!table.has_news());
        table.unsubscribe(&topic("t"), b);
        assert_eq!(table.news(), (2, vec![change("t", false)]));
        assert_eq!((table.topics(), table.count(&topic("t"))), (0, 0));
    }

    #[test]
    fn who_may_have_been_elsewhere_is_given_what_was_sent_with_knowledge_of_it() {
        let mut table = Table::default();
        table.subscribe(&topic("t"), 'a', Since::Ever).expect("there is room");
        table.news();
        table.subscribe(&topic("t"), 'b', Since::Now).expect("there is room");
        let (version, changes) = table.news();
        assert_eq!((version, changes), (2, Vec::new()), "the set is the same, and it is told");
        assert_eq!(of(&table, "t", 1), ['a']);
        assert_eq!(of(&table, "t", 2), ['a', 'b']);
        assert!(of(&table, "u", 2).is_empty());
    }

    #[test]
    fn no_more_topics_have_subscribers_than_a_node_may_tell() {
        let mut table = Table::default();
        for n in 0..MOST_TOPICS {
            table.subscribe(&topic(&n.to_string()), n, Since::Ever).expect("there is room");
        }
        assert_eq!(table.subscribe(&topic("t"), 0, Since::Ever), Err(TooManyTopics));
        table.subscribe(&topic("7"), 0, Since::Ever).expect("it has one already");
        assert_eq!(table.topics(), MOST_TOPICS);
    }

    #[test]
    fn other_nodes_are_known_by_topic_and_nothing_is_kept_of_one_that_is_out() {
        let mut table = Table::<char>::default();
        table.learn(run(2), 5, vec![change("t", true), change("u", true)]);
        table.learn(run(3), 7, vec![change("t", true)]);
        table.learn(run(2), 6, vec![change("u", false)]);
        assert_eq!(table.elsewhere(&topic("t")), [(run(2), 6), (run(3), 7)]);
        assert_eq!(table.elsewhere(&topic("u")), []);
        table.forget(run(2));
        assert_eq!(table.elsewhere(&topic("t")), [(run(3), 7)]);
        table.forget(run(3));
        assert!(table.elsewhere.is_empty() && table.versions.is_empty());
    }
}
