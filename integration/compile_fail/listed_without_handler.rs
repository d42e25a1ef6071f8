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

hot_swap!(Counter, kind = "counter", messages = [Add]);

fn main() {}
