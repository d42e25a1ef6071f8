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

struct First(u64);
struct Total(u64);

impl HotSwap for Counter {
    const KIND: &'static str = "counter";
    type Args = First;
    type State = Total;

    fn from_args(First(value): First, _: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Ok(Self { value })
    }
    fn prepare_handover_state(&mut self) -> Total {
        Total(self.value)
    }
    fn alter_handover_state(&mut self, Total(value): Total) {
        self.value = value;
    }
}

fn main() {}
