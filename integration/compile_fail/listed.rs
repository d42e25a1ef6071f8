// What is listed compiles, also where a type parameter stands for the kind.

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

hot_swap!(Counter, kind = "counter", messages = [Add, Read]);

async fn read<A: Takes<Read>>(child: &ChildRef<A>) -> Result<u64, HubSendError> {
    child.send(Read).await
}

async fn add_and_read(hub: &Hub) -> Result<u64, HubSendError> {
    let counter = hub.child::<Counter>("counter-1");
    counter.do_send(Add(1))?;
    counter.try_send(Add(1))?;
    counter.recipient::<Add>().send(Add(1)).await?;
    read(&counter).await
}

fn main() {
    let _ = HubSystem::builder("test").child::<Counter>().client_of::<Counter>();
    let _ = add_and_read;
}
