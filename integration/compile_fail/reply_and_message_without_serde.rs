use actix::prelude::*;
use actix_hub::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(MessageResponse)]
struct Total(u64);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Total")]
struct Read;

impl HubMessage for Read {
    const NAME: &'static str = "read";
}

#[derive(Message)]
#[rtype(result = "()")]
struct Close;

impl HubMessage for Close {
    const NAME: &'static str = "close";
}

fn main() {}
