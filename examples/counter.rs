//! Thirty lines of counter on two nodes of one process.
//!
//! The second node joins, and the counter goes there with its value if it belongs there. That is a move:
//! moves carry the state. A counter that panics, or stops itself, is started again and counts from zero, as
//! the default `RestartRule::Permanent` says; so does one whose node crashed.
//!
//! `cargo run --example counter`

use actix::prelude::*;
use actix_hub::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Counter {
    value: u64,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Add(u64);

impl HubMessage for Add {
    const NAME: &'static str = "counter.add";
}

impl Handler<Add> for Counter {
    type Result = u64;
    fn handle(&mut self, Add(n): Add, _: &mut Self::Context) -> u64 {
        self.value += n;
        self.value
    }
}

// The counter's own serde form is the state that travels.
hot_swap!(Counter, kind = "counter", messages = [Add]);

async fn node(name: &str, seed: Option<String>) -> Result<Hub, Box<dyn std::error::Error>> {
    let mut builder = HubSystem::builder("counters")
        .node_name(name)
        .child::<Counter>()
        .listen("/ip4/127.0.0.1/tcp/0");
    if let Some(seed) = seed {
        builder = builder.seed(seed);
    }
    Ok(builder.start().await?)
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let first = node("first", None).await?;
    first.start_child(ChildSpec::new::<Counter>("counter-1", ())?).await?;
    let counter: ChildRef<Counter> = first.child("counter-1");
    println!("first alone: the counter says {}", counter.send(Add(2)).await?);

    let mut events = first.events();
    let second = node("second", first.addresses().into_iter().next()).await?;
    while let Some(event) = events.next().await {
        if let HubEvent::NodeJoined { name, .. } = event {
            println!("{name} has joined");
            break;
        }
    }

    // The reference stays the same wherever the counter is.
    first.migrate("counter-1", second.node_id()).await?;
    println!("moved to second: the counter says {}", counter.send(Add(1)).await?);

    second.leave().await?;
    let value = counter.send(Add(1)).await?;
    println!("second has left: the counter says {value}");
    assert_eq!(value, 4, "nothing was lost on the way");
    first.stop().await;
    Ok(())
}
