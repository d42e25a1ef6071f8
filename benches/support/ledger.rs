//! Children that count numbered updates, and what becomes of each update in the end.
//!
//! A client numbers its updates of each child. The child keeps which numbers it has handled, the
//! client keeps which were acknowledged ([`Written`]); [`check`] compares the two.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use actix::prelude::*;
use actix_hub::prelude::*;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

/// Checks that are asked at a time.
const CHECKS: usize = 64;

/// What one child knows of one client.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    last: u64,
    /// Numbers below `last` that never came: they failed.
    missing: BTreeSet<u64>,
    count: u64,
    duplicated: u64,
    reordered: u64,
}

#[derive(Default, Serialize, Deserialize)]
pub struct Counter {
    seen: BTreeMap<u32, Seen>,
    #[serde(with = "serde_bytes")]
    ballast: Vec<u8>,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

/// Gives the child's state this many more bytes.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct Fill(pub u64);

/// One numbered update of one client; the numbers begin with 1.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
pub struct Add {
    pub client: u32,
    pub number: u64,
}

/// Asks what the child knows of a client.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "SeenReply")]
pub struct Report {
    pub client: u32,
}

#[derive(Serialize, Deserialize, MessageResponse)]
pub struct SeenReply(Seen);

/// Its handler never ends.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct Never;

impl HubMessage for Never {
    const NAME: &'static str = "never";
}
impl HubMessage for Fill {
    const NAME: &'static str = "fill";
}
impl HubMessage for Add {
    const NAME: &'static str = "add";
}
impl HubMessage for Report {
    const NAME: &'static str = "report";
}

impl Handler<Fill> for Counter {
    type Result = ();
    fn handle(&mut self, Fill(bytes): Fill, _: &mut Self::Context) {
        self.ballast = vec![0x5a; bytes as usize];
    }
}

impl Handler<Add> for Counter {
    type Result = u64;
    fn handle(&mut self, Add { client, number }: Add, _: &mut Self::Context) -> u64 {
        let seen = self.seen.entry(client).or_default();
        if number > seen.last {
            seen.missing.extend(seen.last + 1..number);
            seen.last = number;
        } else if seen.missing.remove(&number) {
            seen.reordered += 1;
        } else {
            seen.duplicated += 1;
        }
        seen.count += 1;
        seen.count
    }
}

impl Handler<Report> for Counter {
    type Result = SeenReply;
    fn handle(&mut self, Report { client }: Report, _: &mut Self::Context) -> SeenReply {
        SeenReply(self.seen.get(&client).cloned().unwrap_or_default())
    }
}

impl Handler<Never> for Counter {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, _: Never, _: &mut Self::Context) -> Self::Result {
        Box::pin(std::future::pending())
    }
}

impl Counter {
    /// `unless`: the node that cannot make it.
    fn make(unless: Option<String>, child: &ChildContext<Self>) -> Result<Self, StartFailure> {
        match child.hub().node_name().as_str() {
            name if unless.as_deref() == Some(name) => {
                Err(StartFailure::new("what it needs is not on this node"))
            }
            _ => Ok(Self::default()),
        }
    }
}

hot_swap!(
    Counter,
    kind = "counter",
    messages = [Fill, Add, Report, Never],
    args = Option<String>,
    make = Counter::make,
);

/// What one client did to one child.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Written {
    /// The highest number that was sent.
    pub last: u64,
    /// Numbers that were not acknowledged.
    pub unacked: BTreeSet<u64>,
}

impl Written {
    /// The number of the next update.
    pub fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// What the final states say of a client's updates.
#[derive(Default, Serialize, Deserialize)]
pub struct Checked {
    /// Acknowledged updates that are missing.
    pub lost: u64,
    /// Those of each child that lost any.
    pub lost_by_child: BTreeMap<String, u64>,
    /// Updates that were handled more than once.
    pub duplicated: u64,
    /// Updates that were handled after a later one of the same client.
    pub reordered: u64,
    /// Updates that were handled.
    pub counted: u64,
    /// Children that did not answer.
    pub silent: u64,
}

impl Checked {
    /// Adds what another check found.
    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        for (child, lost) in other.lost_by_child {
            *self.lost_by_child.entry(child).or_default() += lost;
        }
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.counted += other.counted;
        self.silent += other.silent;
    }
}

/// Asks each child what it has handled of this client's updates; `written` is by the same places as
/// `refs`. A child that does not answer is asked `tries` times, `wait` long each time.
pub async fn check(
    client: u32,
    refs: &[ChildRef<Counter>],
    written: &[Written],
    tries: u32,
    wait: Duration,
) -> Checked {
    let mut checked = Checked::default();
    for at in (0..refs.len()).step_by(CHECKS) {
        let chunk = at..(at + CHECKS).min(refs.len());
        let asks = chunk.map(|n| async move {
            for _ in 0..tries {
                if let Ok(SeenReply(seen)) = refs[n].send(Report { client }).timeout(wait).await {
                    return (n, Some(seen));
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            (n, None)
        });
        for (n, seen) in join_all(asks).await {
            let Some(seen) = seen else {
                checked.silent += 1;
                continue;
            };
            let handled = |number: &u64| *number <= seen.last && !seen.missing.contains(number);
            let lost = (1..=written[n].last)
                .filter(|number| !written[n].unacked.contains(number) && !handled(number))
                .count() as u64;
            if lost > 0 {
                checked.lost += lost;
                *checked.lost_by_child.entry(refs[n].id().to_string()).or_default() += lost;
            }
            checked.duplicated += seen.duplicated;
            checked.reordered += seen.reordered;
            checked.counted += seen.count;
        }
    }
    checked
}
