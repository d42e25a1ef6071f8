//! What is accepted comes back, and what is refused would not.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

use super::*;

const PLENTY: usize = 1 << 20;

fn refused<T: Serialize + DeserializeOwned>(value: &T) -> String {
    match encode(value, PLENTY) {
        Err(EncodeFailure::Encoder(reason)) => reason,
        other => panic!("it was not refused: {other:?}"),
    }
}

fn comes_back<T: Serialize + DeserializeOwned + PartialEq>(value: &T) -> bool {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("it encodes");
    ciborium::from_reader::<T, _>(&bytes[..]).is_ok_and(|back| back == *value)
}

const NULL: &str = "`Some` of a value that is written as null comes back as `None`";

#[test]
fn a_value_above_the_limit_is_refused_with_its_size() {
    let text = "x".repeat(100);
    assert_eq!(encode(&text, 50), Err(EncodeFailure::TooLarge { size: 102, limit: 50 }));
    assert!(encode(&text, 102).is_ok());
}

#[test]
fn bytes_that_are_left_over_are_refused() {
    let mut bytes = encode(&7_u8, 10).expect("it encodes").to_vec();
    bytes.push(0);
    assert!(decode::<u8>(&bytes).is_err());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Player {
    nick: Option<Option<String>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Game {
    players: Vec<Player>,
    by_name: BTreeMap<String, Player>,
    by_seat: BTreeMap<u8, Option<Unit>>,
    last: Move,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Move {
    Pass,
    Bid { amount: Option<()> },
    Swap(u8, Option<Json>),
    Named(Player),
}

fn game() -> Game {
    Game {
        players: Vec::new(),
        by_name: BTreeMap::new(),
        by_seat: BTreeMap::new(),
        last: Move::Pass,
    }
}

#[test]
fn some_of_what_is_written_as_null_is_refused_with_its_path() {
    let nick = |nick| Player { nick };
    let cases = [
        (
            Game {
                players: vec![nick(None), nick(Some(Some("ann".into()))), nick(Some(None))],
                ..game()
            },
            "players[2].nick",
        ),
        (
            Game { by_name: BTreeMap::from([("bob".into(), nick(Some(None)))]), ..game() },
            "by_name[\"bob\"].nick",
        ),
        (Game { by_seat: BTreeMap::from([(1, None), (7, Some(Unit))]), ..game() }, "by_seat[7]"),
        (Game { last: Move::Bid { amount: Some(()) }, ..game() }, "last.Bid.amount"),
        (Game { last: Move::Swap(1, Some(Json::Null)), ..game() }, "last.Swap[1]"),
        (Game { last: Move::Named(nick(Some(None))), ..game() }, "last.Named.nick"),
    ];
    for (game, path) in cases {
        assert!(!comes_back(&game));
        assert_eq!(refused(&game), format!("{path}: {NULL}"));
    }
    assert_eq!(refused(&Some(())), NULL);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Patch {
    #[serde(default, skip_serializing_if = "Option::is_none", with = "present")]
    nick: Option<Option<u8>>,
    other: Option<()>,
}

/// As `serde_with::rust::double_option` has it.
mod present {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Option<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            None => serializer.serialize_unit(),
            Some(value) => serializer.serialize_some(value),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<u8>>, D::Error> {
        Deserialize::deserialize(deserializer).map(Some)
    }
}

#[test]
fn a_type_that_tells_some_of_a_null_from_none_is_taken_at_its_word() {
    let patch = Patch { nick: Some(None), other: None };
    let bytes = encode(&patch, PLENTY).expect("its own deserialize reads it back");
    assert_eq!(decode::<Patch>(&bytes), Ok(patch));
    let failure = encode(&Patch { nick: Some(None), other: None }, 3);
    assert!(matches!(failure, Err(EncodeFailure::TooLarge { size, limit: 3 }) if size > 3));
    let reason = refused(&Patch { nick: Some(None), other: Some(()) });
    assert!(reason.ends_with(NULL), "{reason}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nest {
    inner: Option<Box<Nest>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Chain {
    End,
    Struct { next: Box<Chain> },
    Tuple(u8, Box<Chain>),
    Newtype(Box<Chain>),
    Seq(Vec<Chain>),
}

#[test]
fn what_is_nested_too_deep_to_be_read_is_refused_and_nothing_else() {
    for depth in 250..262 {
        let nest =
            (1..depth).fold(Nest { inner: None }, |inner, _| Nest { inner: Some(Box::new(inner)) });
        assert_eq!(encode(&nest, PLENTY).is_ok(), comes_back(&nest), "{depth}");
    }
    let links: [fn(Chain) -> Chain; 4] = [
        |next| Chain::Struct { next: Box::new(next) },
        |next| Chain::Tuple(1, Box::new(next)),
        |next| Chain::Newtype(Box::new(next)),
        |next| Chain::Seq(vec![next]),
    ];
    for link in links {
        for depth in 120..262 {
            let chain = (0..depth).fold(Chain::End, |next, _| link(next));
            assert_eq!(encode(&chain, PLENTY).is_ok(), comes_back(&chain), "{depth} {chain:?}");
        }
    }
}

#[test]
fn a_value_without_end_is_refused_before_the_stack_is() {
    let nest =
        (1..2_000).fold(Nest { inner: None }, |inner, _| Nest { inner: Some(Box::new(inner)) });
    let reason = refused(&nest);
    assert!(reason.starts_with("inner.inner."), "{reason}");
    assert!(reason.ends_with("..: it is nested deeper than 256 levels, which cannot be read back"));
}

#[test]
fn what_does_not_decode_is_told_with_its_path() {
    #[derive(Serialize, Deserialize)]
    struct Old {
        players: Vec<BTreeMap<String, u8>>,
    }
    #[derive(Debug, Deserialize)]
    struct New {
        #[serde(rename = "players")]
        _players: Vec<Item>,
    }
    #[derive(Debug, Deserialize)]
    struct Item {
        #[serde(rename = "nick")]
        _nick: String,
    }
    let old = |key: &str| {
        let players = vec![BTreeMap::from([(key.to_owned(), 1)])];
        encode(&Old { players }, PLENTY).expect("it encodes")
    };
    let reason = decode::<New>(&old("name")).expect_err("there is no nick");
    assert_eq!(reason, "players[0]: missing field `nick`");
    let reason = decode::<New>(&old("nick")).expect_err("it is no text");
    assert!(reason.starts_with("players[0].nick: invalid type"), "{reason}");
    assert_eq!(decode::<u8>(&[]).expect_err("nothing"), "it ends too early");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Nothing(()),
    Number(i64),
    Text(String),
    Float(f64),
    Maybe(Option<Box<Shape>>),
    MaybeUnit(Option<()>),
    Twice(Option<Option<u8>>),
    Thrice(Option<Option<Option<bool>>>),
    Seq(Vec<Shape>),
    Options(Vec<Option<Option<u8>>>),
    Map(BTreeMap<String, Shape>),
    Keys(BTreeMap<i8, Option<()>>),
    Struct { free: Option<Json>, inner: Box<Shape> },
    Tuple(Option<Json>, Box<Shape>),
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i32>().prop_map(Json::from),
        "[a-z]{0,3}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            prop::collection::btree_map("[a-z]{1,2}", inner, 0..3)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let maybe = prop::option::of(prop::option::of(any::<u8>()));
    let leaf = prop_oneof![
        Just(Shape::Unit),
        Just(Shape::Nothing(())),
        any::<i64>().prop_map(Shape::Number),
        "[a-z]{0,4}".prop_map(Shape::Text),
        (-1e9..1e9).prop_map(Shape::Float),
        prop::option::of(Just(())).prop_map(Shape::MaybeUnit),
        maybe.clone().prop_map(Shape::Twice),
        prop::option::of(prop::option::of(prop::option::of(any::<bool>()))).prop_map(Shape::Thrice),
        prop::collection::vec(maybe, 0..3).prop_map(Shape::Options),
        prop::collection::btree_map(any::<i8>(), prop::option::of(Just(())), 0..3)
            .prop_map(Shape::Keys),
    ];
    leaf.prop_recursive(5, 24, 3, |inner| {
        prop_oneof![
            prop::option::of(inner.clone().prop_map(Box::new)).prop_map(Shape::Maybe),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Shape::Seq),
            prop::collection::btree_map("[a-z]{1,2}", inner.clone(), 0..3).prop_map(Shape::Map),
            (prop::option::of(json()), inner.clone())
                .prop_map(|(free, inner)| Shape::Struct { free, inner: Box::new(inner) }),
            (prop::option::of(json()), inner)
                .prop_map(|(free, inner)| Shape::Tuple(free, Box::new(inner))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_comes_back_and_what_is_refused_would_not(shape in shape()) {
        match encode(&shape, PLENTY) {
            Ok(bytes) => prop_assert_eq!(decode::<Shape>(&bytes), Ok(shape)),
            Err(failure) => prop_assert!(!comes_back(&shape), "{failure}"),
        }
    }
}

fn read_back_of<T: Serialize + DeserializeOwned>(value: &T) -> Result<(), String> {
    let rules = Rules { limit: PLENTY, read_back: true };
    match encode_by(value, rules) {
        Ok(_) => Ok(()),
        Err(EncodeFailure::NotReadBack(reason)) => Err(reason),
        Err(other) => panic!("it was not encoded: {other}"),
    }
}

/// A serde enum with a tag, and what cannot pass through one.
#[derive(Serialize, Deserialize)]
#[serde(tag = "is")]
enum Tagged {
    Text { text: String },
    Address { ip: std::net::IpAddr },
    Wide { number: u128 },
}

#[derive(Serialize, Deserialize)]
struct Flat {
    name: String,
    #[serde(flatten)]
    seats: BTreeMap<u8, bool>,
}

#[test]
fn what_cannot_be_read_is_found_by_reading_it_back_and_named() {
    let ok = Tagged::Text { text: "x".into() };
    assert_eq!(read_back_of(&vec![ok]), Ok(()));
    let cases = [
        ("an address", Tagged::Address { ip: std::net::Ipv4Addr::LOCALHOST.into() }),
        ("a wide number", Tagged::Wide { number: u128::MAX }),
    ];
    for (what, case) in cases {
        let reason = read_back_of(&BTreeMap::from([("seat".to_owned(), vec![case])]));
        let is_named = reason.as_ref().is_err_and(|reason| reason.starts_with("seat[0]"));
        assert!(is_named, "{what}: {reason:?}");
    }
    let flat = Flat { name: "x".into(), seats: BTreeMap::from([(1, true)]) };
    assert!(read_back_of(&flat).is_err());
}

#[derive(Serialize, Deserialize)]
struct Forgetful {
    list: Vec<Inner>,
    when: Age,
    names: std::collections::HashMap<String, std::collections::HashSet<u8>>,
}

#[derive(Default, Serialize, Deserialize)]
struct Inner {
    #[serde(skip_deserializing)]
    is_open: bool,
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "nothing")]
    text: String,
    #[serde(skip)]
    _cache: u8,
}

fn nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|_| String::new())
}

/// Travels as the time that is left, as deadlines do.
struct Age(u64);

impl Serialize for Age {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0 + 1).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self)
    }
}

fn forgetful(list: Vec<Inner>) -> Forgetful {
    let names = (0..40_u8).map(|n| (n.to_string(), (0..n).collect())).collect();
    Forgetful { list, when: Age(300), names }
}

#[test]
fn what_comes_back_as_something_else_is_named_and_no_more_than_that() {
    let unlike = |inner| read_back_of(&forgetful(vec![Inner::default(), inner]));
    assert_eq!(unlike(Inner { _cache: 7, ..Inner::default() }), Ok(()), "it is not encoded");
    assert_eq!(
        unlike(Inner { is_open: true, ..Inner::default() }),
        Err("list[1].is_open: true comes back as false".to_owned())
    );
    assert_eq!(
        unlike(Inner { text: "x".into(), ..Inner::default() }),
        Err("list[1].text: it does not come back".to_owned())
    );
}

#[test]
fn a_snapshot_is_compared_by_what_it_holds() {
    use crate::hub::snapshot::Snapshot;
    let state = |list| (1, Snapshot::of(&forgetful(list)));
    assert_eq!(read_back_of(&state(vec![])), Ok(()), "maps are in another order each time");
    let inner = Inner { is_open: true, ..Inner::default() };
    let reason = read_back_of(&state(vec![inner]));
    assert_eq!(reason, Err("[1].list[0].is_open: true comes back as false".to_owned()));
}

#[test]
fn differences_are_told_in_words() {
    let cbor = |json: Json| {
        let mut bytes = Vec::new();
        ciborium::into_writer(&json, &mut bytes).expect("it encodes");
        bytes
    };
    let of = |sent, back| compare::difference(&cbor(sent), &cbor(back));
    use serde_json::json;
    assert_eq!(of(json!([1, [2, "a"]]), json!([["a", 300], 1])), None);
    assert_eq!(of(json!({"a": 1.5}), json!({"a": -70_000})), None);
    for (sent, back, told) in [
        (json!({"a": [1, 2]}), json!({"a": [1]}), "a: 2 elements come back as 1"),
        (json!({"a": 1}), json!({"a": 1, "b": 1}), "it comes back with more entries"),
        (json!({"a": {"b": "x"}}), json!({"a": {"b": "y"}}), "a.b: a text comes back as another"),
        (json!([0, 1, "x"]), json!([0, 1, null]), "[2]: a text comes back as null"),
        (json!(["x", "x", "y"]), json!(["x", "y", "y"]), "[1]: a text comes back as another"),
    ] {
        assert_eq!(of(sent, back).as_deref(), Some(told));
    }
    let bytes = |bytes: &[u8]| cbor_bytes(bytes);
    assert_eq!(
        compare::difference(&bytes(&[1]), &bytes(&[2])).as_deref(),
        Some("bytes come back as others")
    );
}

fn cbor_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut cbor = Vec::new();
    ciborium::into_writer(&serde_bytes::Bytes::new(bytes), &mut cbor).expect("it encodes");
    cbor
}

#[test]
fn a_difference_of_large_maps_is_found_with_a_few_looks_at_each_entry() {
    const ENTRIES: usize = 2_000;
    let cbor = |map: &BTreeMap<String, u64>| {
        let mut bytes = Vec::new();
        ciborium::into_writer(map, &mut bytes).expect("it encodes");
        bytes
    };
    let mut map: BTreeMap<String, u64> = (0..ENTRIES as u64).map(|n| (n.to_string(), n)).collect();
    let sent = cbor(&map);
    map.remove("999");
    let before = compare::PRINTS.get();
    let told = compare::difference(&sent, &cbor(&map));
    assert_eq!(told.as_deref(), Some("999: it does not come back"));
    let prints = compare::PRINTS.get() - before;
    assert!(prints < 5 * ENTRIES, "{prints} prints");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_the_same_is_never_called_different(shape in shape()) {
        if encode(&shape, PLENTY).is_ok() {
            prop_assert_eq!(read_back_of(&shape), Ok(()));
        }
    }

    #[test]
    fn bytes_that_look_like_cbor_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut nested = vec![0x81; 600];
        nested.extend(&bytes);
        for bytes in [bytes, nested] {
            let sent = cbor_bytes(&bytes);
            let mut other = bytes.clone();
            other.push(1);
            prop_assert_eq!(compare::difference(&sent, &sent.clone()), None);
            prop_assert!(compare::difference(&sent, &cbor_bytes(&other)).is_some());
            // Not even CBOR.
            let _ = compare::difference(&bytes, &other);
        }
    }
}
