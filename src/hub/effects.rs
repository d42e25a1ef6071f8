//! Carries out what the engine wants.

use std::{collections::BTreeMap, time::Duration};

use actix::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    parcel::Parcel,
    system::{HubSystem, Outcome},
    worker::{Order, Orders},
};
use crate::{
    engine::io::{ChildOrder, Effect, Event, ParkedOrder},
    model::{id::ChildId, message::BulkHeader},
    net::Announcement,
};

/// How long peers may take to hear the last answers of a node that leaves, and to answer what it has
/// sent at the last moment.
const DRAIN: Duration = Duration::from_secs(5);

impl HubSystem {
    /// Carries out everything that the engine wants now. Orders for one arbiter go in one message.
    pub(crate) fn perform(&mut self, ctx: &mut Context<Self>) {
        let mut orders = BTreeMap::<usize, Vec<Order>>::new();
        let shared = self.hub.shared().clone();
        loop {
            let Some(running) = &mut self.running else {
                return;
            };
            let Some(effect) = running.engine.next_effect() else {
                break;
            };
            match effect {
                Effect::Child(order) => {
                    if let Some(order) = self.order(order) {
                        let count = shared.workers().len().max(1);
                        orders
                            .entry(worker_of(child_of(&order.order), count))
                            .or_default()
                            .push(order);
                    }
                }
                Effect::Reply { request, reply } => {
                    if let Some(asker) = running.requests.remove(&request) {
                        // Whoever asked may have gone.
                        let _ = asker.send(reply);
                    }
                }
                Effect::Parked(order) => self.parked(order, ctx),
                Effect::Route { child, route } => shared.doors.route(&child, route),
                Effect::Located { child, found } => shared.doors.located(&child, found),
                Effect::NotStarted { child, reason } => shared.doors.not_started(&child, reason),
                Effect::LocateOver { child } => shared.doors.unanswered(&child),
                Effect::Gone { run, left } => {
                    running.questions.retain(|_, open| open.asked != run);
                    shared.doors.gone(run, left);
                }
                Effect::Unmet { run } => {
                    if shared.doors.unmet(run) {
                        running.questions.retain(|_, open| open.asked != run);
                    }
                }
                Effect::Observed { from, way, word } => self.observed(from, way, word, ctx),
                Effect::Path { to, by } => shared.doors.detour(to, by),
                Effect::Members { runs } => shared.doors.members(runs),
                Effect::Subscribed { run, version, changes } => {
                    shared.doors.topics.learn(run, version, changes);
                }
                Effect::Unsubscribed { run } => shared.doors.topics.forget(run),
                Effect::Sighted { child, id, sighting } => {
                    shared.watches.sighted(&child, id, sighting);
                }
                Effect::Gates { valid } => shared.doors.set_valid(valid),
                Effect::Emit(event) => shared.emit(event),
                Effect::DrainLinks { calls } => {
                    let doors = shared.doors.clone();
                    let system = ctx.address();
                    actix_rt::spawn(async move {
                        // What this node has asked of others is answered, if it can be in time. An
                        // app that goes on asking must not keep it up.
                        let asked = doors.calls_until_now();
                        let _ = tokio::time::timeout(calls, doors.finish(asked)).await;
                        // What comes now would be said to be on its way, and would go nowhere.
                        doors.close();
                        let rest = doors.calls_until_now();
                        let _ = tokio::time::timeout(DRAIN, doors.finish(rest)).await;
                        if tokio::time::timeout(DRAIN, doors.drain_members()).await.is_err() {
                            tracing::warn!("a peer did not hear the last answers in time");
                        }
                        system.do_send(Outcome(vec![Event::LinksDrained]));
                    });
                }
                effect => self.network_effect(effect),
            }
        }
        for (worker, orders) in orders {
            if let Some(worker) = shared.workers().get(worker) {
                worker.do_send(Orders(orders));
            }
        }
    }

    /// Does something with the bytes of a parked state.
    fn parked(&mut self, order: ParkedOrder, ctx: &mut Context<Self>) {
        let Some(running) = &mut self.running else {
            return;
        };
        match order {
            ParkedOrder::Keep { key, from } => {
                if let Some((info, bytes)) = running.arrivals.take_copy(key, from) {
                    running.parked.hold(info, bytes);
                }
            }
            ParkedOrder::Refuse { key, from } => drop(running.arrivals.take_copy(key, from)),
            ParkedOrder::Forget { key } => running.parked.forget(&key),
            ParkedOrder::Send { key, to, purpose } => {
                let system = ctx.address();
                let not_sent =
                    Event::ParkedNotSent { key: key.clone(), to, purpose: purpose.clone() };
                let Some((info, bytes)) = running.parked.find(&key) else {
                    system.do_send(Outcome(vec![not_sent]));
                    return;
                };
                let header = BulkHeader::Parked { info: info.clone(), purpose };
                let done = Box::new(move |outcome: Result<(), String>| {
                    if let Err(reason) = outcome {
                        tracing::debug!(%key, peer = %to, reason, "a parked state was not sent");
                        system.do_send(Outcome(vec![not_sent]));
                    }
                });
                self.hub.shared().doors.send_bulk(to, header, bytes.clone(), done);
            }
        }
    }

    pub(crate) fn network_effect(&self, effect: Effect) {
        let Some(network) = self.hub.shared().doors.network.get() else {
            return;
        };
        match effect {
            Effect::Send { to, message } | Effect::Probe { to, message } => {
                if let Err(error) = network.send(to, &message) {
                    tracing::debug!(peer = %to, %error, "a word was not sent");
                }
            }
            Effect::Connect { node, addresses } => network.connect(node, addresses),
            Effect::Silent { node, addresses } => network.renew_if_silent(node, addresses),
            Effect::Disconnect { node, reason } => network.disconnect(node, &reason),
            Effect::Announce { me, known, fenced } => {
                network.announce(Announcement { me, known, fenced });
            }
            _ => {}
        }
    }

    /// Puts the state that arrived beside the order that needs it. `None` if the order ends here.
    fn order(&mut self, order: ChildOrder) -> Option<Order> {
        let running = self.running.as_mut()?;
        let mut parcel: Option<Parcel> = None;
        match &order {
            ChildOrder::Build { spec, epoch, with_state: true, .. } => {
                let key = (spec.id().clone(), *epoch);
                parcel = running.arrivals.take(&key).map(|arrived| arrived.parcel);
            }
            ChildOrder::Discard { child, epoch } => {
                running.arrivals.take(&(child.clone(), *epoch));
            }
            ChildOrder::Merge { child, epoch } => {
                // Kept until it is merged: it may have to be parked.
                let key = (child.clone(), *epoch);
                parcel = running.arrivals.find(&key).map(|arrived| arrived.parcel.clone());
            }
            ChildOrder::Apply { key, from, .. } => {
                let state = match *from == running.engine.me() {
                    true => {
                        running.parked.find(key).map(|(info, bytes)| (info.clone(), bytes.clone()))
                    }
                    false => running.arrivals.take_copy(key.clone(), *from),
                };
                parcel = state.map(|(info, bytes)| Parcel {
                    state_version: info.state_version,
                    lanes: Vec::new(),
                    bytes,
                });
            }
            ChildOrder::Park { key, kind, reason } => {
                let event = running.park(key.clone(), kind.clone(), reason.clone());
                running.engine.handle(self.hub.shared().doors.uptime.now(), event);
                return None;
            }
            _ => {}
        }
        Some(Order { order, parcel })
    }
}

/// The arbiter on which a child runs, always the same on one node.
pub(crate) fn worker_of(child: &ChildId, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or(1).max(1);
    usize::try_from(xxh3_64(child.as_str().as_bytes()) % count).unwrap_or(0)
}

fn child_of(order: &ChildOrder) -> &ChildId {
    match order {
        ChildOrder::Start { spec, .. } | ChildOrder::Build { spec, .. } => spec.id(),
        ChildOrder::Freeze { child, .. }
        | ChildOrder::Thaw { child, .. }
        | ChildOrder::Wait { child, .. }
        | ChildOrder::GiveUp { child, .. }
        | ChildOrder::SendState { child, .. }
        | ChildOrder::Discard { child, .. }
        | ChildOrder::Open { child, .. }
        | ChildOrder::MovedAway { child, .. }
        | ChildOrder::End { child }
        | ChildOrder::Stop { child, .. }
        | ChildOrder::SendDiverged { child, .. }
        | ChildOrder::Rest { child, .. }
        | ChildOrder::Merge { child, .. } => child,
        ChildOrder::Park { key, .. }
        | ChildOrder::ParkBuilt { key, .. }
        | ChildOrder::ParkFrozen { key, .. }
        | ChildOrder::Apply { key, .. } => &key.child,
    }
}
