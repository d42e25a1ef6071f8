//! References to children go through messages, states and files, and lead to the same child.

use std::collections::HashSet;

use actix::prelude::*;
use actix_hub::{ChildRecipient, StartedChild, prelude::*};
use serde::{Deserialize, Serialize};

use crate::support::*;

#[derive(Clone, Debug, PartialEq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Note(String);

impl HubMessage for Note {
    const NAME: &'static str = "note";
}

/// Somebody wants to hear of what is said, and who talks to whom.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Option<ChildRef<Speaker>>")]
struct Subscribe {
    who: ChildRecipient<Note>,
    via: ChildRef<Speaker>,
}

impl HubMessage for Subscribe {
    const NAME: &'static str = "subscribe";
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "usize")]
struct Say(String);

impl HubMessage for Say {
    const NAME: &'static str = "say";
}

/// Tells its listeners what is said to it; they move with it.
#[derive(Default, Serialize, Deserialize)]
struct Speaker {
    listeners: Vec<ChildRecipient<Note>>,
    last: Option<ChildRef<Speaker>>,
}

impl Actor for Speaker {
    type Context = Context<Self>;
}

impl Handler<Subscribe> for Speaker {
    type Result = Option<ChildRef<Speaker>>;

    fn handle(&mut self, Subscribe { who, via }: Subscribe, _: &mut Context<Self>) -> Self::Result {
        self.listeners.push(who);
        self.last.replace(via)
    }
}

impl Handler<Say> for Speaker {
    type Result = usize;

    fn handle(&mut self, Say(text): Say, _: &mut Context<Self>) -> usize {
        let told = self.listeners.iter().map(|who| who.do_send(Note(text.clone())));
        told.filter(Result::is_ok).count()
    }
}

hot_swap!(Speaker, kind = "speaker", messages = [Subscribe, Say]);

#[derive(Default, Serialize, Deserialize)]
struct Listener {
    heard: Vec<String>,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Note> for Listener {
    type Result = ();

    fn handle(&mut self, Note(text): Note, _: &mut Context<Self>) {
        self.heard.push(text);
    }
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Vec<String>")]
struct Heard;

impl HubMessage for Heard {
    const NAME: &'static str = "heard";
}

impl Handler<Heard> for Listener {
    type Result = MessageResult<Heard>;

    fn handle(&mut self, _: Heard, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.heard.clone())
    }
}

hot_swap!(Listener, kind = "listener", messages = [Note, Heard]);

async fn node(net: &Net, name: &str, seed: Option<&Hub>) -> Hub {
    let builder = HubSystem::builder("test").node_name(name).workers(2).settings(settings());
    let builder = match net {
        Net::Memory(network) => builder.memory(network),
        Net::Tcp => builder.listen("127.0.0.1:0"),
    };
    let builder = match seed {
        Some(seed) => builder.seed(&seed.addresses()[0]),
        None => builder,
    };
    let started = builder.child::<Speaker>().child::<Listener>().start().await;
    started.expect("the hub starts")
}

#[test]
fn a_reference_leads_to_the_same_child_from_whichever_node_has_it() {
    run(async {
        for net in [Net::Memory(MemoryNetwork::new()), Net::Tcp] {
            let a = node(&net, "a", None).await;
            let b = node(&net, "b", Some(&a)).await;
            together(&[a.clone(), b.clone()]).await;

            let speaker = a.child_or_start::<Speaker>("speaker", ()).await.expect("it starts");
            let listener = b.child_or_start::<Listener>("listener", ()).await.expect("it starts");
            a.migrate("speaker", b.node_id()).await.expect("it moves");
            a.migrate("listener", a.node_id()).await.expect("it moves");

            // In a message to another node, and in its reply.
            let subscribe = || Subscribe { who: listener.recipient(), via: speaker.clone() };
            assert_eq!(speaker.send(subscribe()).await, Ok(None));
            assert_eq!(speaker.send(Say("one".to_owned())).await, Ok(1));
            // In a state.
            a.migrate("speaker", a.node_id()).await.expect("it moves back");
            let last = speaker.send(subscribe()).await.expect("it answers").expect("there was one");
            assert_eq!(last, speaker);
            assert_eq!(last.send(Say("two".to_owned())).await, Ok(2));
            eventually("all was heard", || async {
                listener.send(Heard).await.is_ok_and(|heard| heard.len() == 3)
            })
            .await;
            assert_eq!(listener.send(Heard).await.expect("it answers"), ["one", "two", "two"]);
            a.stop().await;
            b.stop().await;
        }
    });
}

#[test]
fn a_stored_reference_is_read_in_the_name_of_a_hub() {
    run(async {
        let net = Net::Memory(MemoryNetwork::new());
        let hub = node(&net, "a", None).await;
        let listener = hub.child_or_start::<Listener>("ear", ()).await.expect("it starts");

        let text = serde_json::to_string(&listener.recipient::<Note>()).expect("it is text");
        assert_eq!(text, r#"{"kind":"listener","child":"ear"}"#);
        let outside = serde_json::from_str::<ChildRecipient<Note>>(&text);
        let error = outside.expect_err("no hub is known").to_string();
        assert!(error.contains("Hub::bind"), "{error}");

        let read: ChildRecipient<Note> =
            hub.bind(|| serde_json::from_str(&text)).expect("it is one");
        read.send(Note("read".to_owned())).await.expect("it is handled");
        assert_eq!(listener.send(Heard).await.expect("it answers"), ["read"]);
        assert_eq!(read, listener.recipient());
        #[expect(clippy::mutable_key_type, reason = "the child's id alone is hashed and compared")]
        let known = HashSet::from([listener.clone()]);
        assert!(known.contains(&hub.child::<Listener>("ear")));
        assert!(!known.contains(&hub.child::<Listener>("eye")));
        assert_eq!(listener.to_string(), "ear");

        // One for a kind that this hub does not have is refused when it is used.
        let strange = r#"{"kind":"nobody","child":"ear"}"#;
        let strange: ChildRecipient<Note> =
            hub.bind(|| serde_json::from_str(strange)).expect("it has the shape");
        let refused = strange.send(Note(String::new())).await;
        assert!(
            matches!(
                &refused,
                Err(HubSendError::NotHandled { reason: NotHandled::NotRegistered { kind, .. }, .. })
                    if kind.as_str() == "nobody"
            ),
            "{refused:?}"
        );
        hub.stop().await;
    });
}

#[test]
fn of_many_who_want_a_child_at_once_one_starts_it() {
    run(async {
        let net = Net::Memory(MemoryNetwork::new());
        let a = node(&net, "a", None).await;
        let b = node(&net, "b", Some(&a)).await;
        together(&[a.clone(), b.clone()]).await;
        let spec = || ChildSpec::new::<Listener>("ear", ()).expect("valid");
        let asked = (0..20).map(|n| if n % 2 == 0 { &a } else { &b });
        let asked = asked.map(|hub| hub.ensure_child(spec()));
        let started: Vec<StartedChild> =
            futures_util::future::try_join_all(asked).await.expect("all have it");
        assert_eq!(started.iter().filter(|started| !started.existed).count(), 1);
        let places: HashSet<_> = started.iter().map(|it| (it.node, it.epoch)).collect();
        assert_eq!(places.len(), 1, "one child");
        let wrong = a.child_or_start::<Listener>("", ()).await;
        assert!(matches!(wrong, Err(StartChildError::Spec(_))), "{wrong:?}");
        a.stop().await;
        b.stop().await;
    });
}
