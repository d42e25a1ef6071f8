//! What can be set, and the limits within which it may be set.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{child::RestartPauses, human};

/// A setting outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting {field} is {value}, allowed is {allowed}")]
#[non_exhaustive]
pub struct InvalidSetting {
    /// The field, as it is spelt in [`Settings`].
    pub field: &'static str,
    /// The value that was given.
    pub value: String,
    /// The range that is allowed.
    pub allowed: &'static str,
}

/// How a child goes from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Migration {
    /// The successor gets the state; see [`HotSwapOptions`]. The default.
    HotSwap(HotSwapOptions),
    /// The child is stopped and then started from its arguments on the other node. Its state is
    /// lost by design; messages sent meanwhile wait and are handled by the fresh one.
    ColdSwap,
}

impl Default for Migration {
    fn default() -> Self {
        Self::HotSwap(HotSwapOptions::default())
    }
}

/// How a [`Migration::HotSwap`] goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HotSwapOptions {
    /// How long the old actor may take to finish the handlers it has started before the move is
    /// given up for now. Default 5 s: longer than any handler should take.
    #[serde(with = "human")]
    pub retention: Duration,
    /// Whether the state goes along. `false`: a fresh successor starts first, then the old one
    /// stops. Default `true`.
    pub handover: bool,
    /// How long the state may take to arrive, besides the time for its size (one second for each
    /// 8 MiB). Default 3 s.
    #[serde(with = "human")]
    pub handover_data_wait: Duration,
    /// How long a whole move may take, besides the time for its size, before it is given up.
    /// Default 10 s.
    #[serde(with = "human")]
    pub child_migration_timeout: Duration,
}

impl Default for HotSwapOptions {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(5),
            handover: true,
            handover_data_wait: Duration::from_secs(3),
            child_migration_timeout: Duration::from_secs(10),
        }
    }
}

/// Everything that can be set about a node but its names, kinds and addresses.
///
/// Checked once, when the hub starts. Start from [`Settings::default`] or a preset and change
/// what you need. With serde, times are texts with a unit (`"5s"`, `"250ms"`); what is left out has its
/// default, and what is not known is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How children move. Default [`Migration::HotSwap`] with handover.
    pub migration: Migration,
    /// How often a node says that it lives. Default 1 s; 50 ms to 60 s. With more than 16 others it says so
    /// to 10 of them each time: to 6 always, to the others in turns, each of which knows when its own comes.
    /// A node that falls silent is then down after two suspicion windows and not after one.
    #[serde(with = "human")]
    pub heartbeat: Duration,
    /// After how many heartbeats of silence a node is suspected. Default 3; 2 to 100.
    pub suspect_after: u32,
    /// This node's share of the children relative to the others. Default 1; 0 takes none; at
    /// most 1,000.
    pub weight: u32,
    /// Messages one child's queue holds before `do_send` and `try_send` are told `Busy`.
    /// Default 1,024; 1 to 1,048,576.
    pub mailbox: usize,
    /// `send`s that may wait for a place in a full queue before `send` is told `Busy` too.
    /// Default 65,536; 0 to 1,048,576.
    pub waiting: usize,
    /// Messages of one node to one remote child that may be on their way, sent and not yet
    /// accepted. Default 1,024; 1 to 65,536.
    pub window_messages: usize,
    /// Bytes of one node to one remote child that may be on their way. One message is always let
    /// through. Default 4 MiB; 64 KiB to 1 GiB.
    pub window_bytes: usize,
    /// Bytes of published messages that wait, for each other node that they go to, for each node that they
    /// come from, and for each local recipient. One message is always let through; what comes when it is
    /// full is dropped for that one alone, and counted. Default 4 MiB: as much as one window to a child;
    /// 64 KiB to 1 GiB.
    pub topic_bytes: usize,
    /// How long a `send` waits for its reply unless it says otherwise. Default 5 s; 1 ms to 1 day.
    #[serde(with = "human")]
    pub send_timeout: Duration,
    /// The largest message or reply in bytes of CBOR. Default 1 MiB; 1 KiB to 16 MiB.
    pub message_limit: usize,
    /// The largest state in bytes of CBOR that a move carries. Default 128 MiB; 1 KiB to 2 GiB.
    pub state_limit: usize,
    /// Whether each state, message and reply is read back after it was encoded, also messages and
    /// replies of children on this node, which are not encoded otherwise. So tests on one node find
    /// what would be lost by a move. Default: on in debug builds, off in release builds.
    ///
    /// Found is what cannot be decoded, and whatever comes back as something else: an element, a
    /// field, a text, a variant, `null`. Not found are other numbers in the place of numbers, another
    /// order of elements, and what is not encoded at all (`#[serde(skip)]`). A message is refused with
    /// [`NotHandled::NotReadBack`](crate::NotHandled::NotReadBack), a reply is lost
    /// ([`MaybeHandled::ReplyLost`](crate::MaybeHandled::ReplyLost)), and a state does not move. It
    /// costs some five times the encoding.
    pub verify_encoding: bool,
    /// Moves of one node that may be under way. Default 512; 1 to 65,536.
    pub moves: usize,
    /// Bytes of state of one node that may be under way; one state is always let through.
    /// Default 256 MiB; 1 MiB to 16 GiB.
    pub move_bytes: usize,
    /// How often a move that failed for a reason that may pass (`retention` or its deadline over,
    /// a broken transfer) is tried again, each time after 200 ms, before the child is left where it
    /// is until the view changes. Default 2; 0 to 100.
    pub move_retries: u32,
    /// How long a child's `from_args` and `started` may take. Default 10 s; 10 ms to 1 h.
    #[serde(with = "human")]
    pub start_timeout: Duration,
    /// How long a child waits for its next start, unless its spec says otherwise. Default: 100 ms,
    /// doubling to 30 s, from the first again after a minute of health.
    #[serde(with = "WrittenPauses")]
    pub restart_pauses: RestartPauses,
    /// How long a node that could not start a child, or make its successor, is passed over for that
    /// child where others may take it. Twice as long each further time, up to 32 times; until the
    /// view changes at the latest. Default 10 s; 100 ms to 1 h.
    #[serde(with = "human")]
    pub pass_over: Duration,
    /// How long `start_children`, `stop_children` and `migrate` wait for their outcome.
    /// Default 30 s; 10 ms to 1 h.
    #[serde(with = "human")]
    pub request_timeout: Duration,
    /// How long `leave` may take. Default 60 s; 100 ms to 1 day.
    #[serde(with = "human")]
    pub leave_timeout: Duration,
    /// How long `shutdown` may take before it forces what is left. Default 25 s: Kubernetes kills a
    /// process 30 s after it has told it to end. 100 ms to 1 day.
    #[serde(with = "human")]
    pub shutdown_deadline: Duration,
    /// How often nodes compare what they know of each other's children. Default 5 s; 100 ms to 1 h.
    #[serde(with = "human")]
    pub digest: Duration,
    /// How long a removal is remembered while some known node has not heard of it. Default 1 h;
    /// 1 s to 30 days. A node that is back later asks what was stopped meanwhile: the states of such
    /// children are parked.
    #[serde(with = "human")]
    pub forget_after: Duration,
    /// How long a node that is one of its own seeds waits for the others before it founds a cluster;
    /// it does so at once when all have been tried. On a LAN, how long it looks around.
    /// Default 5 s; 0 to 1 day.
    #[serde(with = "human")]
    pub found_after: Duration,
    /// How long a node that wants to come in may not be heard by all, and two members may be without
    /// a link that works, before that is told. Default 15 s; 100 ms to 1 h.
    #[serde(with = "human")]
    pub join_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            migration: Migration::default(),
            heartbeat: Duration::from_secs(1),
            suspect_after: 3,
            weight: 1,
            mailbox: 1_024,
            waiting: 65_536,
            window_messages: 1_024,
            window_bytes: 4 << 20,
            topic_bytes: 4 << 20,
            send_timeout: Duration::from_secs(5),
            message_limit: 1 << 20,
            state_limit: 128 << 20,
            verify_encoding: cfg!(debug_assertions),
            moves: 512,
            move_bytes: 256 << 20,
            move_retries: 2,
            start_timeout: Duration::from_secs(10),
            restart_pauses: RestartPauses::default(),
            pass_over: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            leave_timeout: Duration::from_secs(60),
            shutdown_deadline: Duration::from_secs(25),
            digest: Duration::from_secs(5),
            forget_after: Duration::from_secs(3_600),
            found_after: Duration::from_secs(5),
            join_timeout: Duration::from_secs(15),
        }
    }
}

impl Settings {
    /// For nodes of one machine or one LAN: the defaults.
    #[must_use]
    pub fn lan() -> Self {
        Self::default()
    }

    /// For nodes far from each other: heartbeats every 2 s, suspicion after 5 of them, moves may
    /// take 30 s.
    #[must_use]
    pub fn wan() -> Self {
        Self {
            heartbeat: Duration::from_secs(2),
            suspect_after: 5,
            migration: Migration::HotSwap(HotSwapOptions {
                handover_data_wait: Duration::from_secs(10),
                child_migration_timeout: Duration::from_secs(30),
                ..HotSwapOptions::default()
            }),
            ..Self::default()
        }
    }

    /// For tests in one process: heartbeats every 100 ms, digests every 500 ms, short waits.
    #[must_use]
    pub fn local() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            suspect_after: 5,
            digest: Duration::from_millis(500),
            found_after: Duration::from_millis(500),
            join_timeout: Duration::from_secs(2),
            ..Self::default()
        }
    }

    /// How long a node may be silent before it is suspected.
    #[must_use]
    pub fn suspicion_window(&self) -> Duration {
        self.heartbeat * self.suspect_after
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`InvalidSetting`] names the first field that is out of its range.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        const MS: Duration = Duration::from_millis(1);
        const DAY: Duration = Duration::from_secs(86_400);
        const HOUR: Duration = Duration::from_secs(3_600);
        let time = |field, value: Duration, low: Duration, high: Duration, allowed| {
            if value < low || value > high {
                return Err(InvalidSetting { field, value: format!("{value:?}"), allowed });
            }
            Ok(())
        };
        let count = |field, value: usize, low: usize, high: usize, allowed| {
            if value < low || value > high {
                return Err(InvalidSetting { field, value: value.to_string(), allowed });
            }
            Ok(())
        };
        time("heartbeat", self.heartbeat, 50 * MS, 60_000 * MS, "50 ms to 60 s")?;
        count("suspect_after", self.suspect_after as usize, 2, 100, "2 to 100")?;
        count("weight", self.weight as usize, 0, 1_000, "0 to 1,000")?;
        count("mailbox", self.mailbox, 1, 1 << 20, "1 to 1,048,576")?;
        count("waiting", self.waiting, 0, 1 << 20, "0 to 1,048,576")?;
        count("window_messages", self.window_messages, 1, 65_536, "1 to 65,536")?;
        count("window_bytes", self.window_bytes, 64 << 10, 1 << 30, "64 KiB to 1 GiB")?;
        count("topic_bytes", self.topic_bytes, 64 << 10, 1 << 30, "64 KiB to 1 GiB")?;
        time("send_timeout", self.send_timeout, MS, DAY, "1 ms to 1 day")?;
        count("message_limit", self.message_limit, 1 << 10, 16 << 20, "1 KiB to 16 MiB")?;
        count("state_limit", self.state_limit, 1 << 10, 2 << 30, "1 KiB to 2 GiB")?;
        count("moves", self.moves, 1, 65_536, "1 to 65,536")?;
        count("move_bytes", self.move_bytes, 1 << 20, 16 << 30, "1 MiB to 16 GiB")?;
        count("move_retries", self.move_retries as usize, 0, 100, "0 to 100")?;
        time("start_timeout", self.start_timeout, 10 * MS, HOUR, "10 ms to 1 h")?;
        let RestartPauses { first, longest, healthy_after } = self.restart_pauses;
        time("restart_pauses.first", first, MS, HOUR, "1 ms to 1 h")?;
        time("restart_pauses.longest", longest, first, DAY, "restart_pauses.first to 1 day")?;
        let healthy = "restart_pauses.healthy_after";
        time(healthy, healthy_after, Duration::ZERO, DAY, "0 to 1 day")?;
        time("pass_over", self.pass_over, 100 * MS, HOUR, "100 ms to 1 h")?;
        time("request_timeout", self.request_timeout, 10 * MS, HOUR, "10 ms to 1 h")?;
        time("leave_timeout", self.leave_timeout, 100 * MS, DAY, "100 ms to 1 day")?;
        time("shutdown_deadline", self.shutdown_deadline, 100 * MS, DAY, "100 ms to 1 day")?;
        time("digest", self.digest, 100 * MS, HOUR, "100 ms to 1 h")?;
        time("forget_after", self.forget_after, 1_000 * MS, 30 * DAY, "1 s to 30 days")?;
        time("found_after", self.found_after, Duration::ZERO, DAY, "0 to 1 day")?;
        time("join_timeout", self.join_timeout, 100 * MS, HOUR, "100 ms to 1 h")?;
        if let Migration::HotSwap(options) = &self.migration {
            time("migration.retention", options.retention, MS, HOUR, "1 ms to 1 h")?;
            time(
                "migration.handover_data_wait",
                options.handover_data_wait,
                MS,
                HOUR,
                "1 ms to 1 h",
            )?;
            time(
                "migration.child_migration_timeout",
                options.child_migration_timeout,
                MS,
                HOUR,
                "1 ms to 1 h",
            )?;
        }
        Ok(())
    }
}

/// [`RestartPauses`] as people write them. On the wire they are something else.
#[derive(Serialize, Deserialize)]
#[serde(remote = "RestartPauses", default, deny_unknown_fields)]
struct WrittenPauses {
    #[serde(with = "human")]
    first: Duration,
    #[serde(with = "human")]
    longest: Duration,
    #[serde(with = "human")]
    healthy_after: Duration,
}

impl Default for WrittenPauses {
    fn default() -> Self {
        let RestartPauses { first, longest, healthy_after } = RestartPauses::default();
        Self { first, longest, healthy_after }
    }
}

/// How an operation on many children goes on after one of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OnFailure {
    /// The others are still done. The default.
    #[default]
    Continue,
    /// Those already started are stopped again.
    Rollback,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_within_their_ranges() {
        for settings in [Settings::default(), Settings::lan(), Settings::wan(), Settings::local()] {
            assert_eq!(settings.check(), Ok(()));
        }
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_range() {
        let settings = Settings { mailbox: 0, ..Settings::default() };
        let error = settings.check().expect_err("no place for a message");
        assert_eq!(error.to_string(), "setting mailbox is 0, allowed is 1 to 1,048,576");
    }
}
