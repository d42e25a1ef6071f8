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

fn main() {
    let _ = HubSystem::builder("test").child::<Counter>();
    let _ = HubSystem::builder("test").client_of::<Counter>();
}

async fn start(hub: Hub) {
    let _ = hub.child::<Counter>("counter-1");
}
