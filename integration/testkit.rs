//! The testkit, as tests of users have it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use actix::prelude::*;
use actix_hub::{
    prelude::*,
    testkit::{GoldenError, RoundTripError, read_golden, round_trip, write_golden},
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
