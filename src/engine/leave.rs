//! Leaving: everything is handed over, everybody knows, and then this node says Bye.
//!
//! A deadline is that of who asked. When it has passed, or nobody is left who could take what is
//! here, the node goes on as one that leaves: it takes no children, hands over what it can, and is in.
//! It says Bye only for somebody who waits; that is who asks again. What was handed over stays out.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    children::{Children, Left},
    core::{Core, LONGEST_WAIT, Timer},
    io::{Effect, LeaveFailed, Reply},
    membership::Membership,
    parked::{Around, Parked},
};
use crate::model::{event::HubEvent, id::RequestId, member::MemberState};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Children are handed over, and the others learn where they are.
    Handing,
    /// Nothing is left here. Replies and answers are waited for; there is no way back.
    Closing,
    /// It said Bye.
    Gone,
}

/// Whether this node leaves, and how far it is.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    stage: Option<Stage>,
    /// Who waits for it, and until when.
    requests: BTreeMap<RequestId, Instant>,
}

impl Leave {
    /// Whether this node hands its children over, or has.
    pub(crate) fn is_under_way(&self) -> bool {
        self.stage.is_some()
    }

    /// Whether this node has left.
    pub(crate) fn is_over(&self) -> bool {
        self.stage == Some(Stage::Gone)
    }

    /// Somebody asks this node to leave, perhaps once more.
    pub(crate) fn request(
        &mut self,
        id: RequestId,
        timeout: Duration,
        core: &mut Core,
        membership: &mut Membership,
        children: &mut Children,
    ) {
        if self.is_over() {
            return reply(core, id, Ok(()));
        }
        let begins = !self.is_under_way();
        let others = core.placeable.iter().any(|member| member.id != core.me.node);
        // Before a view is settled it is not known who has registered what.
        if (core.settled || !others) && children.is_stranded(core) {
            let Left { children, first: left } = children.left(core, None);
            let why = LeaveFailed::NoSuccessor { children, left };
            if !begins {
                tell(core, &why);
            }
            return reply(core, id, Err(why));
        }
        self.requests.insert(id, core.now + timeout.min(LONGEST_WAIT));
        core.timer(timeout, Timer::Leave(id));
        if begins {
            self.stage = Some(Stage::Handing);
            core.emptying = true;
            membership.start_leaving(core.now);
            children.take_no_more(core);
        } else if self.stage == Some(Stage::Handing) {
            children.try_again(core);
        }
    }

    /// The time of a request is over. Once nothing is left here it ends by itself, and is answered
    /// then.
    pub(crate) fn expired(
        &mut self,
        core: &mut Core,
        children: &Children,
        id: RequestId,
        waits_for: Option<String>,
    ) {
        if self.stage == Some(Stage::Handing) && self.requests.remove(&id).is_some() {
            let Left { children, first: left } = children.left(core, waits_for.as_deref());
            let why = LeaveFailed::Timeout { children, left, waits_for };
            tell(core, &why);
            reply(core, id, Err(why));
        }
    }

    /// Somebody wants this node to take children again.
    pub(crate) fn stay(&mut self, id: RequestId, core: &mut Core, membership: &mut Membership) {
        let stays = !matches!(self.stage, Some(Stage::Closing | Stage::Gone));
        if stays && self.stage.take().is_some() {
            membership.cancel_leaving(core.now);
            self.fail(core, &LeaveFailed::Stayed);
        }
        core.effects.push_back(Effect::Reply { request: id, reply: Reply::Stays(stays) });
    }

    fn fail(&mut self, core: &mut Core, why: &LeaveFailed) {
        for request in std::mem::take(&mut self.requests).into_keys() {
            reply(core, request, Err(why.clone()));
        }
    }

    /// Goes on when nothing is left here and everybody knows.
    pub(crate) fn go_on(&mut self, core: &mut Core, children: &Children, parked: &Parked) {
        if self.stage != Some(Stage::Handing) || self.requests.is_empty() {
            return;
        }
        if core.settled && children.is_stranded(core) {
            let Left { children, first: left } = children.left(core, None);
            let why = LeaveFailed::NoSuccessor { children, left };
            tell(core, &why);
            return self.fail(core, &why);
        }
        if !children.is_empty() || parked.at_risk(&Around::of(core)) > 0 {
            return;
        }
        let version = core.registry.version();
        let known = core
            .view
            .members
            .values()
            .filter(|member| member.id != core.me.node && member.state != MemberState::Suspect)
            .all(|member| core.registry.acked(member.id, core.me) >= version);
        if known {
            self.stage = Some(Stage::Closing);
            core.closing = true;
            let until = self.requests.values().max().copied().unwrap_or(core.now);
            let calls = until.saturating_duration_since(core.now);
            core.effects.push_back(Effect::DrainLinks { calls });
        }
    }

    /// Every answer to a peer was received by it.
    pub(crate) fn drained(&mut self, core: &mut Core, membership: &mut Membership) {
        if self.stage != Some(Stage::Closing) {
            return;
        }
        self.stage = Some(Stage::Gone);
        membership.bye(core.now);
    }

    /// Who asked is told that it is over; after everything else was said.
    pub(crate) fn answer(&mut self, core: &mut Core) {
        if self.is_over() {
            for request in std::mem::take(&mut self.requests).into_keys() {
                reply(core, request, Ok(()));
            }
        }
    }
}

/// Tells whoever listens that this node has not left.
fn tell(core: &mut Core, why: &LeaveFailed) {
    let (children, left) = why.left();
    let left = left.to_vec();
    core.emit(HubEvent::LeaveFailed { reason: why.to_string(), children, left });
}

fn reply(core: &mut Core, request: RequestId, outcome: Result<(), LeaveFailed>) {
    core.effects.push_back(Effect::Reply { request, reply: Reply::Left(outcome) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::tests::{child, core, member, spec},
        model::child::Epoch,
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// Node 1, that runs one child if it is to.
    struct Bench {
        core: Core,
        membership: Membership,
        children: Children,
        parked: Parked,
        leave: Leave,
    }

    impl Bench {
        fn new(members: &[u8], has_child: bool) -> Self {
            let mut core = core(members);
            let membership = Membership::new(&core.config, core.now);
            let mut children = Children::default();
            if has_child {
                children.begin(&mut core, spec(0), Epoch { term: 1, attempt: 0 });
            }
            core.effects.clear();
            let parked = Parked::new(1 << 20, SECOND);
            Self { core, membership, children, parked, leave: Leave::default() }
        }

        /// Somebody asks; what comes of it.
        fn request(&mut self, id: u64) -> Vec<Effect> {
            let Self { core, membership, children, leave, .. } = self;
            leave.request(RequestId(id), 5 * SECOND, core, membership, children);
            self.go_on()
        }

        fn go_on(&mut self) -> Vec<Effect> {
            let Self { core, children, parked, leave, .. } = self;
            leave.go_on(core, children, parked);
            core.effects.drain(..).filter(is_said).collect()
        }

        fn expired(&mut self, id: u64) -> Vec<Effect> {
            let waits_for = Some("waits for n2".to_owned());
            self.leave.expired(&mut self.core, &self.children, RequestId(id), waits_for);
            self.core.effects.drain(..).filter(is_said).collect()
        }

        fn stay(&mut self) -> Vec<Effect> {
            self.leave.stay(RequestId(9), &mut self.core, &mut self.membership);
            self.core.effects.drain(..).filter(is_said).collect()
        }

        /// Every answer was received.
        fn drained(&mut self) -> Vec<Effect> {
            self.leave.drained(&mut self.core, &mut self.membership);
            self.leave.answer(&mut self.core);
            self.core.effects.drain(..).filter(is_said).collect()
        }
    }

    /// Answers, events, and the draining of links.
    fn is_said(effect: &Effect) -> bool {
        matches!(effect, Effect::Reply { .. } | Effect::DrainLinks { .. } | Effect::Emit(_))
    }

    fn answer(id: u64, reply: Reply) -> Effect {
        Effect::Reply { request: RequestId(id), reply }
    }

    fn says_bye() -> Vec<Effect> {
        vec![Effect::DrainLinks { calls: 5 * SECOND }]
    }

    #[test]
    fn a_node_says_bye_when_nothing_is_left_all_know_it_and_every_answer_was_received() {
        let mut bench = Bench::new(&[1, 2], true);
        assert_eq!(bench.request(1), []);
        assert!(bench.leave.is_under_way() && bench.core.emptying && !bench.core.closing);
        assert_eq!(bench.drained(), [], "it hands its children over");
        bench.children.lose(&child(0));
        // What it has written last is not known to the other one.
        let (me, version) = (bench.core.me, bench.core.registry.version());
        assert!(version > 0);
        assert_eq!(bench.go_on(), []);
        bench.core.registry.acknowledged(me, member(2).run(), version);
        assert_eq!(bench.go_on(), says_bye());
        assert!(bench.core.closing);
        assert_eq!(bench.go_on(), [], "once");
        assert_eq!(bench.expired(1), [], "it ends by itself");
        assert_eq!(bench.drained(), [answer(1, Reply::Left(Ok(())))]);
        assert!(bench.leave.is_over());
        assert_eq!(bench.request(2), [answer(2, Reply::Left(Ok(())))]);
    }

    #[test]
    fn when_the_time_is_over_it_is_told_what_was_waited_for_and_the_node_goes_on_without_a_bye() {
        let mut bench = Bench::new(&[1, 2], true);
        bench.request(1);
        let [Effect::Emit(HubEvent::LeaveFailed { reason, children: 1, .. }), reply] =
            &bench.expired(1)[..]
        else {
            panic!("it is told, and answered")
        };
        assert!(reason.contains("waits for n2"), "{reason}");
        let waited = |reply: &Effect| match reply {
            Effect::Reply {
                reply: Reply::Left(Err(LeaveFailed::Timeout { waits_for, .. })),
                ..
            } => waits_for.clone(),
            _ => None,
        };
        assert_eq!(waited(reply).as_deref(), Some("waits for n2"));
        assert_eq!(bench.expired(1), [], "it was answered");
        bench.children.lose(&child(0));
        let (me, version) = (bench.core.me, bench.core.registry.version());
        bench.core.registry.acknowledged(me, member(2).run(), version);
        assert_eq!(bench.go_on(), [], "nobody waits for it");
        assert!(bench.leave.is_under_way() && bench.core.emptying);
        assert_eq!(bench.request(2), says_bye());
    }

    #[test]
    fn a_node_stays_unless_it_closes() {
        let mut bench = Bench::new(&[1, 2], true);
        assert_eq!(bench.stay(), [answer(9, Reply::Stays(true))], "it does not leave");
        bench.request(1);
        bench.request(2);
        let stayed = |id| answer(id, Reply::Left(Err(LeaveFailed::Stayed)));
        assert_eq!(bench.stay(), [stayed(1), stayed(2), answer(9, Reply::Stays(true))]);
        assert!(!bench.leave.is_under_way());
        let mut bench = Bench::new(&[1, 2], false);
        assert_eq!(bench.request(1), says_bye());
        assert_eq!(bench.stay(), [answer(9, Reply::Stays(false))]);
        assert_eq!(bench.drained(), [answer(1, Reply::Left(Ok(())))]);
        assert_eq!(bench.stay(), [answer(9, Reply::Stays(false))]);
    }

    #[test]
    fn a_node_whose_children_nobody_takes_does_not_begin_to_leave_and_one_without_any_does() {
        let mut bench = Bench::new(&[1], true);
        let said = bench.request(1);
        let [Effect::Reply { reply: Reply::Left(Err(why)), .. }] = &said[..] else {
            panic!("{said:?}")
        };
        assert!(matches!(why, LeaveFailed::NoSuccessor { children: 1, .. }), "{why:?}");
        assert!(!bench.leave.is_under_way() && !bench.core.emptying);
        let mut bench = Bench::new(&[1], false);
        assert_eq!(bench.request(1), says_bye());
    }

    #[test]
    fn a_node_that_leaves_says_when_nobody_is_left_who_could_take_its_children() {
        let mut bench = Bench::new(&[1, 2], true);
        assert_eq!(bench.request(1), []);
        bench.core.adopt(core(&[1]).view);
        bench.core.settled = false;
        assert_eq!(bench.go_on(), [], "who comes in may take them");
        bench.core.settled = true;
        let said = bench.go_on();
        let [Effect::Emit(HubEvent::LeaveFailed { .. }), Effect::Reply { reply, .. }] = &said[..]
        else {
            panic!("{said:?}")
        };
        assert!(matches!(reply, Reply::Left(Err(LeaveFailed::NoSuccessor { children: 1, .. }))));
        assert!(bench.leave.is_under_way(), "it takes no children");
    }
}
