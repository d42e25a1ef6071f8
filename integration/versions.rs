//! Nodes with different versions of one actor in one cluster.

use actix::prelude::*;
use actix_hub::{StateVersionError, prelude::*};
use serde::{Deserialize, Serialize};

use crate::support::*;

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "String")]
struct Name;

impl HubMessage for Name {
    const NAME: &'static str = "Name";
}

/// As it was deployed first.
struct Old(String);

impl Actor for Old {
    type Context = Context<Self>;
}

impl Handler<Name> for Old {
    type Result = String;
    fn handle(&mut self, _: Name, _: &mut Self::Context) -> String {
        format!("old {}", self.0)
    }
}

impl HotSwap for Old {
    const KIND: &'static str = "person";
    type Args = String;
    type State = String;

    fn from_args(name: String, _: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Ok(Self(name))
    }
    fn prepare_handover_state(&mut self) -> String {
        self.0.clone()
    }
    fn alter_handover_state(&mut self, state: String) {
        self.0 = state;
    }
}

/// As it is deployed next: it can read what the old one writes.
struct New {
    name: String,
    moves: u32,
}

#[derive(Serialize, Deserialize)]
struct NewState {
    name: String,
    moves: u32,
}

impl Actor for New {
    type Context = Context<Self>;
}

impl Handler<Name> for New {
    type Result = String;
    fn handle(&mut self, _: Name, _: &mut Self::Context) -> String {
        format!("new {} {}", self.name, self.moves)
    }
}

impl HotSwap for New {
    const KIND: &'static str = "person";
    const STATE_VERSION: u32 = 2;
    const OLDEST_STATE_VERSION: u32 = 1;
    type Args = String;
    type State = NewState;

    fn from_args(name: String, _: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Ok(Self { name, moves: 0 })
    }
    fn prepare_handover_state(&mut self) -> NewState {
        NewState { name: self.name.clone(), moves: self.moves }
    }
    fn alter_handover_state(&mut self, state: NewState) {
        self.name = state.name;
        self.moves = state.moves + 1;
    }
    fn upgrade_state(from: u32, cbor: &[u8]) -> Result<NewState, StateVersionError> {
        assert_eq!(from, 1);
        let name =
            ciborium::from_reader(cbor).map_err(|e| StateVersionError::new(e.to_string()))?;
        Ok(NewState { name, moves: 0 })
    }
}

#[test]
fn a_state_is_upgraded_on_its_way_to_a_newer_node_and_never_goes_back() {
    run(async {
        let network = MemoryNetwork::new();
        let node =
            |name| HubSystem::builder("test").node_name(name).memory(&network).settings(settings());
        let old = node("old")
            .child_kind::<Old>(|kind| kind.message::<Name>())
            .start()
            .await
            .expect("it starts");
        old.start_child(ChildSpec::new::<Old>("ada", "Ada".to_owned()).expect("valid"))
            .await
            .expect("the child starts");
        let new = node("new")
            .child_kind::<New>(|kind| kind.message::<Name>())
            .seed(&old.addresses()[0])
            .start()
            .await
            .expect("it starts");
        let hubs = vec![old, new];
        together(&hubs).await;
        let ada: ChildRef<Old> = hubs[0].child("ada");
        // It may have moved by itself when the new node came.
        hubs[0].migrate("ada", hubs[1].node_id()).await.expect("the new one reads the old state");
        assert_eq!(ada.send(Name).await, Ok("new Ada 1".to_owned()));

        let mut events = hubs[1].events();
        let error = hubs[1]
            .migrate("ada", hubs[0].node_id())
            .await
            .expect_err("the old one cannot read the new state");
        assert!(error.to_string().contains("state versions 1 to 1"), "{error}");
        event(&mut events, |event| match event {
            HubEvent::HandoverFailed { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
        assert_eq!(ada.send(Name).await, Ok("new Ada 1".to_owned()), "it goes on where it was");
        stop(hubs).await;
    });
}
