//! Children that a node which is emptying still has, and why: for whoever waits for it.

use super::{instance::Instance, merges::Merges, moving::Move, phase::Phase, table::Table};
use crate::{
    engine::{
        core::Core,
        handover::{SourceStage, TargetStage},
    },
    model::{
        id::{ChildId, NodeId},
        report::{ChildLeft, MOST_LEFT},
        words::cut,
    },
};

/// Bytes of each reason.
const REASON: usize = 256;

/// What is left on a node, with the reasons for the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) children: usize,
    pub(crate) first: Vec<ChildLeft>,
}

/// What is left on this node, and what tells why.
pub(super) struct Remaining<'a> {
    pub(super) table: &'a Table,
    pub(super) merges: &'a Merges,
    pub(super) core: &'a Core,
    /// What keeps this node from acting.
    pub(super) waits_for: Option<&'a str>,
}

impl Remaining<'_> {
    /// What is left here: actors that are to go or have gone and are held, and successors in the
    /// making.
    pub(super) fn left(&self) -> Left {
        let actors = self.table.instances().filter(|(_, instance)| instance.has_actor());
        let actors = actors.map(|(child, instance)| (child, Some(instance)));
        let successors = self.table.successors().map(|(child, _)| (child, None));
        let mut left = Left::default();
        for (child, instance) in actors.chain(successors) {
            left.children += 1;
            if left.first.len() < MOST_LEFT {
                let reason = match instance {
                    Some(instance) => self.why_left(child, instance),
                    None => self.why_taken(child),
                };
                left.first.push(ChildLeft { child: child.clone(), reason: cut(reason, REASON) });
            }
        }
        left
    }

    /// Why a child is still on this node.
    pub(super) fn why_left(&self, child: &ChildId, instance: &Instance) -> String {
        let core = self.core;
        let before = || match instance.attempts().trouble() {
            Some(trouble) => format!("; before, {}: {}", name(core, trouble.to), trouble.reason),
            None => String::new(),
        };
        match instance.phase() {
            Phase::Starting { .. } => "it is being started".to_owned(),
            Phase::Stopping => "it is being stopped".to_owned(),
            Phase::Retiring { .. } => {
                let what = "it was stopped while this node was away";
                match instance.immovable() {
                    Some(why) => format!("{what}, and its state cannot be parked: {why}"),
                    None => format!("{what}, and its state is being parked"),
                }
            }
            Phase::Yielding { to, .. } => {
                let to = name(core, to.run.node);
                match instance.immovable() {
                    Some(why) => {
                        format!(
                            "it gives way to its owner on {to}, and cannot hand its state over: {why}"
                        )
                    }
                    None => format!("it gives way to its owner on {to}"),
                }
            }
            Phase::Moving(moving) => format!("{}{}", why_moving(core, moving), before()),
            Phase::Running | Phase::Waiting(_) => self.why_not_moving(child, instance),
        }
    }

    fn why_not_moving(&self, child: &ChildId, instance: &Instance) -> String {
        let core = self.core;
        if core.promises.binds(child) {
            return "a roll call is under way".to_owned();
        }
        if self.merges.is_merging(child) {
            return "the state of another owner is being merged into it, or parked".to_owned();
        }
        if !instance.has_successor(core) {
            return why_stranded(core, instance);
        }
        if let Some(reason) = self.waits_for {
            return format!("the cluster {reason}");
        }
        let node = instance.belongs(core);
        let run = node.and_then(|node| core.view.member(node)).map(|member| member.run());
        match (instance.attempts().trouble(), run) {
            (_, Some(run)) if run != core.me && !core.reaches(run) => {
                format!("no link leads to {}", name(core, run.node))
            }
            (Some(trouble), _) => {
                format!("{} did not take it: {}", name(core, trouble.to), trouble.reason)
            }
            (None, _) => "it was not its turn yet".to_owned(),
        }
    }

    /// Why a successor in the making is still here.
    fn why_taken(&self, child: &ChildId) -> String {
        let Some(successor) = self.table.successor(child) else { return String::new() };
        let from = name(self.core, successor.from().node);
        match successor.stage() {
            TargetStage::Opening => format!("it came from {from} and is being started"),
            TargetStage::Kept | TargetStage::Rebuilding => {
                format!("it came from {from}, could not start, and is tried again")
            }
            _ => format!("{from} has not said whether this node has it"),
        }
    }
}

fn why_moving(core: &Core, moving: &Move) -> String {
    let to = name(core, moving.to().node);
    let what = match moving.stage() {
        SourceStage::Offered => format!("{to} has not said whether it takes it"),
        SourceStage::Freezing => "a handler that it has started has not ended".to_owned(),
        SourceStage::Frozen => "its state waits for room to be sent".to_owned(),
        SourceStage::Sent => format!("{to} has not said that it has its state"),
        SourceStage::Committed => format!("{to} owns it and has not said that it runs"),
    };
    let took = core.now.saturating_duration_since(moving.in_stage_since());
    format!("{what}, for {:.1} s", took.as_secs_f64())
}

/// Why no other node takes a child.
fn why_stranded(core: &Core, instance: &Instance) -> String {
    let me = core.me.node;
    let kind = instance.spec().kind();
    if !core.placeable.iter().any(|member| member.id != me) {
        return "no other node takes children".to_owned();
    }
    if !core.takers(kind).iter().any(|member| member.id != me) {
        return format!("no other node that takes children has registered the kind {kind}");
    }
    match instance.attempts().trouble() {
        Some(trouble) => {
            let node = name(core, trouble.to);
            format!("no other node takes it; {node}, for one: {}", trouble.reason)
        }
        None => "no other node takes it".to_owned(),
    }
}

/// A node's name for people, or the end of its id.
fn name(core: &Core, node: NodeId) -> String {
    core.view.member(node).map_or_else(|| node.short(), |member| member.name.to_string())
}
