use std::sync::{Mutex, mpsc};

use super::{instance::InstanceTopics, *};
use crate::model::{
    child::ChildSpec,
    id::{ChildId, KindName, NodeId},
    topic::Publication,
};

fn run(n: u8) -> NodeRun {
    NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).expect("a valid name")
}

fn publication(name: &str, known: u64, number: u8) -> Publication {
    let (topic, body) = (topic(name), vec![number].into());
    Publication { topic, known, trace: None, name: "m".into(), body }
}

/// Tells the number in each message, and who it is.
struct Ear(char, Mutex<mpsc::Sender<(char, u8)>>);

impl Subscriber for Ear {
    fn offer(&self, publication: &Arc<Publication>) {
        let told = self.1.lock().expect("nobody panics with it");
        told.send((self.0, publication.body[0])).expect("the test listens");
    }
}

type Heard = mpsc::Receiver<(char, u8)>;

fn ears() -> (impl Fn(char) -> Arc<dyn Subscriber>, Heard) {
    let (tell, told) = mpsc::channel();
    (move |name| Arc::new(Ear(name, Mutex::new(tell.clone()))) as Arc<dyn Subscriber>, told)
}

#[test]
fn what_comes_goes_to_each_subscriber_of_its_topic_in_order() {
    let topics = Topics::new(run(1), 1 << 20);
    let (ear, heard) = ears();
    let first = topics.subscribe(&topic("t"), ear('a'), Since::Ever).expect("there is room");
    topics.subscribe(&topic("t"), ear('b'), Since::Ever).expect("there is room");
    topics.subscribe(&topic("u"), ear('c'), Since::Ever).expect("there is room");
    assert_eq!(topics.published(publication("t", 0, 1)), 2);
    topics.arrived(run(2), publication("t", 0, 2));
    assert_eq!(topics.published(publication("nobody", 0, 3)), 0);
    let four: Vec<_> = heard.iter().take(4).collect();
    assert_eq!(four, [('a', 1), ('b', 1), ('a', 2), ('b', 2)]);
    topics.unsubscribe(&topic("t"), first);
    topics.arrived(run(2), publication("t", 0, 4));
    assert_eq!(heard.recv(), Ok(('b', 4)));
    topics.arrived(run(2), publication("nobody", 0, 5));
    let counts = topics.counts();
    assert_eq!((counts.topics, counts.received, counts.dropped.subscriber_gone), (2, 3, 1));
    topics.end();
    assert_eq!(topics.published(publication("t", 0, 6)), 0);
    assert_eq!(topics.counts().topics, 0, "nobody is kept by a hub that has stopped");
    assert!(heard.try_recv().is_err());
}

#[test]
fn a_child_that_came_is_not_given_what_was_sent_before_that_was_known() {
    let topics = Topics::new(run(1), 1 << 20);
    let (ear, heard) = ears();
    topics.subscribe(&topic("t"), ear('a'), Since::Ever).expect("there is room");
    topics.subscribe(&topic("t"), ear('b'), Since::Now).expect("there is room");
    let (version, _) = topics.news();
    topics.arrived(run(2), publication("t", version - 1, 1));
    topics.arrived(run(2), publication("t", version, 2));
    // Whoever publishes here knows; and what it has sent elsewhere meanwhile may have been given to one
    // who comes here before it is handed out here.
    let (_, known) = topics.elsewhere(&topic("t"));
    topics.subscribe(&topic("t"), ear('c'), Since::Now).expect("there is room");
    assert_eq!(topics.published(publication("t", known, 3)), 2);
    let five: Vec<_> = heard.iter().take(5).collect();
    assert_eq!(five, [('a', 1), ('a', 2), ('b', 2), ('a', 3), ('b', 3)]);
    let (_, known) = topics.elsewhere(&topic("t"));
    assert_eq!(topics.published(publication("t", known, 4)), 3);
    let three: Vec<_> = heard.iter().take(3).collect();
    assert_eq!(three, [('a', 4), ('b', 4), ('c', 4)]);
    topics.end();
}

#[test]
fn an_instance_listens_from_its_start_to_its_end_and_is_given_nothing_older() {
    let topics = Topics::new(run(1), 1 << 20);
    let (ear, heard) = ears();
    let id = ChildId::new("c").expect("a valid id");
    let kind = KindName::new("kind").expect("a valid name");
    let spec = ChildSpec::from_parts(id, kind, Vec::new().into()).subscribe("t");
    let spec = spec.expect("a valid topic");
    let instance = InstanceTopics::new(topics.clone(), &spec);
    let count = |name| topics.read().count(&topic(name));
    instance.subscribe(topic("u")).expect("there is room");
    instance.subscribe(topic("v")).expect("there is room");
    instance.unsubscribe("v");
    assert_eq!((count("t"), count("u")), (0, 0), "it may never start");
    topics.subscribe(&topic("t"), ear('a'), Since::Ever).expect("there is room");
    let (before, _) = topics.news();
    instance.begin(ear('c'));
    assert_eq!((count("t"), count("u"), count("v")), (2, 1, 0));
    topics.arrived(run(2), publication("t", before, 1));
    topics.arrived(run(2), publication("t", topics.news().0, 2));
    let three: Vec<_> = heard.iter().take(3).collect();
    assert_eq!(three, [('a', 1), ('a', 2), ('c', 2)]);
    instance.subscribe(topic("v")).expect("there is room");
    instance.unsubscribe("t");
    assert_eq!((count("t"), count("v")), (1, 1));
    instance.end();
    instance.subscribe(topic("t")).expect("there is room");
    assert_eq!((count("t"), count("u"), count("v")), (1, 0, 0));
    topics.end();
}
