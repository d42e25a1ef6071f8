//! Draining: a node is emptied and stays in. It takes no children; it is home, votes and routes.

use std::{collections::BTreeSet, time::Duration};

use super::{
    children::{Children, Left},
    core::{Core, Timer},
    io::{Effect, LeaveFailed, Reply},
    membership::Membership,
};
use crate::model::{event::HubEvent, id::RequestId};

/// Whether this node is drained.
///
/// A deadline is that of who asked; when it has passed the node goes on draining.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    is_on: bool,
    /// Who waits until nothing is left.
    requests: BTreeSet<RequestId>,
    /// It was told that nothing is left.
    is_told: bool,
}

impl Drain {
    /// Somebody asks for this node to be drained, perhaps once more.
    pub(crate) fn request(
        &mut self,
        id: RequestId,
        timeout: Duration,
        core: &mut Core,
        membership: &mut Membership,
        children: &mut Children,
    ) {
        let others = core.placeable.iter().any(|member| member.id != core.me.node);
        // Before a view is settled it is not known who has registered what.
        if (core.settled || !others) && children.is_stranded(core) {
            let Left { children, first: left } = children.left(core, None);
            let why = LeaveFailed::NoSuccessor { children, left };
            if self.is_on {
                tell(core, &why);
            }
            return reply(core, id, Err(why));
        }
        self.requests.insert(id);
        core.timer(timeout, Timer::Drain(id));
        if std::mem::replace(&mut self.is_on, true) {
            return children.try_again(core);
        }
        core.emptying = true;
        membership.set_draining(core.now, true);
        children.take_no_more(core);
    }

    /// Takes it back: this node takes children again, unless it leaves.
    pub(crate) fn undo(&mut self, id: RequestId, core: &mut Core, membership: &mut Membership) {
        (self.is_on, self.is_told) = (false, false);
        membership.set_draining(core.now, false);
        self.fail(core, &LeaveFailed::Stayed);
        core.effects.push_back(Effect::Reply { request: id, reply: Reply::Undrained });
    }

    /// The time of a request is over.
    pub(crate) fn expired(
        &mut self,
        core: &mut Core,
        children: &Children,
        id: RequestId,
        waits_for: Option<String>,
    ) {
        if self.requests.remove(&id) {
            let Left { children, first: left } = children.left(core, waits_for.as_deref());
            let why = LeaveFailed::Timeout { children, left, waits_for };
            tell(core, &why);
            reply(core, id, Err(why));
        }
    }

    /// Answers when nothing is left, or nobody is who could take it.
    pub(crate) fn go_on(&mut self, core: &mut Core, children: &Children) {
        if !self.is_on {
            return;
        }
        let is_empty = children.is_empty();
        if !std::mem::replace(&mut self.is_told, is_empty) && is_empty {
            core.emit(HubEvent::Drained);
        }
        if is_empty {
            for request in std::mem::take(&mut self.requests) {
                reply(core, request, Ok(()));
            }
        } else if !self.requests.is_empty() && core.settled && children.is_stranded(core) {
            let Left { children, first: left } = children.left(core, None);
            let why = LeaveFailed::NoSuccessor { children, left };
            tell(core, &why);
            self.fail(core, &why);
        }
    }

    fn fail(&mut self, core: &mut Core, why: &LeaveFailed) {
        for request in std::mem::take(&mut self.requests) {
            reply(core, request, Err(why.clone()));
        }
    }
}

/// Tells whoever listens that this node is not empty.
fn tell(core: &mut Core, why: &LeaveFailed) {
    let (children, left) = why.left();
    let left = left.to_vec();
    core.emit(HubEvent::DrainFailed { reason: why.to_string(), children, left });
}

fn reply(core: &mut Core, request: RequestId, outcome: Result<(), LeaveFailed>) {
    core.effects.push_back(Effect::Reply { request, reply: Reply::Drained(outcome) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::tests::{child, core, spec},
        model::child::Epoch,
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// Node 1, that runs one child.
    struct Bench {
        core: Core,
        membership: Membership,
        children: Children,
        drain: Drain,
    }

    impl Bench {
        fn new(members: &[u8]) -> Self {
            let mut core = core(members);
            let membership = Membership::new(&core.config, core.now);
            let mut children = Children::default();
            children.begin(&mut core, spec(0), Epoch { term: 1, attempt: 0 });
            core.effects.clear();
            Self { core, membership, children, drain: Drain::default() }
        }

        fn request(&mut self, id: u64) -> Vec<Effect> {
            let Self { core, membership, children, drain } = self;
            drain.request(RequestId(id), SECOND, core, membership, children);
            self.go_on()
        }

        fn go_on(&mut self) -> Vec<Effect> {
            self.drain.go_on(&mut self.core, &self.children);
            self.said()
        }

        fn said(&mut self) -> Vec<Effect> {
            let is_said =
                |effect: &Effect| matches!(effect, Effect::Reply { .. } | Effect::Emit(_));
            self.core.effects.drain(..).filter(is_said).collect()
        }
    }

    fn answer(id: u64, reply: Reply) -> Effect {
        Effect::Reply { request: RequestId(id), reply }
    }

    #[test]
    fn a_node_is_drained_when_nothing_is_left_and_says_so_once() {
        let mut bench = Bench::new(&[1, 2]);
        assert_eq!(bench.request(1), []);
        assert!(bench.core.emptying);
        bench.children.lose(&child(0));
        let drained = Effect::Emit(HubEvent::Drained);
        assert_eq!(bench.go_on(), [drained.clone(), answer(1, Reply::Drained(Ok(())))]);
        assert_eq!(bench.request(2), [answer(2, Reply::Drained(Ok(())))]);
        // A child that was on its way here has come, and gone.
        bench.children.begin(&mut bench.core, spec(1), Epoch { term: 1, attempt: 0 });
        bench.core.effects.clear();
        assert_eq!(bench.go_on(), []);
        bench.children.lose(&child(1));
        assert_eq!(bench.go_on(), [drained]);
    }

    #[test]
    fn when_the_time_is_over_it_is_told_what_was_waited_for_and_the_node_goes_on_draining() {
        let mut bench = Bench::new(&[1, 2]);
        bench.request(1);
        let waits_for = Some("waits for n2".to_owned());
        bench.drain.expired(&mut bench.core, &bench.children, RequestId(1), waits_for.clone());
        let said = bench.said();
        let [Effect::Emit(HubEvent::DrainFailed { reason, children: 1, .. }), answer] = &said[..]
        else {
            panic!("{said:?}")
        };
        assert!(reason.contains("waits for n2"), "{reason}");
        let Effect::Reply { reply: Reply::Drained(Err(why)), .. } = answer else {
            panic!("{answer:?}")
        };
        assert!(matches!(why, LeaveFailed::Timeout { children: 1, waits_for: Some(_), .. }));
        bench.drain.expired(&mut bench.core, &bench.children, RequestId(1), waits_for);
        assert_eq!(bench.said(), [], "it was answered");
        bench.children.lose(&child(0));
        assert_eq!(bench.go_on(), [Effect::Emit(HubEvent::Drained)]);
    }

    #[test]
    fn who_takes_it_back_is_answered_behind_those_who_waited() {
        let mut bench = Bench::new(&[1, 2]);
        bench.request(1);
        bench.drain.undo(RequestId(2), &mut bench.core, &mut bench.membership);
        let stayed = answer(1, Reply::Drained(Err(LeaveFailed::Stayed)));
        assert_eq!(bench.said(), [stayed, answer(2, Reply::Undrained)]);
        bench.children.lose(&child(0));
        assert_eq!(bench.go_on(), [], "it is not drained");
    }

    #[test]
    fn a_node_whose_children_nobody_takes_is_not_drained() {
        let mut bench = Bench::new(&[1]);
        let said = bench.request(1);
        let [Effect::Reply { reply: Reply::Drained(Err(why)), .. }] = &said[..] else {
            panic!("{said:?}")
        };
        assert!(matches!(why, LeaveFailed::NoSuccessor { children: 1, .. }), "{why:?}");
        assert!(!bench.core.emptying);
        // The other one goes while this one is drained.
        let mut bench = Bench::new(&[1, 2]);
        bench.request(1);
        bench.core.adopt(core(&[1]).view);
        bench.core.settled = true;
        let said = bench.go_on();
        assert!(matches!(said[0], Effect::Emit(HubEvent::DrainFailed { .. })), "{said:?}");
        assert_eq!(said.len(), 2, "{said:?}");
    }
}
