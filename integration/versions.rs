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

takes!(Old: [Name]);

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

takes!(New: [Name]);

#[test]
fn a_state_is_upgraded_on_its_way_to_a_newer_node_and_never_goes_back() {
    run(async {
        let network = MemoryNetwork::new();
        let node =
            |name| HubSystem::builder("test").node_name(name).memory(&network).settings(settings());
        let old = node("old").child::<Old>().start().await.expect("it starts");
        old.start_child(ChildSpec::new::<Old>("ada", "Ada".to_owned()).expect("valid"))
            .await
            .expect("the child starts");
        let new =
            node("new").child::<New>().seed(&old.addresses()[0]).start().await.expect("it starts");
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

/// Releases of one actor, as `hot_swap!` has them.
mod releases {
    use super::*;

    macro_rules! release {
        ($name:ident) => {
            impl Actor for $name {
                type Context = Context<Self>;
            }

            impl Handler<Name> for $name {
                type Result = String;
                fn handle(&mut self, _: Name, _: &mut Self::Context) -> String {
                    format!("{self:?}")
                }
            }
        };
    }

    #[derive(Debug, Default, Serialize, Deserialize)]
    pub struct First {
        pub nick: String,
    }
    release!(First);
    hot_swap!(
        First,
        kind = "player",
        messages = [Name],
        make = |nick, _| Ok(First { nick }),
        args = String,
    );

    /// A field is new, and nobody has thought of the states that do not have it.
    #[derive(Debug, Default, Serialize, Deserialize)]
    pub struct Careless {
        nick: String,
        score: u32,
    }
    release!(Careless);
    hot_swap!(
        Careless,
        kind = "player",
        messages = [Name],
        args = String,
        make = |nick, _| Ok(Careless { nick, score: 0 }),
    );

    #[derive(Debug, Serialize, Deserialize)]
    pub struct Second {
        nick: String,
        score: u32,
        #[serde(skip)]
        made_by: String,
    }
    release!(Second);
    impl Second {
        fn upgrade(from: u32, cbor: &[u8]) -> Result<Self, StateVersionError> {
            assert_eq!(from, 1);
            let First { nick } = decode_state(cbor)?;
            Ok(Self { nick, score: 7, made_by: String::new() })
        }

        fn make(nick: String, _: &ChildContext<Self>) -> Result<Self, StartFailure> {
            Ok(Self { nick, score: 0, made_by: "make".into() })
        }
    }
    hot_swap!(
        Second,
        kind = "player",
        messages = [Name],
        keep = [made_by],
        upgrade = Second::upgrade,
        version = 2,
        make = Second::make,
        args = String,
    );
}

use releases::{Careless, First, Second};

async fn player<A: AutoKind>(name: &str, network: &MemoryNetwork, seed: Option<&Hub>) -> Hub {
    let mut builder = HubSystem::builder("test")
        .node_name(name)
        .memory(network)
        .settings(settings())
        .child::<A>();
    if let Some(seed) = seed {
        builder = builder.seed(&seed.addresses()[0]);
    }
    builder.start().await.expect("it starts")
}

#[test]
fn a_release_of_hot_swap_reads_the_one_before_and_keeps_what_its_node_made() {
    run(async {
        let network = MemoryNetwork::new();
        let old = player::<First>("old", &network, None).await;
        let spec = ChildSpec::new::<First>("ada", "Ada".to_owned()).expect("valid");
        old.start_child(spec).await.expect("the child starts");
        let ada: ChildRef<First> = old.child("ada");
        assert_eq!(ada.send(Name).await, Ok(r#"First { nick: "Ada" }"#.to_owned()));
        let new = player::<Second>("new", &network, Some(&old)).await;
        let hubs = vec![old, new];
        together(&hubs).await;
        hubs[0].migrate("ada", hubs[1].node_id()).await.expect("the new one reads the old state");
        let told = r#"Second { nick: "Ada", score: 7, made_by: "make" }"#;
        assert_eq!(ada.send(Name).await, Ok(told.to_owned()));
        stop(hubs).await;
    });
}

#[test]
fn a_node_that_cannot_read_a_state_says_why_and_the_child_goes_to_another() {
    run(async {
        let network = MemoryNetwork::new();
        let old = player::<First>("old", &network, None).await;
        let spec = ChildSpec::new::<First>("ada", "Ada".to_owned()).expect("valid");
        old.start_child(spec).await.expect("the child starts");
        let careless = player::<Careless>("careless", &network, Some(&old)).await;
        let same = player::<First>("same", &network, Some(&old)).await;
        let hubs = vec![old, careless, same];
        together(&hubs).await;
        let ada: ChildRef<First> = hubs[0].child("ada");
        let (at, careless) = (
            hubs[0].lookup("ada").await.expect("the hub runs").expect("it is known"),
            hubs[1].node_id(),
        );
        // It may have moved by itself when the other nodes came, and not to the careless one.
        assert_ne!(at.node, careless);
        let error = hubs[0].migrate("ada", careless).await.expect_err("it cannot read the state");
        let error = error.to_string();
        for part in ["kind player, version 1,", "missing field `score`", "`#[serde(default)]`"] {
            assert!(error.contains(part), "{error}");
        }
        let home = hubs.iter().find(|hub| hub.node_id() == at.node).expect("one of them");
        home.clone().leave().await.expect("the other one takes the child");
        let rest: Vec<_> = hubs.into_iter().filter(|hub| hub.node_id() != at.node).collect();
        together(&rest).await;
        let there: ChildRef<First> = rest[1].child("ada");
        assert_eq!(there.send(Name).await, Ok(r#"First { nick: "Ada" }"#.to_owned()));
        assert_ne!(
            rest[1].lookup("ada").await.expect("the hub runs").expect("it is known").node,
            careless
        );
        drop(ada);
        stop(rest).await;
    });
}
