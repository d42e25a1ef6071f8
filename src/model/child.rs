//! Children: what they are, who owns them, which life of theirs is meant.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    id::{ChildId, KindName, NodeId, NodeRun, Origin, Tag, TopicName},
    words::cut,
};

/// Which ownership of a child is meant. Compared by `term`, then `attempt`.
///
/// Each handover attempt burns an attempt number, each takeover and each removal starts a term
/// above the highest seen. A peer's number is refused by how far it jumps: see
/// [`can_follow`](Self::can_follow).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// Raised by a takeover, a removal, a start after a removal.
    pub term: u64,
    /// Raised by each handover attempt, its abort, and each restart.
    pub attempt: u64,
}

impl Epoch {
    /// Below every epoch that was ever used.
    pub const ZERO: Self = Self { term: 0, attempt: 0 };
    /// No number is above this. From [`FIRST`](Self::FIRST) it is 2^37 jumps away: a member that
    /// writes 1,000 entries a second, each as far above the last as is allowed, needs four years
    /// for one child.
    pub const LIMIT: u64 = 1 << 62;
    /// The highest number at which a child may be heard of for the first time.
    pub const FIRST: u64 = 1 << 61;
    /// How far a number may be above the highest that is known of the same child. A term rises by
    /// one with each takeover and by two when a child is stopped and started anew, an attempt with
    /// each move and restart: a node that was cut off may have missed one of them each second for
    /// half a year.
    pub const JUMP: u64 = 1 << 24;

    /// The next attempt of the same term.
    #[must_use]
    pub const fn next_attempt(self) -> Self {
        Self { term: self.term, attempt: self.attempt.saturating_add(1) }
    }

    /// The first attempt of the next term.
    #[must_use]
    pub const fn next_term(self) -> Self {
        Self { term: self.term.saturating_add(1), attempt: 0 }
    }

    /// Whether the numbers are within [`LIMIT`](Self::LIMIT).
    #[must_use]
    pub const fn is_plausible(self) -> bool {
        self.term <= Self::LIMIT && self.attempt <= Self::LIMIT
    }

    /// Whether this can be what became of a child that was at `known` when it was heard of last;
    /// [`ZERO`](Self::ZERO) if it never was. What is below `known` is old, and always possible.
    ///
    /// Nothing can be claimed above the limit: one entry there would leave a child without an owner
    /// for ever. So nobody gets there at once.
    #[must_use]
    pub const fn can_follow(self, known: Self) -> bool {
        if !self.is_plausible() {
            return false;
        }
        if known.term == 0 && known.attempt == 0 {
            return self.term <= Self::FIRST && self.attempt <= Self::FIRST;
        }
        if self.term < known.term {
            return true;
        }
        let from = if self.term == known.term { known.attempt } else { 0 };
        self.term - known.term <= Self::JUMP && self.attempt <= from.saturating_add(Self::JUMP)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.attempt)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// When a child that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RestartRule {
    /// Always: after a panic and after it stopped itself.
    #[default]
    Permanent,
    /// After a panic only.
    Transient,
    /// Never.
    Temporary,
}

/// How many restarts are allowed in how long; above it the child is given up: see [`ChildFailure`].
///
/// The default is 100 in an hour: with the default [`RestartPauses`], three quarters of an hour of
/// nothing but failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartIntensity {
    /// Restarts allowed within the window. Above [`MOST`](Self::MOST) the child is never given up.
    pub restarts: u32,
    /// The length of the window.
    pub within: Duration,
}

impl RestartIntensity {
    /// The most restarts that are counted.
    pub const MOST: u32 = 1_024;
}

impl Default for RestartIntensity {
    fn default() -> Self {
        Self { restarts: 100, within: Duration::from_secs(3_600) }
    }
}

/// How long a child that ended, or could not start, waits for its next start.
///
/// Each pause is twice as long as the one before, up to `longest`, and is shortened by up to a
/// quarter, so that children that ended together do not all start together. Meanwhile messages wait,
/// as long as their deadlines allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPauses {
    /// The first pause. Default 100 ms; 1 ms to 1 h.
    pub first: Duration,
    /// The longest pause, not below `first`. Default 30 s; 1 ms to 1 day.
    pub longest: Duration,
    /// How long it must have run for the next pause to be the first again. Default 60 s; 0 to 1 day.
    pub healthy_after: Duration,
}

impl Default for RestartPauses {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(30),
            healthy_after: Duration::from_secs(60),
        }
    }
}

/// What is needed to start a child from nothing, on any node that has its kind.
///
/// Made by `ChildSpec::new`; travels in CBOR with every ownership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildSpec {
    pub(crate) id: ChildId,
    pub(crate) kind: KindName,
    /// CBOR of the kind's `Args`.
    pub(crate) args: Bytes,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) restart: RestartRule,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) intensity: RestartIntensity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pauses: Option<RestartPauses>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) tags: BTreeSet<Tag>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) topics: BTreeSet<TopicName>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl ChildSpec {
    /// Puts a spec together from its plain parts. `args` is the CBOR of the kind's arguments.
    pub(crate) fn from_parts(id: ChildId, kind: KindName, args: Bytes) -> Self {
        Self {
            id,
            kind,
            args,
            restart: RestartRule::default(),
            intensity: RestartIntensity::default(),
            pauses: None,
            tags: BTreeSet::new(),
            metadata: BTreeMap::new(),
            topics: BTreeSet::new(),
        }
    }

    /// The child's identity.
    #[must_use]
    pub fn id(&self) -> &ChildId {
        &self.id
    }

    /// What sort of actor it is.
    #[must_use]
    pub fn kind(&self) -> &KindName {
        &self.kind
    }

    /// When it is started again; [`RestartRule::Permanent`] unless set.
    #[must_use]
    pub fn restart_rule(&self) -> RestartRule {
        self.restart
    }

    /// How often it may be started again; 100 times in an hour unless set.
    #[must_use]
    pub fn restart_intensity(&self) -> RestartIntensity {
        self.intensity
    }

    /// How long it waits for its next start; `None`: as its node's `Settings::restart_pauses` say.
    #[must_use]
    pub fn restart_pauses(&self) -> Option<RestartPauses> {
        self.pauses
    }

    /// The words by which it can be found.
    #[must_use]
    pub fn tags(&self) -> &BTreeSet<Tag> {
        &self.tags
    }

    /// What its starter noted about it.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The topics that it listens to wherever it runs.
    #[must_use]
    pub fn topics(&self) -> &BTreeSet<TopicName> {
        &self.topics
    }

    /// Bytes of what it is made of, roughly.
    pub(crate) fn size(&self) -> usize {
        let notes = self.metadata.iter().map(|(key, value)| key.len() + value.len());
        let tags = self.tags.iter().map(|tag| tag.as_str().len());
        let topics = self.topics.iter().map(|topic| topic.as_str().len());
        let names = self.id.as_str().len() + self.kind.as_str().len();
        self.args.len() + names + notes.chain(tags).chain(topics).sum::<usize>()
    }

    /// Sets when it is started again.
    #[must_use]
    pub fn restart(mut self, rule: RestartRule) -> Self {
        self.restart = rule;
        self
    }

    /// Sets how often it may be started again before it is given up.
    #[must_use]
    pub fn intensity(mut self, intensity: RestartIntensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Sets how long it waits for its next start. What is outside the ranges of [`RestartPauses`] is
    /// brought within them.
    #[must_use]
    pub fn pauses(mut self, pauses: RestartPauses) -> Self {
        self.pauses = Some(pauses);
        self
    }

    /// Adds a word by which it can be found.
    ///
    /// # Errors
    /// [`InvalidId`](super::id::InvalidId) when the word is empty, too long or holds control characters.
    pub fn tag(mut self, tag: impl AsRef<str>) -> Result<Self, super::id::InvalidId> {
        self.tags.insert(Tag::new(tag)?);
        Ok(self)
    }

    /// Notes something about it. The key and the value are the starter's own; they count against
    /// the frame limit.
    #[must_use]
    pub fn note(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Has it listen to a topic wherever it runs, from when it has started there until it ends: it is
    /// given what is published under that name, if its kind has registered the message. How that is
    /// delivered: [`Hub::publish`](crate::Hub::publish).
    ///
    /// # Errors
    /// [`InvalidId`](super::id::InvalidId) when the name does not have the shape of a [`TopicName`].
    pub fn subscribe(mut self, topic: impl AsRef<str>) -> Result<Self, super::id::InvalidId> {
        self.topics.insert(TopicName::new(topic)?);
        Ok(self)
    }
}

/// Whether an instance answers callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Role {
    /// It handles messages.
    #[default]
    Active,
    /// It holds a copy and waits.
    Passive,
}

/// Why a child has no actor, though it is not stopped.
///
/// Its node goes on owning it. It waits for its next start, after a pause; or it was given up, as it
/// ended more often than its [`RestartIntensity`] allows. One that was given up is started again when
/// somebody starts a child of its id, when somebody migrates it, and when a node comes or goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ToldFailure")]
pub struct ChildFailure {
    reason: String,
    restarts: u64,
    given_up: bool,
}

impl ChildFailure {
    /// Bytes of the reason at most.
    pub const MOST: usize = 256;

    /// A reason that is too long is cut.
    pub(crate) fn new(reason: &str, restarts: u64, given_up: bool) -> Self {
        Self { reason: cut(reason.to_owned(), Self::MOST), restarts, given_up }
    }

    /// Why it ended last, or why it could not start. At most [`MOST`](Self::MOST) bytes.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// How often it was started again, or was to be, since it came to its node.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Whether it was given up; otherwise it is started again after a pause.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.given_up
    }
}

/// A failure as a peer tells it.
#[derive(Deserialize)]
struct ToldFailure {
    reason: String,
    restarts: u64,
    given_up: bool,
}

impl TryFrom<ToldFailure> for ChildFailure {
    type Error = String;

    fn try_from(told: ToldFailure) -> Result<Self, String> {
        let ToldFailure { reason, restarts, given_up } = told;
        match reason.len() {
            0..=Self::MOST => Ok(Self { reason, restarts, given_up }),
            len => Err(format!("a reason of {len} bytes, at most {} are told", Self::MOST)),
        }
    }
}

/// One node's ownership of a child, as it stands in that node's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// Which ownership this is.
    pub epoch: Epoch,
    /// The epoch at which this state last began from nothing.
    pub born: Epoch,
    /// The epoch at which it last came from a replica or from a copy that was Ready.
    pub copied: Epoch,
    /// Whether it answers callers.
    pub role: Role,
    /// The node to which an explicit migration bound it; distribution then leaves it there.
    pub pinned: Option<NodeId>,
    /// Which request began it.
    pub origin: Origin,
    /// States of other owners that are in this one.
    #[serde(default, skip_serializing_if = "TakenIn::is_empty")]
    pub taken: TakenIn,
    /// Why it has no actor, from its end until its next start has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ChildFailure>,
    /// How to start it from nothing.
    pub spec: Arc<ChildSpec>,
}

impl Ownership {
    /// Whether the child has no actor and is not started again by itself.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.failure.as_ref().is_some_and(ChildFailure::is_given_up)
    }
}

/// The state of an owner that gave way: whose it was, and at which epoch it was frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Who owned it.
    pub from: NodeRun,
    /// Its epoch, which is raised whenever the frozen actor goes on.
    pub epoch: Epoch,
}

/// States of other owners that were taken into one, newest last; at most
/// [`MOST`](Self::MOST), of which the oldest is forgotten first.
///
/// It goes with the child wherever that goes. The owner that gave way reads in it that it may end,
/// though the word of it was lost, and whoever owns the child then takes no state in twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Taken>")]
pub struct TakenIn(Vec<Taken>);

impl TakenIn {
    /// So many are remembered: an owner that gave way offers its state until it has read here that
    /// it was taken, so one that is forgotten has missed as many others.
    pub const MOST: usize = 16;

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this state was taken in.
    #[must_use]
    pub fn contains(&self, taken: Taken) -> bool {
        self.0.contains(&taken)
    }

    /// This state was taken in, and with it all that was in it.
    pub fn add(&mut self, taken: Taken, with: &Self) {
        for taken in with.0.iter().copied().chain([taken]) {
            if !self.0.contains(&taken) {
                self.0.push(taken);
            }
        }
        let over = self.0.len().saturating_sub(Self::MOST);
        self.0.drain(..over);
    }
}

impl TryFrom<Vec<Taken>> for TakenIn {
    type Error = String;

    fn try_from(taken: Vec<Taken>) -> Result<Self, String> {
        match taken.len() {
            0..=Self::MOST => Ok(Self(taken)),
            len => Err(format!("{len} states were taken in, at most {} are told", Self::MOST)),
        }
    }
}

/// What one log says about one child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// The log's node owns the child.
    Owned(Ownership),
    /// The log's node handed the child over; `ownership.epoch` is the successor's.
    Moved {
        /// The run that owns it now.
        to: NodeRun,
        /// The ownership as the successor has it.
        ownership: Ownership,
    },
    /// The child was stopped for good.
    Removed {
        /// Above every epoch of the child that the remover knew.
        epoch: Epoch,
    },
}

impl Entry {
    /// The epoch the entry speaks of.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Owned(ownership) | Self::Moved { ownership, .. } => ownership.epoch,
            Self::Removed { epoch } => *epoch,
        }
    }

    /// The ownership it speaks of, unless it is a removal.
    #[must_use]
    pub fn ownership(&self) -> Option<&Ownership> {
        match self {
            Self::Owned(ownership) | Self::Moved { ownership, .. } => Some(ownership),
            Self::Removed { .. } => None,
        }
    }
}

/// Where messages for a child go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The run that owns the child.
    pub owner: NodeRun,
    /// The epoch of that ownership.
    pub epoch: Epoch,
}

/// Why an instance of a child was made. [`ChildContext::origin`](crate::ChildContext::origin) tells it in
/// [`HotSwap::from_args`](crate::HotSwap::from_args), and in `started` to an actor that keeps its context.
///
/// ```
/// use actix::prelude::*;
/// use actix_hub::{ChildOrigin, prelude::*};
///
/// struct Cache {
///     child: ChildContext<Self>,
///     pages: Vec<String>,
/// }
///
/// impl Actor for Cache {
///     type Context = Context<Self>;
///
///     fn started(&mut self, _: &mut Context<Self>) {
///         match self.child.origin() {
///             // Its pages have come along.
///             ChildOrigin::HandedOver { .. } => {}
///             // It had pages, and they are gone with a crash.
///             ChildOrigin::Restarted | ChildOrigin::TakenOver => self.fill(),
///             // Nobody has asked it for anything yet.
///             _ => {}
///         }
///     }
/// }
///
/// impl Cache {
///     fn fill(&mut self) {}
/// }
///
/// impl HotSwap for Cache {
///     const KIND: &'static str = "cache";
///     type Args = ();
///     type State = Vec<String>;
///
///     fn from_args((): (), child: &ChildContext<Self>) -> Result<Self, StartFailure> {
///         Ok(Self { child: child.clone(), pages: Vec::new() })
///     }
///     fn prepare_handover_state(&mut self) -> Vec<String> {
///         self.pages.clone()
///     }
///     fn alter_handover_state(&mut self, pages: Vec<String>) {
///         self.pages = pages;
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildOrigin {
    /// Somebody asked for the start: a new child, or one that had been given up. From its arguments.
    Fresh,
    /// It ended on this node, or could not start, and is started again as its
    /// [`RestartRule`] says. From its arguments: its state is gone.
    Restarted,
    /// It was moved here. Its state comes in
    /// [`alter_handover_state`](crate::HotSwap::alter_handover_state), unless the hub moves children
    /// without it ([`Migration::ColdSwap`](crate::Migration::ColdSwap), `handover: false`) or it waited
    /// for its next start and had none.
    HandedOver {
        /// The node it comes from.
        from: NodeId,
    },
    /// Its node went down and no copy of its state was left anywhere. From its arguments.
    TakenOver,
}

#[cfg(test)]
mod tests {
    use super::{ChildFailure, Epoch, NodeId, NodeRun, Taken, TakenIn, ToldFailure};

    fn at(term: u64, attempt: u64) -> Epoch {
        Epoch { term, attempt }
    }

    #[test]
    fn an_epoch_follows_one_that_is_near_and_not_one_that_is_far() {
        let known = at(7, 3);
        for (epoch, follows) in [
            (at(7, 3), true),
            (at(6, Epoch::LIMIT), true),
            (at(8, 0), true),
            (at(7 + Epoch::JUMP, Epoch::JUMP), true),
            (at(8 + Epoch::JUMP, 0), false),
            (at(7, 3 + Epoch::JUMP), true),
            (at(7, 4 + Epoch::JUMP), false),
            (at(8, 1 + Epoch::JUMP), false),
            (at(Epoch::LIMIT, 0), false),
            (at(6, u64::MAX), false),
        ] {
            assert_eq!(epoch.can_follow(known), follows, "{epoch} after {known}");
        }
    }

    #[test]
    fn whatever_is_taken_in_can_be_followed_by_a_takeover_and_by_a_move() {
        let first = at(Epoch::FIRST, Epoch::FIRST);
        assert!(first.can_follow(Epoch::ZERO));
        assert!(!at(Epoch::FIRST + 1, 0).can_follow(Epoch::ZERO));
        for known in [first, at(1, 0), at(Epoch::FIRST + Epoch::JUMP, 5)] {
            assert!(known.next_term().can_follow(known));
            assert!(known.next_attempt().can_follow(known));
        }
    }

    #[test]
    fn the_reason_of_a_failure_is_bounded_here_and_as_peers_tell_it() {
        let failure = ChildFailure::new(&"ä".repeat(1_000), 3, true);
        assert!(failure.reason().len() <= ChildFailure::MOST, "{}", failure.reason().len());
        assert!(failure.reason().starts_with("ää") && failure.is_given_up());
        let told = |len| ToldFailure { reason: "x".repeat(len), restarts: 3, given_up: false };
        assert!(ChildFailure::try_from(told(ChildFailure::MOST)).is_ok());
        assert!(ChildFailure::try_from(told(ChildFailure::MOST + 1)).is_err());
    }

    #[test]
    fn what_was_taken_in_is_remembered_with_what_was_in_it_and_bounded() {
        let run = |n: u8| NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() };
        let taken = |n: u8| Taken { from: run(n), epoch: Epoch { term: n.into(), attempt: 0 } };
        let mut inner = TakenIn::default();
        inner.add(taken(1), &TakenIn::default());
        let mut outer = TakenIn::default();
        outer.add(taken(2), &inner);
        outer.add(taken(2), &inner);
        assert!(outer.contains(taken(1)) && outer.contains(taken(2)));
        assert_eq!(outer.len(), 2);
        for n in 3..100 {
            outer.add(taken(n), &TakenIn::default());
        }
        assert_eq!(outer.len(), TakenIn::MOST);
        assert!(outer.contains(taken(99)) && !outer.contains(taken(2)));
        let many: Vec<Taken> = (0..17).map(taken).collect();
        assert!(TakenIn::try_from(many).is_err());
    }
}
