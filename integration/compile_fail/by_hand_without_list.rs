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
#[rtype(result = "()")]
struct Add(u64);

impl HubMessage for Add {
    const NAME: &'static str = "add";
}

impl Handler<Add> for Counter {
    type Result = ();
    fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) {
        self.value += n;
    }
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Read;

impl HubMessage for Read {
    const NAME: &'static str = "read";
}

impl Handler<Read> for Counter {
    type Result = u64;
    fn handle(&mut self, _: Read, _: &mut Context<Self>) -> u64 {
        self.value
    }
}

impl HotSwap for Counter {
    const KIND: &'static str = "counter";
    type Args = ();
    type State = u64;

    fn from_args((): (), _: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Ok(Self::default())
    }
    fn prepare_handover_state(&mut self) -> u64 {
        self.value
    }
    fn alter_handover_state(&mut self, state: u64) {
        self.value = state;
    }
}

async fn read(counter: ChildRef<Counter>) {
    let _ = counter.send(Read).await;
}

fn main() {
    let _ = HubSystem::builder("test").child::<Counter>();
    let _ = read;
}
