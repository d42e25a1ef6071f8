//! The switchboard: who has which address, what is cut, and which connections there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::{mpsc, watch};

use super::wire::Wire;
use crate::{
    model::{access::AccessList, id::NodeId, secret::Secret},
    net::{
        Birth, NetError,
        carrier::{CarrierEvent, Connection, DialFailure, Ears},
    },
};

#[derive(Default)]
pub(super) struct Board {
    state: Mutex<BoardState>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct BoardState {
    listeners: BTreeMap<u64, Listener>,
    /// What names stand for.
    names: BTreeMap<String, Vec<String>>,
    /// From, to.
    cuts: BTreeSet<(NodeId, NodeId)>,
    wires: Vec<Weak<Wire>>,
    /// Starts of nodes that were neither killed nor stopped. A node may be started anew before
    /// what is left of its last life has stopped.
    live: BTreeMap<u64, NodeId>,
    /// How many lives there were.
    lives: u64,
}

/// Who has an address. Stays when it listens no more, so that a cut hides that as well.
struct Listener {
    node: NodeId,
    life: u64,
    birth: Birth,
    /// What who dials must hold.
    secret: Option<Secret>,
    access: watch::Receiver<AccessList>,
    events: Option<mpsc::Sender<CarrierEvent>>,
}

/// What the end that was dialled is told of a stranger.
const DIFFERENT: &str = "no secure channel could be agreed: the secrets differ, or it is no node \
                         of a hub";

/// One start of a node on a switchboard.
pub(super) struct Life {
    pub(super) node: NodeId,
    number: u64,
    birth: Birth,
    /// What it dials with, in order.
    secrets: Vec<Secret>,
    access: watch::Receiver<AccessList>,
}

/// What one attempt to dial found.
pub(super) enum Attempt {
    Connected(Connection),
    Failed(DialFailure),
    /// A cut is in the way.
    Held,
}

impl BoardState {
    fn free_port(&self) -> u64 {
        self.listeners.last_key_value().map_or(1, |(port, _)| port.saturating_add(1))
    }

    fn wires(&mut self) -> Vec<Arc<Wire>> {
        self.wires.retain(|wire| wire.strong_count() > 0);
        self.wires.iter().filter_map(Weak::upgrade).collect()
    }

    fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        self.cuts.contains(&(a, b)) || self.cuts.contains(&(b, a))
    }
}

impl Board {
    fn state(&self) -> MutexGuard<'_, BoardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and lets all connections and waiting dials see it.
    fn change<T>(&self, change: impl FnOnce(&mut BoardState) -> T) -> T {
        let mut state = self.state();
        let outcome = change(&mut state);
        for wire in state.wires() {
            let [a, b] = wire.ends();
            wire.set_cuts([state.cuts.contains(&(a, b)), state.cuts.contains(&(b, a))]);
        }
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
        outcome
    }

    /// Sees every change from now on.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What is cut: from, to.
    pub(super) fn cuts(&self) -> BTreeSet<(NodeId, NodeId)> {
        self.state().cuts.clone()
    }

    pub(super) fn add_cuts(&self, cuts: impl IntoIterator<Item = (NodeId, NodeId)>) {
        self.change(|state| state.cuts.extend(cuts));
    }

    pub(super) fn retain_cuts(&self, keep: impl Fn(&(NodeId, NodeId)) -> bool) {
        self.change(|state| state.cuts.retain(keep));
    }

    /// Breaks the connections for whose ends `breaks` is true.
    pub(super) fn reset(&self, breaks: impl Fn([NodeId; 2]) -> bool) {
        self.change(|state| {
            state.wires().iter().filter(|wire| breaks(wire.ends())).for_each(|wire| wire.reset());
        });
    }

    pub(super) fn set_name(&self, name: String, addresses: Vec<String>) {
        self.state().names.insert(name, addresses);
    }

    /// What a seed stands for: itself, unless it is a name.
    pub(super) fn resolve(&self, seed: &str) -> Result<Vec<String>, String> {
        if port(seed).is_ok() {
            return Ok(vec![seed.to_owned()]);
        }
        self.state().names.get(seed).cloned().ok_or_else(|| "there is no such name".to_owned())
    }

    /// Ends all lives of a node, and breaks its connections.
    pub(super) fn kill(&self, node: NodeId) {
        self.change(|state| {
            state.live.retain(|_, live| *live != node);
            for listener in state.listeners.values_mut().filter(|one| one.node == node) {
                listener.events = None;
            }
            let wires = state.wires();
            wires.iter().filter(|wire| wire.ends().contains(&node)).for_each(|wire| wire.reset());
        });
    }

    /// Begins a life that listens on these ports, of which 0 is a free one, and tells it which
    /// they are. Ports that are taken are refused with the index of the first.
    pub(super) fn begin(
        &self,
        (node, birth): (NodeId, Birth),
        secrets: Vec<Secret>,
        ports: &[u64],
        ears: &Ears,
    ) -> Result<Life, usize> {
        self.change(|state| {
            state.lives += 1;
            let number = state.lives;
            let mut taken = Vec::new();
            for (index, asked) in ports.iter().enumerate() {
                let port = if *asked == 0 { state.free_port() } else { *asked };
                let is_free = |one: &Listener| one.events.is_none();
                if !state.listeners.get(&port).is_none_or(is_free) {
                    for port in taken {
                        state.listeners.remove(&port);
                    }
                    return Err(index);
                }
                let (secret, events) = (secrets.first().cloned(), Some(ears.events.clone()));
                let access = ears.access.clone();
                let life = number;
                let listener = Listener { node, life, birth, secret, access, events };
                state.listeners.insert(port, listener);
                taken.push(port);
            }
            for port in taken {
                ears.addresses.listens(format!("/memory/{port}"));
            }
            state.live.insert(number, node);
            Ok(Life { node, number, birth, secrets, access: ears.access.clone() })
        })
    }

    /// Ends a life: it listens no more, and its ends of connections are closed.
    pub(super) fn end(&self, life: &Life) {
        self.change(|state| {
            state.live.remove(&life.number);
            for listener in state.listeners.values_mut().filter(|one| one.life == life.number) {
                listener.events = None;
            }
            state.wires().iter().for_each(|wire| wire.close_life(life.number));
        });
    }

    /// Tries to connect a life to whoever listens on a port.
    pub(super) fn attempt(
        &self,
        life: &Life,
        node: Option<NodeId>,
        address: &str,
        port: u64,
    ) -> Attempt {
        let mut state = self.state();
        if !state.live.contains_key(&life.number) {
            let reason = "this node was stopped".to_owned();
            return Attempt::Failed(DialFailure::Unreachable(reason));
        }
        let Some(listener) = state.listeners.get(&port) else {
            return Attempt::Failed(DialFailure::Refused);
        };
        let peer = listener.node;
        if peer == life.node && listener.events.is_some() {
            if listener.life == life.number {
                return Attempt::Failed(DialFailure::Itself);
            }
            let is_second = life.birth.age().is_second_to(&listener.birth.age());
            if let Some(events) = &listener.events {
                // Without room it is told by this end alone.
                let from = "/memory".to_owned();
                let _ = events.try_send(CarrierEvent::Twin { from, is_second: !is_second });
            }
            return Attempt::Failed(DialFailure::Twin { is_second });
        }
        if state.is_cut(life.node, peer) {
            return Attempt::Held;
        }
        let Some(events) = listener.events.clone() else {
            return Attempt::Failed(DialFailure::Refused);
        };
        let agrees = match &listener.secret {
            Some(secret) => life.secrets.contains(secret),
            None => life.secrets.is_empty(),
        };
        if !agrees {
            let reason = DIFFERENT.to_owned();
            let _ = events.try_send(CarrierEvent::Rejected {
                node: None,
                from: "/memory".to_owned(),
                reason,
            });
            return Attempt::Failed(DialFailure::Insecure("the secrets differ".to_owned()));
        }
        if node.is_some_and(|node| node != peer) {
            let reason = format!("{address} is another node");
            return Attempt::Failed(DialFailure::Unreachable(reason));
        }
        if let Some(reason) = life.access.borrow().refusal(peer) {
            return Attempt::Failed(DialFailure::NotAdmitted(reason));
        }
        let refusal = listener.access.borrow().refusal(life.node);
        let (wire, [mine, theirs]) = Wire::new([life.node, peer], [life.number, listener.life]);
        state.wires.push(Arc::downgrade(&wire));
        let accepted = Wire::connection(&wire, 1, "/memory".to_owned(), theirs);
        let dialled = Wire::connection(&wire, 0, address.to_owned(), mine);
        // Closing a connection takes no lock of the board.
        if let Some(reason) = refusal {
            let (node, from) = (Some(life.node), "/memory".to_owned());
            let reason = reason.to_owned();
            let _ = events.try_send(CarrierEvent::Rejected { node, from, reason });
            return Attempt::Connected(dialled);
        }
        if events.try_send(CarrierEvent::Incoming(accepted)).is_err() {
            let reason = "the other end is overloaded".to_owned();
            return Attempt::Failed(DialFailure::Unreachable(reason));
        }
        Attempt::Connected(dialled)
    }
}

/// Checks addresses of this network: `/memory/<n>`.
pub(super) fn port(address: &str) -> Result<u64, String> {
    let number = address.strip_prefix("/memory/").and_then(|number| number.parse().ok());
    number.ok_or_else(|| "it must be /memory/<number>".to_owned())
}

/// Begins a life that listens on these addresses, or on a free one if there are none.
pub(super) fn listen(
    board: &Board,
    node: (NodeId, Birth),
    secrets: Vec<Secret>,
    addresses: &[String],
    ears: &Ears,
) -> Result<Life, NetError> {
    let ports: Result<Vec<u64>, NetError> = addresses
        .iter()
        .map(|address| {
            port(address).map_err(|reason| NetError::Address { address: address.clone(), reason })
        })
        .collect();
    let mut ports = ports?;
    if ports.is_empty() {
        ports.push(0);
    }
    board.begin(node, secrets, &ports, ears).map_err(|index| NetError::Listen {
        address: addresses.get(index).cloned().unwrap_or_default(),
        reason: "the address is in use".to_owned(),
    })
}
