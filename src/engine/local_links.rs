//! Addresses on loopback are told over links on loopback alone: elsewhere they lead to another
//! node, or to nobody.

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{
    id::{NodeId, NodeRun},
    member::Member,
    message::{MemberWord, PeerMessage},
};

/// The peers whose links are on loopback, or inside the process.
#[derive(Debug, Default)]
pub(crate) struct LocalLinks {
    local: BTreeMap<NodeId, NodeRun>,
}

impl LocalLinks {
    /// A link stands.
    pub(crate) fn linked(&mut self, run: NodeRun, local: bool) {
        if local {
            self.local.insert(run.node, run);
        } else {
            self.local.remove(&run.node);
        }
    }

    /// The link of that run broke.
    pub(crate) fn unlinked(&mut self, run: NodeRun) {
        // Another run of the node may have one by now.
        if self.local.get(&run.node) == Some(&run) {
            self.local.remove(&run.node);
        }
    }

    /// The word as it may be told to this node. Every word about members passes here.
    pub(crate) fn told(&self, to: NodeId, mut message: PeerMessage) -> PeerMessage {
        let told = match &mut message {
            PeerMessage::Member(word) if !self.local.contains_key(&to) => Some(word),
            // Who hears it in the end has no link to this node.
            PeerMessage::Relay { message, .. } => match &mut **message {
                PeerMessage::Member(word) => Some(word),
                _ => None,
            },
            _ => None,
        };
        match told {
            Some(MemberWord::View { members, .. } | MemberWord::Introduce { members }) => {
                members.iter_mut().for_each(Member::forget_loopback);
            }
            Some(MemberWord::Lost { nodes }) => {
                nodes.iter_mut().for_each(|lost| lost.member.forget_loopback());
            }
            Some(MemberWord::Heartbeat { status: Some(status), .. }) => {
                if let Some(me) = &mut status.me {
                    Arc::make_mut(me).forget_loopback();
                }
            }
            _ => {}
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        id::{Incarnation, NodeName},
        member::{MemberState, ViewId},
    };

    const LIFE: Incarnation = Incarnation { started: 1, nonce: 1 };

    fn node(n: u8) -> NodeId {
        NodeId::from_key([n; 32])
    }

    fn members(addresses: &[&str]) -> PeerMessage {
        let member = Member {
            id: node(9),
            incarnation: LIFE,
            name: NodeName::new("nine").expect("a name"),
            addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
            weight: 1,
            state: MemberState::Alive,
            draining: false,
            labels: Default::default(),
            revision: 0,
        };
        let (view, base, gone) = (ViewId(1), None, Vec::new());
        PeerMessage::Member(MemberWord::View { view, base, members: vec![member], gone })
    }

    #[test]
    fn loopback_is_told_over_local_links_alone_and_never_relayed() {
        let all = ["/ip4/10.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1", "/memory/1"];
        let others = ["/ip4/10.0.0.1/tcp/1", "/memory/1"];
        let (near, far) = (LIFE.run_of(node(1)), LIFE.run_of(node(2)));
        let mut links = LocalLinks::default();
        links.linked(near, true);
        links.linked(far, false);
        assert_eq!(links.told(near.node, members(&all)), members(&all));
        assert_eq!(links.told(far.node, members(&all)), members(&others));
        assert_eq!(links.told(node(3), members(&all)), members(&others));
        let relay = |message| PeerMessage::Relay {
            from: near,
            to: far,
            hops: 1,
            message: Box::new(message),
        };
        let relayed = links.told(near.node, relay(members(&all)));
        assert_eq!(relayed, relay(members(&others)));
        links.unlinked(near);
        assert_eq!(links.told(near.node, members(&all)), members(&others));
        links.linked(near, true);
        links.linked(near, false);
        assert_eq!(links.told(near.node, members(&all)), members(&others));
    }
}
