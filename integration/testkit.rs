//! The testkit, as tests of users have it.

use std::{
    collections::BTreeMap,
    error::Error,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use actix::prelude::*;
use actix_hub::{
    ChildOrigin,
    prelude::*,
    testkit::{
        GoldenError, RoundTripError, TestCluster, TestClusterError, read_golden, round_trip,
        write_golden,
    },
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cart {
    items: Vec<String>,
    paid: u64,
    #[serde(skip)]
    rendered: Option<String>,
}

impl Actor for Cart {
    type Context = Context<Self>;
}

hot_swap!(Cart, kind = "cart", messages = []);

fn cart() -> Cart {
    Cart { items: vec!["tea".to_owned(), "cups".to_owned()], paid: 7, rendered: None }
}

#[test]
fn a_state_goes_there_and_back_and_the_actor_keeps_it() {
    let mut before = cart();
    let moved = round_trip(&mut before, Cart::default()).expect("nothing is lost");
    assert_eq!(moved, cart());
    assert_eq!(before, cart());
}

/// A kind by hand that can be wrong in many ways.
#[derive(Default)]
struct Clumsy {
    counts: BTreeMap<String, u64>,
    mistake: Option<Mistake>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    Forgets,
    TakesOneLess,
    PanicsInPrepare,
    PanicsInAlter,
    PanicsInResume,
    DoesNotEncode,
    DoesNotDecode,
    DecodesAsOther,
}

struct Counts(BTreeMap<String, u64>, Option<Mistake>);

impl Serialize for Counts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.1 {
            Some(Mistake::DoesNotEncode) => Err(serde::ser::Error::custom("not today")),
            Some(Mistake::DoesNotDecode) => "no map".serialize(serializer),
            _ => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut counts: BTreeMap<String, u64> = Deserialize::deserialize(deserializer)?;
        // One that was not there when it was written.
        if let Some(count) = counts.get_mut("decodes as other") {
            *count += 1;
        }
        Ok(Self(counts, None))
    }
}

impl Actor for Clumsy {
    type Context = Context<Self>;
}

impl HotSwap for Clumsy {
    const KIND: &'static str = "clumsy";
    type Args = ();
    type State = Counts;

    fn from_args((): (), _: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Ok(Self::default())
    }

    fn prepare_handover_state(&mut self) -> Counts {
        assert!(self.mistake != Some(Mistake::PanicsInPrepare), "prepare fails");
        let mut counts = std::mem::take(&mut self.counts);
        if self.mistake == Some(Mistake::DecodesAsOther) {
            counts.insert("decodes as other".to_owned(), 1);
        }
        Counts(counts, self.mistake)
    }

    fn resume_after_abort(&mut self, state: Counts) {
        assert!(self.mistake != Some(Mistake::PanicsInResume), "resume fails");
        self.counts = state.0;
    }

    fn alter_handover_state(&mut self, state: Counts) {
        assert!(self.mistake != Some(Mistake::PanicsInAlter), "alter fails");
        self.counts = state.0;
        match self.mistake {
            Some(Mistake::Forgets) => drop(self.counts.remove("b")),
            Some(Mistake::TakesOneLess) => {
                self.counts.entry("b".to_owned()).and_modify(|count| *count -= 1);
            }
            _ => {}
        }
    }
}

fn clumsy(mistake: Option<Mistake>) -> Clumsy {
    let counts = [("a".to_owned(), 1), ("b".to_owned(), 2)].into();
    Clumsy { counts, mistake }
}

#[test]
fn each_way_to_lose_a_state_is_told_with_what_is_lost() {
    let lost = |here: Option<Mistake>, there: Option<Mistake>| {
        let mut actor = clumsy(here);
        let successor = Clumsy { mistake: there, ..Clumsy::default() };
        round_trip(&mut actor, successor).map(|moved| moved.counts).map_err(|e| e.to_string())
    };
    assert_eq!(lost(None, None), Ok(clumsy(None).counts));
    let to_successor = [
        (Mistake::Forgets, "another state than it was given: b: it does not come back"),
        (
            Mistake::TakesOneLess,
            "another state than it was given: b: a number comes back as another",
        ),
        (Mistake::PanicsInAlter, "`alter_handover_state` panicked: alter fails"),
    ];
    for (mistake, why) in to_successor {
        let told = lost(None, Some(mistake)).expect_err("it is lost");
        assert!(told.contains(why), "{told}");
    }
    let of_actor = [
        (Mistake::PanicsInPrepare, "`prepare_handover_state` panicked: prepare fails"),
        (Mistake::PanicsInResume, "`resume_after_abort` panicked: resume fails"),
        (Mistake::DoesNotEncode, "could not be encoded: not today"),
        (Mistake::DoesNotDecode, "does not come back as it was: invalid type"),
        (Mistake::DecodesAsOther, "does not come back as it was: decodes as other: a number"),
    ];
    for (mistake, why) in of_actor {
        let told = lost(Some(mistake), None).expect_err("it is lost");
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn an_actor_that_moves_its_data_out_has_it_again_when_the_encoding_failed() {
    let mut actor = clumsy(Some(Mistake::DoesNotEncode));
    let lost = round_trip(&mut actor, Clumsy::default()).err();
    assert!(matches!(lost, Some(RoundTripError::Encode { .. })));
    assert_eq!(actor.counts, clumsy(None).counts);
}

/// The cart of the next release: its price is in cents.
#[derive(Debug, Default, Serialize, Deserialize)]
struct NextCart {
    items: Vec<String>,
    cents: u64,
}

impl Actor for NextCart {
    type Context = Context<Self>;
}

impl NextCart {
    fn upgrade(from: u32, cbor: &[u8]) -> Result<Self, StateVersionError> {
        assert_eq!(from, 1);
        let old: Cart = decode_state(cbor)?;
        assert!(!old.items.is_empty(), "an empty cart");
        Ok(Self { items: old.items, cents: old.paid * 100 })
    }
}

hot_swap!(NextCart, kind = "cart", messages = [], version = 2, upgrade = NextCart::upgrade);

/// The same, whose author thinks that the new field needs no version.
#[derive(Debug, Default, Serialize, Deserialize)]
struct HastyCart {
    items: Vec<String>,
    cents: u64,
}

impl Actor for HastyCart {
    type Context = Context<Self>;
}

hot_swap!(HastyCart, kind = "cart", messages = []);

fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

/// A state of version 1, as it is in the repository of its users.
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/golden/cart.v1.golden");

#[test]
fn a_golden_file_of_an_older_release_is_read_by_this_one_and_the_next() {
    assert_eq!(read_golden(COMMITTED, Cart::default()).expect("it is read"), cart());
    let next = read_golden(COMMITTED, NextCart::default()).expect("it is upgraded");
    assert_eq!((next.items, next.cents), (cart().items, 700));
}

#[test]
fn a_golden_file_is_written_as_it_was_and_never_twice() {
    let file = folder("golden").join("states/cart.v1.golden");
    write_golden(&file, &mut cart()).expect("it is written, and its folder made");
    let (written, committed) = (std::fs::read(&file), std::fs::read(COMMITTED));
    assert_eq!(written.expect("it is there"), committed.expect("it is there"));
    let again = write_golden(&file, &mut Cart::default());
    assert!(matches!(
        &again,
        Err(GoldenError::Io { path, source })
            if *path == file && source.kind() == io::ErrorKind::AlreadyExists
    ));
    assert_eq!(read_golden(&file, Cart::default()).expect("it is as it was"), cart());
}

#[test]
fn a_golden_file_that_is_not_read_says_why() {
    let folder = folder("golden-wrong");
    let told = |outcome: Result<(), GoldenError>| outcome.expect_err("it is wrong").to_string();
    let hasty = told(read_golden(COMMITTED, HastyCart::default()).map(drop));
    assert!(hasty.contains("version 1, is not read") && hasty.contains("missing field `cents`"));
    let other = told(read_golden(COMMITTED, Clumsy::default()).map(drop));
    assert!(other.ends_with("is of kind `cart`, not `clumsy`"), "{other}");

    let later = folder.join("cart.v2.golden");
    write_golden(&later, &mut NextCart::default()).expect("it is written");
    let newer = told(read_golden(&later, Cart::default()).map(drop));
    assert!(newer.ends_with("is of version 2; kind `cart` reads 1 to 1"), "{newer}");

    let empty = folder.join("empty.golden");
    write_golden(&empty, &mut Cart::default()).expect("it is written");
    let panicked = told(read_golden(&empty, NextCart::default()).map(drop));
    assert!(panicked.ends_with("`upgrade_state` panicked: an empty cart"), "{panicked}");

    let mut bytes = std::fs::read(&empty).expect("it is there");
    let at = bytes.windows(5).position(|part| part == b"items").expect("it is in the state");
    bytes[at] = b'j';
    std::fs::write(&empty, &bytes).expect("it is written");
    let damaged = told(read_golden(&empty, Cart::default()).map(drop));
    assert!(damaged.ends_with("the checksum of its state is wrong"), "{damaged}");
    std::fs::write(&empty, b"\x01").expect("it is written");
    let garbage = read_golden(&empty, Cart::default()).map(drop);
    assert!(matches!(garbage, Err(GoldenError::Format { .. })));
    let missing = read_golden(folder.join("none"), Cart::default()).map(drop);
    assert!(matches!(
        missing,
        Err(GoldenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound
    ));
    let state = write_golden(folder.join("c"), &mut clumsy(Some(Mistake::DoesNotEncode)));
    assert!(matches!(state, Err(GoldenError::State { .. })));
    assert!(!folder.join("c").exists());
}

#[derive(Default, Serialize, Deserialize)]
struct Tally {
    value: u64,
}

impl Actor for Tally {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Add(u64);

impl HubMessage for Add {
    const NAME: &'static str = "tally.add";
}

impl Handler<Add> for Tally {
    type Result = u64;
    fn handle(&mut self, Add(n): Add, _: &mut Self::Context) -> u64 {
        self.value += n;
        self.value
    }
}

hot_swap!(Tally, kind = "tally", messages = [Add]);

async fn cluster(nodes: usize) -> TestCluster {
    TestCluster::new(nodes).start(|builder| builder.child::<Tally>()).await.expect("it starts")
}

#[actix::test]
async fn an_actor_goes_through_a_handover_in_ten_lines() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::new(2).start(|builder| builder.child::<Tally>()).await?;
    let tally = cluster.hub(0).child_or_start::<Tally>("tally-1", ()).await?;
    assert_eq!(tally.send(Add(2)).await?, 2);
    for to in [1, 0, 1] {
        cluster.migrate("tally-1", to).await?;
        assert_eq!(cluster.node_of("tally-1").await?, Some(to));
    }
    assert_eq!(tally.send(Add(1)).await?, 3);
    cluster.stop().await;
    Ok(())
}

#[actix::test]
async fn a_node_that_is_killed_loses_its_state_and_comes_back_as_itself()
-> Result<(), Box<dyn Error>> {
    let mut cluster = cluster(3).await;
    let id = cluster.node_id(2);
    let tally = cluster.hub(0).child_or_start::<Tally>("tally-1", ()).await?;
    cluster.migrate("tally-1", 2).await?;
    assert_eq!(tally.send(Add(2)).await?, 2);
    cluster.kill(2).await?;
    cluster.settled().await?;
    assert!(matches!(cluster.node_of("tally-1").await?, Some(0 | 1)));
    assert_eq!(tally.send(Add(1)).await?, 1);
    assert!(matches!(cluster.kill(2).await, Err(TestClusterError::Stopped { node: 2 })));

    cluster.restart(2).await?;
    cluster.settled().await?;
    assert_eq!(cluster.hub(2).node_id(), id);
    assert_eq!(cluster.hub(2).node_name().as_str(), "n2");
    let twice = cluster.restart(2).await;
    assert!(matches!(twice, Err(TestClusterError::Runs { node: 2 })));
    cluster.migrate("tally-1", 2).await?;
    assert_eq!(tally.send(Add(1)).await?, 2);
    cluster.stop().await;
    Ok(())
}

#[actix::test]
async fn a_node_that_is_back_before_it_was_missed_is_waited_for() -> Result<(), Box<dyn Error>> {
    let patient = Settings { suspect_after: 100, ..Settings::local() };
    let cluster = TestCluster::new(2).start(move |builder| builder.settings(patient.clone()));
    let mut cluster = cluster.await?;
    // So n0 does not hear of the end.
    cluster.cut(0, 1);
    cluster.kill(1).await?;
    cluster.restart(1).await?;
    let unknown = cluster.settled().timeout(Duration::from_millis(50)).await;
    let told = unknown.expect_err("n0 knows the run before").to_string();
    assert!(told.contains("node 0 ") && told.contains("it does not see n1 as members"), "{told}");
    cluster.heal(0, 1);
    cluster.settled().await?;
    let mut runs = Vec::new();
    for node in [0, 1] {
        let seen = cluster.hub(node).nodes().await?;
        let of_n1 = seen.into_iter().filter(|seen| seen.id == cluster.node_id(1));
        runs.push(of_n1.map(|seen| seen.incarnation.nonce).collect::<Vec<_>>());
    }
    assert_eq!(runs[0].len(), 1);
    assert_eq!(runs[0], runs[1], "n0 sees the run of n1 that is there");
    cluster.stop().await;
    Ok(())
}

#[actix::test]
async fn nodes_that_are_restarted_in_turn_lose_nothing() -> Result<(), Box<dyn Error>> {
    let mut cluster = cluster(2).await;
    let tally = cluster.hub(0).child_or_start::<Tally>("tally-1", ()).await?;
    assert_eq!(tally.send(Add(2)).await?, 2);
    for node in [0, 1] {
        cluster.migrate("tally-1", node).await?;
        let report = cluster.shutdown(node).await?;
        assert_eq!((report.handed_over, report.lost.len()), (1, 0));
        assert_eq!(cluster.node_of("tally-1").await?, Some(1 - node));
        cluster.restart(node).await?;
        cluster.settled().await?;
    }
    let tally = cluster.hub(0).child::<Tally>("tally-1");
    assert_eq!(tally.send(Add(1)).await?, 3);
    cluster.stop().await;
    Ok(())
}

#[actix::test]
async fn a_split_is_cut_and_healed() -> Result<(), Box<dyn Error>> {
    let cluster = cluster(3).await;
    let tally = cluster.hub(1).child_or_start::<Tally>("tally-1", ()).await?;
    cluster.migrate("tally-1", 0).await?;
    assert_eq!(tally.send(Add(2)).await?, 2);
    cluster.cut(0, 1);
    cluster.cut(0, 2);
    cluster.settled_among(&[0]).await?;
    cluster.settled_among(&[1, 2]).await?;
    assert_eq!(cluster.node_of("tally-1").await?, Some(0), "n0 goes on");
    assert_eq!(tally.send(Add(1)).await?, 1, "and the others have begun it anew");
    cluster.heal(0, 1);
    cluster.heal(0, 2);
    cluster.settled().await?;
    cluster.stop().await;
    Ok(())
}

#[actix::test]
async fn what_does_not_settle_is_told_with_what_is_seen() -> Result<(), Box<dyn Error>> {
    let cluster = cluster(2).await;
    // It never comes to be so.
    let apart = cluster.settled_among(&[0]).timeout(Duration::from_millis(50)).await;
    let told = apart.expect_err("n1 is in").to_string();
    assert_eq!(told, "node 0 does not settle within 50ms: it sees n1 as members as well",);
    cluster.cut(0, 1);
    cluster.settled_among(&[0]).await?;
    let cut_off = cluster.settled().timeout(Duration::from_millis(50)).await;
    let told = cut_off.expect_err("n1 is out").to_string();
    assert!(told.contains("it does not see n1 as members"), "{told}");
    cluster.heal_all();
    cluster.settled().await?;

    let error = TestCluster::new(65).start(|builder| builder).await.expect_err("too many");
    assert_eq!(error.to_string(), "a test cluster of 65 nodes: it has 1 to 64");
    assert!(TestCluster::new(0).start(|builder| builder).await.is_err());
    let error = TestCluster::new(2).start(|builder| builder.label("", "")).await;
    assert!(matches!(error, Err(TestClusterError::Start { node: 0, .. })));
    cluster.hub(1).stop().await;
    let stopped = cluster.settled().await;
    assert!(matches!(stopped, Err(TestClusterError::Stopped { node: 1 })));
    cluster.stop().await;
    Ok(())
}

#[actix::test]
#[should_panic = "no node 2: there are 0 to 1"]
async fn a_node_that_is_not_there_is_a_mistake_of_the_test() {
    let _ = cluster(2).await.hub(2);
}

/// Says where it was made, and by whom.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Named(String);

impl Actor for Named {
    type Context = Context<Self>;
}

impl Named {
    fn make(name: String, child: &ChildContext<Self>) -> Result<Self, StartFailure> {
        child.subscribe("names")?;
        let greeting = child.require::<&'static str>()?;
        let tag = child.metadata("tag").unwrap_or_default();
        Ok(Self(format!("{greeting} {name} {tag} {} {:?}", child.id(), child.origin())))
    }
}

hot_swap!(Named, kind = "named", messages = [], args = String, make = Named::make);

#[actix::test]
async fn an_actor_is_made_by_the_test_with_what_its_node_has() -> Result<(), Box<dyn Error>> {
    let hub = HubSystem::builder("test").data("hello").start().await?;
    let spec = ChildSpec::new::<Named>("ann-1", "ann".to_owned())?.note("tag", "t");
    let child = ChildContext::<Named>::for_test(&hub, spec);
    let made = Named::from_args("ann".to_owned(), &child);
    assert_eq!(made, Ok(Named("hello ann t ann-1 Fresh".to_owned())));
    let again = Named::from_args("ann".to_owned(), &child.with_origin(ChildOrigin::TakenOver));
    assert_eq!(again, Ok(Named("hello ann t ann-1 TakenOver".to_owned())));
    assert!(hub.lookup("ann-1").await?.is_none(), "no child was started");
    hub.stop().await;
    Ok(())
}
