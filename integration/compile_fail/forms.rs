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

hot_swap!();
hot_swap!(Counter);
hot_swap!(Counter, messages = [Add], kind = "counter");
hot_swap!(Counter, kind = "counter");
hot_swap!(Counter, kind = "counter", version = 2);
hot_swap!(Counter, kind = "counter", messages = Add);
hot_swap!(Counter, kind = "counter", messages = [Add] version = 2);
hot_swap!(<T> Counter<T>, kind = "counter", messages = [Add]);
hot_swap!(impl<T> Counter<T>, kind = "counter", messages = [Add]);
hot_swap!(Counter, kind = "counter", messages = [Add], state = u64);
hot_swap!(Counter, kind = "counter", messages = [Add], version = 2, version = 3);
hot_swap!(Counter, kind = "counter", messages = [Add], keep = pool);
hot_swap!(Counter, kind = "counter", messages = [Add], blocking = false);
hot_swap!(Counter, kind = "counter", messages = [Add], version: 2);
hot_swap!(Counter, kind = "counter", messages = [Add], "2");
hot_swap!(Counter, kind = "counter", messages = [Add], upgrade = Counter::upgrade);
hot_swap!(Counter, kind = "counter", messages = [Add], oldest = 1);
hot_swap!(Counter, kind = "counter", messages = [Add], args = u64);
takes!();
takes!(Counter);
takes!(Counter: Add, Read);
takes!(impl<T> Counter<T>: [Add]);

fn main() {}
