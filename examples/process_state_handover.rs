//! The guide in code: two processes, and a value that moves from one to the other.
//!
//! `cargo run --example process_state_handover`
//!
//! The first node starts four counters and sets a value in each. Then a second process joins.
//! Counters that now belong there move with their state: their old actors are frozen, their state
//! travels as CBOR, and successors take over. The values are read from the second process.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Duration,
};

use actix::prelude::*;
use actix_hub::prelude::*;
use serde::{Deserialize, Serialize};

/// An actor whose state is chosen by hand: the value travels, the cache does not.
struct Register {
    value: u64,
    reads_since_start: u64,
}

impl Actor for Register {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Set(u64);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Get;

impl HubMessage for Set {
    const NAME: &'static str = "register.set";
}

impl HubMessage for Get {
    const NAME: &'static str = "register.get";
}

impl Handler<Set> for Register {
    type Result = ();
    fn handle(&mut self, Set(value): Set, _: &mut Self::Context) {
        self.value = value;
    }
}

impl Handler<Get> for Register {
    type Result = u64;
    fn handle(&mut self, _: Get, _: &mut Self::Context) -> u64 {
        self.reads_since_start += 1;
        self.value
    }
}

impl HotSwap for Register {
    const KIND: &'static str = "register";
    /// What a fresh start gets.
    type Args = u64;
    /// What a handover carries.
    type State = u64;

    fn from_args(value: u64, _: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Ok(Self { value, reads_since_start: 0 })
    }

    /// Runs on the old node when every started handler is done; nothing changes the actor after it.
    fn prepare_handover_state(&mut self) -> u64 {
        self.value
    }

    /// Runs on the new node, on the bare value, before the successor starts.
    fn alter_handover_state(&mut self, state: u64) {
        self.value = state;
    }
}

takes!(Register: [Set, Get]);

const CHILDREN: [&str; 4] = ["north", "east", "south", "west"];

async fn node(name: &str, seed: Option<String>) -> Result<Hub, Box<dyn std::error::Error>> {
    let mut builder = HubSystem::builder("guide")
        .node_name(name)
        .child::<Register>()
        .migration(Migration::HotSwap(HotSwapOptions {
            retention: Duration::from_secs(3),
            ..HotSwapOptions::default()
        }))
        .listen("/ip4/127.0.0.1/tcp/0");
    if let Some(seed) = seed {
        builder = builder.seed(seed);
    }
    Ok(builder.start().await?)
}

/// The second process: joins, tells who it is, answers from its own children, and leaves when it
/// is told to.
async fn second(seed: String) -> Result<(), Box<dyn std::error::Error>> {
    let hub = node("second", Some(seed)).await?;
    println!("{}", hub.node_id());
    let (sender, mut lines) = tokio::sync::mpsc::channel::<String>(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(child) = lines.recv().await {
        let register: ChildRef<Register> = hub.child(&child);
        println!("{}", register.send(Get).await?);
    }
    hub.leave().await?;
    Ok(())
}

async fn first() -> Result<(), Box<dyn std::error::Error>> {
    let hub = node("first", None).await?;
    println!("1. The first node listens on {}.", hub.addresses().join(", "));

    let specs = CHILDREN
        .iter()
        .map(|child| ChildSpec::new::<Register>(child, 0))
        .collect::<Result<Vec<_>, _>>()?;
    let report = hub.start_children(specs).await?;
    println!("2. It started {} registers; each holds 0.", report.started());

    for (child, value) in CHILDREN.iter().zip(1..) {
        hub.child::<Register>(child).send(Set(value * 11)).await?;
    }
    println!("3. They were set to 11, 22, 33 and 44.");

    let mut events = hub.events();
    let mut process = Command::new(std::env::current_exe()?)
        .args(["--second", &hub.addresses()[0]])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut answers = BufReader::new(process.stdout.take().ok_or("stdout is a pipe")?).lines();
    let second: NodeId = answers.next().ok_or("the second node tells its id")??.parse()?;
    let joined =
        |event: &HubEvent| matches!(event, HubEvent::NodeJoined { node, .. } if *node == second);
    while !joined(&events.next().await.ok_or("the hub runs")?) {}
    println!("4. A second process has joined: {}.", second.short());

    // Which registers belong where is decided by hashing; one of them is sent by hand, so that
    // there is something to see whatever the ids are.
    let epoch = hub.migrate("north", second).await?;
    println!("5. \"north\" was handed over; its successor runs at epoch {epoch}.");
    tokio::time::timeout(Duration::from_secs(10), async {
        while let Some(event) = events.next().await {
            match event {
                HubEvent::HandoverStarted { child, .. } => {
                    println!(
                        "   {child}: its gate is closed, its handlers finish, its state is taken"
                    );
                }
                HubEvent::HandedOver { child, bytes, took, .. } => {
                    println!(
                        "   {child}: {bytes} bytes of state arrived, the successor runs ({took:?})"
                    );
                    if child.as_str() == "north" {
                        break;
                    }
                }
                _ => {}
            }
        }
    })
    .await?;

    let mut input = process.stdin.take().ok_or("stdin is a pipe")?;
    for (child, value) in CHILDREN.iter().zip(1..) {
        writeln!(input, "{child}")?;
        let read: u64 = answers.next().ok_or("the second node answers")??.parse()?;
        let at = hub.lookup(child).await?.ok_or("the register exists")?.node;
        let place = if at == second { "second" } else { "first" };
        println!("6. \"{child}\" runs on the {place} node; the second process reads {read}.");
        assert_eq!(read, value * 11, "a set value survives the move");
    }

    drop(input);
    if !process.wait()?.success() {
        return Err("the second process failed".into());
    }
    for (child, value) in CHILDREN.iter().zip(1..) {
        assert_eq!(hub.child::<Register>(child).send(Get).await?, value * 11);
    }
    println!("7. The second node has left; its registers came back, values and all.");
    hub.stop().await;
    Ok(())
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [] => first().await,
        [flag, seed] if flag == "--second" => second(seed.clone()).await,
        _ => Err("usage: process_state_handover (without arguments)".into()),
    }
}
