//! Links between nodes. Each has two ends, which close by themselves; words, frames and states go in
//! order, each of the three apart.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::world::{What, World};
use crate::{
    engine::io::Event,
    model::{
        id::{HubName, NodeRun},
        member::{Hello, WIRE_VERSION},
        message::{BulkHeader, PeerMessage},
    },
    net::BulkDone,
    sim::node::{Input, Thread},
};

/// What goes over a link in an order of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stream {
    Words,
    Frames,
    States,
}

const STREAMS: [Stream; 3] = [Stream::Words, Stream::Frames, Stream::States];

/// What goes over a link.
#[derive(Debug)]
pub(super) enum Piece {
    Word(PeerMessage),
    Frame(Bytes),
    State {
        transfer: u64,
        header: BulkHeader,
        body: Bytes,
    },
    /// The other end has closed it.
    Closed,
}

/// One piece under way.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) link: u64,
    pub(super) run: NodeRun,
    pub(super) piece: Piece,
}

/// One end of a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) link: u64,
    /// The run at the other end.
    pub(super) run: NodeRun,
    /// How many words have come, and how many had when the engine last complained.
    came: u64,
    looked_at: Option<u64>,
}

/// A state that was not answered yet.
struct Transfer {
    from: usize,
    link: u64,
    done: BulkDone,
}

/// What is between the nodes.
#[derive(Default)]
pub(super) struct Network {
    /// By whose end it is, and the other node.
    pub(super) ends: BTreeMap<(usize, usize), End>,
    /// The link of each pair, from its handshake on until one end closes.
    links: BTreeMap<(usize, usize), u64>,
    fifo: BTreeMap<(usize, usize, Stream), std::time::Instant>,
    /// How many cuts there are from one node to another.
    cuts: BTreeMap<(usize, usize), u32>,
    /// What a cut holds back.
    held: BTreeMap<(usize, usize), Vec<Parcel>>,
    transfers: BTreeMap<u64, Transfer>,
    /// One word in so many is lost.
    pub(super) loses: Option<u64>,
    /// Transfers break.
    pub(super) breaks: bool,
    /// How long states are on their way, in milliseconds.
    pub(super) state_ms: u64,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl World {
    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.network.cuts.get(&(from, to)).is_some_and(|cuts| *cuts > 0)
    }

    /// Nothing comes from one node to another any more.
    pub(super) fn cut(&mut self, from: usize, to: usize) {
        *self.network.cuts.entry((from, to)).or_default() += 1;
    }

    /// One cut less. What it has held back comes late, or its link breaks.
    pub(super) fn mend(&mut self, from: usize, to: usize) {
        let Some(cuts) = self.network.cuts.get_mut(&(from, to)) else { return };
        *cuts = cuts.saturating_sub(1);
        if *cuts > 0 {
            return;
        }
        let held = self.network.held.remove(&(from, to)).unwrap_or_default();
        if self.dice.one_in(2) {
            for parcel in held {
                let wait = self.dice.ms(1, 8);
                self.deliver(parcel, wait);
            }
        } else {
            self.break_link(from, to);
        }
    }

    /// Both ends learn, each in its own time, that their link has broken.
    pub(super) fn break_link(&mut self, a: usize, b: usize) {
        for (at, other) in [(a, b), (b, a)] {
            if let Some(End { link, .. }) = self.network.ends.get(&(at, other)).copied() {
                let wait = self.dice.ms(0, 40);
                self.push(wait, What::Broken { at, other, link });
            }
        }
    }

    /// Puts a piece on its way behind those of its stream.
    fn carry(&mut self, parcel: Parcel) {
        if self.is_cut(parcel.from, parcel.to) {
            let held = self.network.held.entry((parcel.from, parcel.to)).or_default();
            return held.push(parcel);
        }
        let wait = match parcel.piece {
            Piece::State { .. } => self.dice.ms(1, self.network.state_ms.max(30)),
            _ => self.dice.ms(1, 8),
        };
        self.deliver(parcel, wait);
    }

    fn deliver(&mut self, parcel: Parcel, wait: Duration) {
        let (from, to) = (parcel.from, parcel.to);
        let streams = match parcel.piece {
            Piece::Word(_) => &[Stream::Words][..],
            Piece::Frame(_) => &[Stream::Frames],
            Piece::State { .. } => &[Stream::States],
            Piece::Closed => &STREAMS,
        };
        let mut arrives = self.now + wait;
        for stream in streams {
            let last = self.network.fifo.entry((from, to, *stream)).or_insert(arrives);
            arrives = arrives.max(*last);
            *last = arrives;
        }
        self.push(arrives - self.now, What::Arrives(parcel));
    }

    /// A node sends over its link, if it has one.
    pub(super) fn send(&mut self, from: usize, to: usize, piece: Piece) -> bool {
        let Some(end) = self.network.ends.get(&(from, to)).copied() else { return false };
        let run = self.run_of(from);
        self.carry(Parcel { from, to, link: end.link, run, piece });
        true
    }

    /// `Network::send_bulk`.
    pub(super) fn send_state(
        &mut self,
        from: usize,
        to: Option<usize>,
        header: BulkHeader,
        body: Bytes,
        done: BulkDone,
    ) {
        let end = to.and_then(|to| Some((to, *self.network.ends.get(&(from, to))?)));
        let Some((to, End { link, .. })) = end else {
            done(Err("no link".to_owned()));
            return self.settle(from);
        };
        let transfer = self.number();
        self.network.transfers.insert(transfer, Transfer { from, link, done });
        self.send(from, to, Piece::State { transfer, header, body });
    }

    /// A transfer was answered, or will not be.
    pub(super) fn transferred(&mut self, transfer: u64, outcome: Result<(), String>) {
        if let Some(Transfer { from, done, .. }) = self.network.transfers.remove(&transfer) {
            done(outcome);
            self.settle(from);
        }
    }

    /// A piece has arrived.
    pub(super) fn arrives(&mut self, parcel: Parcel) {
        let Parcel { from, to, link, run, piece } = parcel;
        let Some(end) = self.network.ends.get_mut(&(to, from)) else { return };
        if end.link != link {
            return;
        }
        end.came += 1;
        match piece {
            Piece::Word(message) => {
                let event = Event::Peer { from: run, message };
                self.mail(to, Thread::System, Input::Net(event));
            }
            Piece::Frame(frame) => self.input(to, Input::Frame { from: run, frame }),
            Piece::State { transfer, header, body } => {
                let (breaks, wait) = (self.network.breaks, self.dice.ms(1, 8));
                if breaks && self.dice.one_in(2) {
                    let outcome = Err("it broke".to_owned());
                    return self.push(wait, What::Transferred { transfer, outcome });
                }
                self.mail(to, Thread::System, Input::State { from: run, header, body });
                let outcome = match breaks && self.dice.one_in(3) {
                    true => Err("its answer was lost".to_owned()),
                    false => Ok(()),
                };
                self.push(wait, What::Transferred { transfer, outcome });
            }
            Piece::Closed => self.close_end(to, from),
        }
    }

    /// One end of a link closes; the other one is told, if it can be.
    pub(super) fn close(&mut self, at: usize, other: usize) {
        if self.dice.one_in(2) {
            self.send(at, other, Piece::Closed);
        } else if let Some(End { link, .. }) = self.network.ends.get(&(at, other)).copied()
            && !self.is_cut(at, other)
        {
            let wait = self.dice.ms(1, 10);
            self.push(wait, What::Broken { at: other, other: at, link });
        } else {
            self.send(at, other, Piece::Closed);
        }
        self.close_end(at, other);
    }

    pub(super) fn close_end(&mut self, at: usize, other: usize) {
        let link = self.network.ends.get(&(at, other)).map(|end| end.link);
        if link.as_ref() == self.network.links.get(&pair(at, other)) {
            self.network.links.remove(&pair(at, other));
        }
        self.drop_end(at, other);
    }

    /// A link that stands at one end only, or at none, will not stand at the other.
    pub(super) fn forget_link(&mut self, a: usize, b: usize) {
        self.network.links.remove(&pair(a, b));
    }

    fn drop_end(&mut self, at: usize, other: usize) {
        let Some(End { link, run, .. }) = self.network.ends.remove(&(at, other)) else { return };
        let lost = self.network.transfers.iter();
        let lost: Vec<u64> = lost
            .filter(|(_, transfer)| (transfer.from, transfer.link) == (at, link))
            .map(|(number, _)| *number)
            .collect();
        for transfer in lost {
            self.transferred(transfer, Err("the link is closed".to_owned()));
        }
        if let Some(node) = self.places[at].node.as_mut() {
            node.unlinked(run);
            self.settle(at);
            let place = &self.places[at];
            if place.wanted.contains(&run.node) || place.seeds.contains(&other) {
                self.dial(at, other, Duration::from_millis(50));
            }
        }
    }

    pub(super) fn dial(&mut self, from: usize, to: usize, after: Duration) {
        let wait = after + self.dice.ms(1, 20);
        self.push(wait, What::Dial { from, to });
    }

    fn hello(&self, from: usize, to: usize) -> Option<Hello> {
        let node = self.places[from].node.as_ref()?;
        let peer = self.run_of(to).node;
        Some(Hello {
            version: WIRE_VERSION,
            hub: HubName::new("sim").expect("a valid name"),
            me: node.me.clone(),
            fenced: node.fenced.iter().find(|(id, _)| *id == peer).map(|(_, life)| *life),
            known: node.known.clone(),
            dialled: None,
            up: 0,
            linked: false,
            seen: None,
        })
    }

    /// A dial comes to an end.
    pub(super) fn dialled(&mut self, from: usize, to: usize) {
        if self.network.links.contains_key(&pair(from, to)) {
            return;
        }
        if self.places[from].node.is_none() {
            return;
        }
        let peer = self.run_of(to).node;
        let is_wanted = self.places[from].wanted.contains(&peer);
        let again = is_wanted || self.places[from].seeds.contains(&to);
        let broken = self.is_cut(from, to) || self.is_cut(to, from);
        let (near, far) = (self.hello(from, to), self.hello(to, from));
        let (Some(near), Some(far)) = (near, far) else {
            if !broken && is_wanted {
                let event = Event::Unreachable { node: peer, refused: true };
                self.mail(from, Thread::System, Input::Net(event));
            }
            if again {
                self.dial(from, to, Duration::from_millis(300));
            }
            return;
        };
        if broken || self.places[to].is_paused() || self.places[from].is_paused() {
            if again {
                self.dial(from, to, Duration::from_millis(300));
            }
            return;
        }
        for (hello, told) in [(&near, to), (&far, from)] {
            let me = self.places[told].node.as_ref().map(|node| node.me.incarnation);
            if let Some(life) = hello.fenced
                && me.is_some_and(|me| life >= me)
            {
                let event = Event::Fenced { incarnation: life };
                self.mail(told, Thread::System, Input::Net(event));
                return self.dial(from, to, Duration::from_millis(100));
            }
        }
        let link = self.number();
        self.network.links.insert(pair(from, to), link);
        for (at, other, hello) in [(from, to, far), (to, from, near)] {
            let opens = self.now + self.dice.ms(1, 8);
            for stream in STREAMS {
                self.network.fifo.insert((other, at, stream), opens);
            }
            self.push(opens - self.now, What::Opens { at, other, link, hello });
        }
    }

    /// One end of a link stands.
    pub(super) fn opens(&mut self, at: usize, other: usize, link: u64, hello: Hello) {
        if self.network.links.get(&pair(at, other)) != Some(&link) {
            // The other end has closed it since.
            return;
        }
        // An older link that has not noticed that it is over.
        self.drop_end(at, other);
        let run = hello.me.run();
        let end = End { link, run, came: 0, looked_at: None };
        let Some(node) = self.places[at].node.as_mut() else { return };
        self.network.ends.insert((at, other), end);
        node.linked(hello);
        self.settle(at);
    }

    /// `Network::renew_if_silent`.
    pub(super) fn silent(&mut self, at: usize, other: usize) {
        let Some(end) = self.network.ends.get_mut(&(at, other)) else { return };
        if end.looked_at.replace(end.came) == Some(end.came) {
            self.close(at, other);
            self.dial(at, other, Duration::ZERO);
        }
    }
}
