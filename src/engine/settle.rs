//! When a view may be acted on: all its members have adopted it, and their logs are here, as is what any
//! of them has of the logs of those who are gone.
//!
//! Each counts the views that it has adopted, and an `In` counts only if it answers to the current
//! count of who hears it. Else a view that is the same as an earlier one (a node came in and left
//! again) would be taken for settled by what was said in the earlier stay, while others are in the
//! view between.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    core::{Core, Timer},
    gone_logs::{GoneLogs, MOST_GONE},
    membership::is_many,
};
use crate::model::{
    event::HubEvent,
    id::{NodeId, NodeRun},
    member::ViewId,
    message::{PeerMessage, SyncWord, Watermark},
};

/// After how many suspicion windows it is told that a view is not settled; and again each time.
const TOLD_WINDOWS: u32 = 3;

/// For how many suspicion windows a member may heartbeat and not say In. It is said at every
/// heartbeat, so this is patience with words that get lost.
const MUTE_WINDOWS: u32 = 2;

/// So many members more are doubted with each heartbeat because they have not said In.
const DOUBTED: usize = 16;

/// With many others In waits for each of them so long.
const PACE: Duration = Duration::from_millis(2);

/// What a member said last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) view: ViewId,
    /// Its own count of views.
    pub(crate) adopted: u64,
    /// The count of this node that it answered to.
    pub(crate) echo: u64,
    pub(crate) version: u64,
}

/// What a member was told last, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    adopted: u64,
    echo: u64,
    version: u64,
    at: Instant,
}

/// To whom In is going to be said.
#[derive(Debug)]
enum Owed {
    All,
    /// Who said something that it answers.
    These(BTreeSet<NodeRun>),
}

impl Default for Owed {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

/// Who has said In for which view, and at which version of its own log.
#[derive(Debug, Default)]
pub(crate) struct Settle {
    said: BTreeMap<NodeRun, Said>,
    told: BTreeMap<NodeRun, Told>,
    /// What each of them has of the logs of those who are gone.
    gone: GoneLogs,
    /// How many views this node has adopted.
    adopted: u64,
    since: Option<Instant>,
    /// Logs that are not here up to where their members are: how far they are, and since when.
    stuck: BTreeMap<NodeRun, (u64, Instant)>,
    warned: u32,
    ticking: bool,
    /// How much longer than usual is waited with many others.
    patience: Duration,
    /// To whom it is going to be said.
    owed: Owed,
    /// A timer runs for that.
    saying: bool,
}

impl Settle {
    /// The view changed: says In for it, again and again until everybody has. With many others that
    /// waits for `patience` more.
    pub(crate) fn adopted(&mut self, core: &mut Core, patience: Duration) {
        self.patience = patience;
        self.said.retain(|run, _| core.view.is_live(*run));
        self.told.retain(|run, _| core.view.is_live(*run));
        self.gone.retain(|run| core.view.is_live(run));
        self.gone.adopted();
        self.adopted += 1;
        (self.since, self.warned) = (Some(core.now), 0);
        self.stuck.clear();
        self.owed = Owed::All;
        self.say_soon(core);
        self.keep_ticking(core);
    }

    /// Says In to whom it is owed; with many others for all that comes meanwhile together: in a mesh
    /// that forms the next view, and the next question, is near.
    fn say_soon(&mut self, core: &mut Core) {
        if !is_many(core.others.len()) {
            self.say_what_is_owed(core);
        } else if !self.saying {
            self.saying = true;
            let many = u32::try_from(core.others.len()).unwrap_or(u32::MAX);
            let pace = (PACE * many).min(core.config.settings.heartbeat / 2) + self.patience;
            core.timer(pace.min(core.config.settings.heartbeat), Timer::SayIn);
        }
    }

    /// Says In for the view of now.
    pub(crate) fn say_what_is_owed(&mut self, core: &mut Core) {
        self.saying = false;
        let owed = std::mem::take(&mut self.owed);
        for run in others(core) {
            if matches!(&owed, Owed::All)
                || matches!(&owed, Owed::These(runs) if runs.contains(&run))
            {
                self.say(core, run);
            }
        }
    }

    fn say(&mut self, core: &mut Core, to: NodeRun) {
        let (adopted, echo) = (self.adopted, self.echo(to));
        let version = core.registry.version();
        self.told.insert(to, Told { adopted, echo, version, at: core.now });
        let word = SyncWord::In {
            view: core.view_id,
            adopted,
            echo,
            version,
            wanted: !self.is_in(core, to),
            kinds: core.config.kinds.keys().cloned().collect(),
            gone: core.registry.gone_logs(MOST_GONE, |run| core.view.is_live(run)),
            away: core.registry.away.of(|run| core.view.is_live(run)),
            asked: core.registry.away.asked(),
        };
        core.send(to.node, PeerMessage::Sync(word));
    }

    /// The count of this member that In answers to.
    fn echo(&self, to: NodeRun) -> u64 {
        self.said.get(&to).map_or(0, |said| said.adopted)
    }

    /// Whether this member was told the same lately, so that it is on its way: two that wait for each
    /// other would else each answer what the other one asked before it had heard.
    fn is_on_its_way(&self, core: &Core, to: NodeRun) -> bool {
        let heartbeat = core.config.settings.heartbeat;
        let wait = (heartbeat / 2 + self.patience).min(heartbeat);
        self.told.get(&to).is_some_and(|told| {
            let same = (told.adopted, told.echo, told.version)
                == (self.adopted, self.echo(to), core.registry.version());
            same && core.now.saturating_duration_since(told.at) < wait
        })
    }

    /// What this node says of absences has changed: everybody is told.
    pub(crate) fn say_again(&mut self, core: &mut Core) {
        self.owed = Owed::All;
        self.say_soon(core);
    }

    /// A member is reached again, or in another way: what was said before may have been lost.
    pub(crate) fn reached(&mut self, core: &mut Core, run: NodeRun) {
        if !is_many(core.others.len()) {
            return self.say(core, run);
        }
        self.owe(run);
        self.say_soon(core);
    }

    fn owe(&mut self, run: NodeRun) {
        if let Owed::These(runs) = &mut self.owed {
            runs.insert(run);
        }
    }

    /// A member says In. Whether it says for the first time that it has adopted the view of now: what
    /// it was told before, it may have heard in another view.
    pub(crate) fn heard(
        &mut self,
        core: &mut Core,
        from: NodeRun,
        said: Said,
        wanted: bool,
    ) -> bool {
        if !core.view.is_live(from) {
            return false;
        }
        let before = self.said.insert(from, said);
        let is_news = before.is_none_or(|before| before.adopted != said.adopted);
        // It waits for an answer to its count, or has not heard this node's own yet. Two that wait
        // for each other do not answer each other's answers for ever: each count is news once.
        let is_asked = wanted && self.is_in(core, from) && !self.is_on_its_way(core, from);
        if is_news || is_asked {
            self.owe(from);
            self.say_soon(core);
        }
        is_news && said.view == core.view_id
    }

    /// A member says how far it has the logs of those who are gone.
    pub(crate) fn heard_of_gone(&mut self, from: NodeRun, gone: Vec<Watermark>) {
        self.gone.heard(from, gone);
    }

    /// What a member has of the logs of those who are gone and this node lacks.
    pub(crate) fn lacking<'a>(
        &'a self,
        core: &'a Core,
        of: NodeRun,
    ) -> impl Iterator<Item = Watermark> + 'a {
        self.gone.lacking(of, &core.registry, |log| core.is_live(log))
    }

    fn lacks(&self, core: &Core, of: NodeRun) -> bool {
        self.lacking(core, of).next().is_some()
    }

    /// Whether a member has said In for this view.
    pub(crate) fn is_in(&self, core: &Core, run: NodeRun) -> bool {
        self.said
            .get(&run)
            .is_some_and(|said| said.view == core.view_id && said.echo == self.adopted)
    }

    /// Whether everybody is in and heard.
    pub(crate) fn is_complete(&self, core: &Core) -> bool {
        others(core).all(|run| {
            self.is_in(core, run)
                && self.said.get(&run).is_some_and(|s| core.registry.watermark(run) >= s.version)
                && !self.lacks(core, run)
        })
    }

    /// Members that have not said In for this view, and members whose log is not here yet.
    pub(crate) fn missing(&self, core: &Core) -> Vec<Missing> {
        let missing = |run: NodeRun| {
            if !self.is_in(core, run) {
                return Some(Missing::In(run.node));
            }
            let said = self.said.get(&run)?;
            if core.registry.watermark(run) < said.version {
                return Some(Missing::Log(run.node));
            }
            self.lacks(core, run).then_some(Missing::Gone(run.node))
        };
        others(core).filter_map(missing).collect()
    }

    /// Members that have not said In for this view, while that is waited for; so many as are to be doubted
    /// with this heartbeat. Where more have not, it is for want of time, which doubts would take, too.
    pub(crate) fn doubted(&self, core: &Core) -> Vec<NodeId> {
        let is_awaited = |run: &NodeRun| !core.settled && !self.is_in(core, *run);
        let mut awaited: Vec<NodeId> =
            others(core).filter(is_awaited).map(|run| run.node).collect();
        let heartbeat = core.config.settings.heartbeat.as_millis().max(1);
        let beats = usize::try_from(self.waited(core).as_millis() / heartbeat).unwrap_or(0);
        let first = beats.saturating_mul(DOUBTED) % awaited.len().max(1);
        awaited.rotate_left(first);
        awaited.truncate(DOUBTED);
        awaited
    }

    /// Members that have not said In for this view, though it was adopted long ago; and those that
    /// name a version of their own log and give nothing of it for as long, and two digests more.
    pub(crate) fn overdue(&mut self, core: &Core) -> Vec<NodeRun> {
        let settings = &core.config.settings;
        let patience = settings.suspicion_window() * MUTE_WINDOWS;
        let is_late = self.waited(core) >= patience;
        let mut overdue = Vec::new();
        for run in others(core) {
            let here = core.registry.watermark(run);
            if !self.is_in(core, run) {
                self.stuck.remove(&run);
                overdue.extend(is_late.then_some(run));
            } else if self.said.get(&run).is_some_and(|said| here < said.version) {
                let stuck = self.stuck.entry(run).or_insert((here, core.now));
                if stuck.0 != here {
                    *stuck = (here, core.now);
                }
                let stands = core.now.saturating_duration_since(stuck.1);
                overdue.extend((stands >= patience + settings.digest * 2).then_some(run));
            } else {
                self.stuck.remove(&run);
            }
        }
        overdue
    }

    /// For how long the view has not been settled.
    pub(crate) fn waited(&self, core: &Core) -> Duration {
        if core.settled {
            return Duration::ZERO;
        }
        self.since.map_or(Duration::ZERO, |since| core.now.saturating_duration_since(since))
    }

    /// The time to say it again has come. Whether it is time to tell that the view is not settled.
    pub(crate) fn tick(&mut self, core: &mut Core, calls_open: bool) -> bool {
        self.ticking = false;
        if !core.settled {
            let patience = core.config.settings.suspicion_window() * MUTE_WINDOWS;
            let is_live = |run| core.view.is_live(run);
            for (run, mark) in self.gone.tick(core.now, patience, &core.registry, is_live) {
                tell_refuted(core, run, mark);
            }
            for run in others(core) {
                if !self.is_in(core, run) && !self.is_on_its_way(core, run) {
                    self.say(core, run);
                }
            }
        }
        if !core.settled || calls_open {
            self.keep_ticking(core);
        }
        let patience = core.config.settings.suspicion_window() * TOLD_WINDOWS;
        let is_due = self.waited(core) >= patience * (self.warned + 1);
        if is_due {
            self.warned += 1;
        }
        is_due
    }

    /// Keeps the repeating timer going while something is unanswered.
    pub(crate) fn keep_ticking(&mut self, core: &mut Core) {
        if !self.ticking {
            self.ticking = true;
            core.timer(core.config.settings.heartbeat, Timer::Settle);
        }
    }
}

/// A member has named what it has of the log of a run that is gone, and gives nothing of it.
fn tell_refuted(core: &mut Core, run: NodeRun, Watermark { log, version }: Watermark) {
    let name =
        core.view.member(run.node).map_or_else(|| run.node.short(), |it| it.name.to_string());
    let here = core.registry.watermark(log);
    let reason = format!(
        "goes on without what {name} knows of children of {}, which is gone: it names version {version} of \
         its log, {here} is here, and nothing more comes",
        log.node.short()
    );
    core.emit(HubEvent::Unsettled { reason });
}

/// What a view that is not settled waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// This member has not said that it is in the same view.
    In(NodeId),
    /// This member's log is not here up to where it stands.
    Log(NodeId),
    /// What this member has of the logs of those who are gone is not here.
    Gone(NodeId),
}

fn others(core: &Core) -> impl Iterator<Item = NodeRun> + use<> {
    let runs: Vec<NodeRun> =
        core.view.members.values().map(|m| m.run()).filter(|run| *run != core.me).collect();
    runs.into_iter()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::{super::io::Effect, *};
    use crate::{
        engine::{
            distribution::ConsistentHashing, io::EngineConfig, membership::founding::Founding,
            partition::Divergence, redundancy::Singularity,
        },
        model::{
            access::AccessList,
            id::{Incarnation, NodeName},
            member::{Member, MemberState, View},
            settings::Settings,
        },
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn member(n: u8) -> Member {
        Member {
            id: NodeId::from_key([n; 32]),
            incarnation: Incarnation { started: 100, nonce: u64::from(n) },
            name: NodeName::new(format!("node-{n}")).expect("a plain word"),
            addresses: Vec::new(),
            weight: 1,
            state: MemberState::Alive,
            draining: false,
            labels: Default::default(),
            revision: 0,
        }
    }

    fn run(n: u8) -> NodeRun {
        member(n).run()
    }

    fn view(nodes: &[u8]) -> View {
        View { members: nodes.iter().map(|n| (member(*n).id, member(*n))).collect() }
    }

    /// Node 1, and what it says.
    struct Bench {
        core: Core,
        settle: Settle,
    }

    impl Bench {
        fn new() -> Self {
            let config = EngineConfig {
                node: member(1).id,
                incarnation: member(1).incarnation,
                name: member(1).name,
                addresses: Vec::new(),
                labels: Default::default(),
                settings: Settings::default(),
                kinds: BTreeMap::new(),
                founding: Founding::Found,
                access: AccessList::open(),
                seed: 1,
                distribution: Arc::new(ConsistentHashing),
                redundancy: Arc::new(Singularity),
                partition: Arc::new(Divergence),
            };
            Self { core: Core::new(config, Instant::now()), settle: Settle::default() }
        }

        fn adopt(&mut self, nodes: &[u8]) -> Vec<(NodeId, u64, u64, bool)> {
            self.core.adopt(view(nodes));
            self.core.settled = false;
            self.settle.adopted(&mut self.core, Duration::ZERO);
            self.said()
        }

        /// To whom it has said In: its own count, the one it answers to, whether it wants an answer.
        fn said(&mut self) -> Vec<(NodeId, u64, u64, bool)> {
            let said = std::mem::take(&mut self.core.effects).into_iter();
            let word = |effect| match effect {
                Effect::Send {
                    to,
                    message: PeerMessage::Sync(SyncWord::In { adopted, echo, wanted, .. }),
                } => Some((to, adopted, echo, wanted)),
                _ => None,
            };
            said.filter_map(word).collect()
        }

        fn hears(
            &mut self,
            from: u8,
            nodes: &[u8],
            (adopted, echo): (u64, u64),
            wanted: bool,
        ) -> Vec<(NodeId, u64, u64, bool)> {
            let said = Said { view: view(nodes).id(), adopted, echo, version: 0 };
            self.settle.heard(&mut self.core, run(from), said, wanted);
            self.said()
        }

        fn is_complete(&self) -> bool {
            self.settle.is_complete(&self.core)
        }
    }

    #[test]
    fn a_view_that_is_the_same_again_is_not_settled_by_what_was_said_before() {
        let mut bench = Bench::new();
        assert_eq!(bench.adopt(&[1, 2]), [(member(2).id, 1, 0, true)]);
        assert_eq!(bench.hears(2, &[1, 2], (7, 0), true), [(member(2).id, 1, 7, true)]);
        assert!(!bench.is_complete(), "it has not heard of this node's count");
        assert_eq!(bench.hears(2, &[1, 2], (7, 1), false), []);
        assert!(bench.is_complete());
        // A third comes in and goes again, before node 2 has followed: it is in the view between.
        bench.adopt(&[1, 2, 3]);
        assert_eq!(bench.settle.missing(&bench.core).len(), 2);
        bench.adopt(&[1, 2]);
        assert!(!bench.is_complete());
        assert_eq!(bench.settle.missing(&bench.core), [Missing::In(member(2).id)]);
        // What it answered in the earlier stay comes late, and then what it says now.
        bench.hears(2, &[1, 2], (7, 1), true);
        assert!(!bench.is_complete());
        bench.hears(2, &[1, 2, 3], (8, 3), true);
        assert!(!bench.is_complete(), "it answers this count in another view");
        bench.hears(2, &[1, 2], (9, 3), false);
        assert!(bench.is_complete());
    }

    #[test]
    fn each_count_is_answered_once_so_that_two_do_not_answer_each_other_for_ever() {
        let mut bench = Bench::new();
        bench.adopt(&[1, 2]);
        assert_eq!(bench.hears(2, &[1, 2], (7, 1), true).len(), 1, "a new count");
        assert_eq!(bench.hears(2, &[1, 2], (7, 1), true).len(), 0, "its answer is on its way");
        bench.core.now += SECOND;
        assert_eq!(bench.hears(2, &[1, 2], (7, 1), true).len(), 1, "it has not heard it");
        assert_eq!(bench.hears(2, &[1, 2], (7, 1), false).len(), 0);
        bench.adopt(&[1, 2, 3]);
        assert_eq!(bench.hears(2, &[1, 2], (7, 1), true), [], "both wait: each says it in time");
        assert!(!bench.settle.tick(&mut bench.core, false));
        assert_eq!(bench.said(), [], "it was said just now");
        bench.core.now += SECOND;
        let again = bench.settle.tick(&mut bench.core, false);
        assert!(!again);
        let said = bench.said();
        assert_eq!(said, [(member(2).id, 2, 7, true), (member(3).id, 2, 0, true)]);
    }

    #[test]
    fn who_has_not_said_in_is_doubted_until_it_has_or_the_view_is_settled() {
        let mut bench = Bench::new();
        bench.adopt(&[1, 2, 3]);
        let (second, third) = (member(2).id, member(3).id);
        assert_eq!(bench.settle.doubted(&bench.core), [second, third]);
        bench.hears(2, &[1, 2, 3], (7, 1), false);
        assert_eq!(bench.settle.doubted(&bench.core), [third]);
        bench.core.settled = true;
        assert_eq!(bench.settle.doubted(&bench.core), []);
    }

    #[test]
    fn of_many_who_have_not_said_in_all_are_doubted_in_turns() {
        let mut bench = Bench::new();
        let all: Vec<u8> = (1..=60).collect();
        bench.adopt(&all);
        let mut doubted = BTreeSet::new();
        for _ in 0..4 {
            let now = bench.settle.doubted(&bench.core);
            assert_eq!(now.len(), DOUBTED);
            doubted.extend(now);
            bench.core.now += SECOND;
        }
        assert_eq!(doubted.len(), all.len() - 1);
    }

    #[test]
    fn who_is_far_behind_answers_each_heartbeat_all_the_same() {
        let mut bench = Bench::new();
        bench.core.adopt(view(&[1, 2]));
        bench.core.settled = false;
        bench.settle.adopted(&mut bench.core, 60 * SECOND);
        bench.said();
        assert_eq!(bench.hears(2, &[1, 2], (7, 1), true).len(), 1);
        bench.core.now += SECOND / 2;
        assert_eq!(bench.hears(2, &[1, 2], (7, 1), true).len(), 0);
        bench.core.now += SECOND / 2;
        assert_eq!(bench.hears(2, &[1, 2], (7, 1), true).len(), 1);
    }

    #[test]
    fn what_a_run_said_that_was_out_meanwhile_does_not_count() {
        let mut bench = Bench::new();
        bench.adopt(&[1, 2]);
        bench.hears(2, &[1, 2], (7, 1), false);
        bench.adopt(&[1]);
        assert!(bench.is_complete(), "alone there is nobody to wait for");
        assert_eq!(bench.hears(2, &[1, 2], (8, 1), true), [], "it is not in");
        assert_eq!(bench.adopt(&[1, 2]), [(member(2).id, 3, 0, true)]);
        assert!(!bench.is_complete());
    }

    #[test]
    fn a_member_whose_log_is_not_here_is_waited_for() {
        let mut bench = Bench::new();
        bench.adopt(&[1, 2]);
        let said = Said { view: bench.core.view_id, adopted: 1, echo: 1, version: 5 };
        bench.settle.heard(&mut bench.core, run(2), said, false);
        assert!(!bench.is_complete());
        assert_eq!(bench.settle.missing(&bench.core), [Missing::Log(member(2).id)]);
    }

    #[test]
    fn a_member_that_adopts_the_view_is_news_once_and_each_time_that_it_does() {
        let mut bench = Bench::new();
        bench.adopt(&[1, 2]);
        let said = |view: &[u8], adopted| {
            let view = self::view(view).id();
            Said { view, adopted, echo: 1, version: 0 }
        };
        let mut is_news = |said| bench.settle.heard(&mut bench.core, run(2), said, false);
        assert!(!is_news(said(&[1, 2, 3], 4)), "it is in another one");
        assert!(is_news(said(&[1, 2], 5)) && !is_news(said(&[1, 2], 5)));
        assert!(is_news(said(&[1, 2], 7)), "somebody came in and left again");
        let stranger = bench.settle.heard(&mut bench.core, run(3), said(&[1, 2], 5), false);
        assert!(!stranger);
    }

    #[test]
    fn a_view_that_stays_unsettled_is_told_each_three_windows() {
        let mut bench = Bench::new();
        bench.adopt(&[1, 2]);
        let mut told = Vec::new();
        for second in 1..=20 {
            bench.core.now += SECOND;
            if bench.settle.tick(&mut bench.core, false) {
                told.push(second);
            }
        }
        assert_eq!(told, [9, 18]);
        bench.core.settled = true;
        assert_eq!(bench.settle.waited(&bench.core), Duration::ZERO);
    }
}
