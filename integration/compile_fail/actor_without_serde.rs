use actix::prelude::*;
use actix_hub::prelude::*;

#[derive(Default)]
struct Counter {
    value: u64,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

hot_swap!(Counter, kind = "counter", messages = []);

fn main() {}
