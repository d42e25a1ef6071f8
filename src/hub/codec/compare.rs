//! Two encodings of one value, compared as trees.
//!
//! Maps and sets without an order are written in another one each time, so elements are compared
//! without their order. And what a value says of time is another number when it was read back (a
//! deadline that travels as the time that is left), so numbers are compared with numbers, whatever they
//! are; as keys they are compared exactly. All else must be the same.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::strict::DEEPEST;

/// What a piece of CBOR is, and what it holds.
enum Item<'a> {
    /// An integer or a float.
    Number(&'a [u8]),
    Bytes(&'a [u8]),
    Text(&'a [u8]),
    Array(Elements<'a>),
    /// Keys and values in turn.
    Map(Elements<'a>),
    Tag(u64, &'a [u8]),
    Simple(u64),
}

impl Item<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Number(_) => "a number",
            Self::Bytes(_) => "bytes",
            Self::Text(_) => "a text",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
            Self::Tag(..) => "a tag",
            Self::Simple(20) => "false",
            Self::Simple(21) => "true",
            Self::Simple(_) => "null",
        }
    }
}

const BREAK: u8 = 0xff;

/// How deep is looked. A snapshot in a state is a level more than a value may have; what is deeper, in
/// bytes that happen to be CBOR, is compared byte by byte.
const LOOKED: u16 = DEEPEST + 16;

/// The items of a container, one behind another.
#[derive(Clone)]
struct Elements<'a> {
    rest: &'a [u8],
    /// How many; `None`: up to a break.
    left: Option<u64>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match &mut self.left {
            Some(left) => *left = left.checked_sub(1)?,
            None if self.rest.first() == Some(&BREAK) => return None,
            None => {}
        }
        let (first, rest) = split(self.rest, 0)?;
        self.rest = rest;
        Some(first)
    }
}

impl<'a> Elements<'a> {
    /// The entries of a map.
    fn entries(mut self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        std::iter::from_fn(move || Some((self.next()?, self.next()?)))
    }
}

/// The bytes of the first item, and those behind it.
fn split(bytes: &[u8], depth: u16) -> Option<(&[u8], &[u8])> {
    let (major, argument, mut rest) = head(bytes)?;
    if depth > LOOKED {
        return None;
    }
    match (major, argument) {
        (0 | 1 | 7, Some(_)) => {}
        (2 | 3, Some(length)) => rest = rest.get(usize::try_from(length).ok()?..)?,
        (4 | 5, Some(count)) => {
            for _ in 0..count.checked_mul(u64::from(major - 3))? {
                rest = split(rest, depth + 1)?.1;
            }
        }
        (4 | 5, None) => {
            while *rest.first()? != BREAK {
                rest = split(rest, depth + 1)?.1;
            }
            rest = &rest[1..];
        }
        (6, Some(_)) => rest = split(rest, depth + 1)?.1,
        // Neither strings in pieces nor a break of its own: ciborium does not write them.
        _ => return None,
    }
    Some((&bytes[..bytes.len() - rest.len()], rest))
}

/// Major type, argument (`None`: of no stated length), and what follows.
fn head(bytes: &[u8]) -> Option<(u8, Option<u64>, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let size = match first & 0x1f {
        small @ 0..24 => return Some((first >> 5, Some(u64::from(small)), rest)),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        31 => return Some((first >> 5, None, rest)),
        _ => return None,
    };
    let (argument, rest) = rest.split_at_checked(size)?;
    let argument = argument.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some((first >> 5, Some(argument), rest))
}

/// One whole item.
fn item(bytes: &[u8]) -> Option<Item<'_>> {
    let (major, argument, rest) = head(bytes)?;
    let is_float = (25..28).contains(&(bytes[0] & 0x1f));
    Some(match major {
        0 | 1 => Item::Number(bytes),
        2 => Item::Bytes(rest),
        3 => Item::Text(rest),
        4 => Item::Array(Elements { rest, left: argument }),
        5 => Item::Map(Elements { rest, left: argument.map(|entries| entries.saturating_mul(2)) }),
        // Integers beyond 64 bits.
        6 if matches!(argument, Some(2 | 3)) => Item::Number(bytes),
        6 => Item::Tag(argument?, rest),
        _ if is_float => Item::Number(bytes),
        _ => Item::Simple(argument?),
    })
}

/// The CBOR inside a byte string, as a `Snapshot` has it.
fn embedded(bytes: &[u8]) -> Option<&[u8]> {
    let (major, ..) = head(bytes)?;
    let whole = matches!(major, 4 | 5) && split(bytes, 0)?.1.is_empty();
    whole.then_some(bytes)
}

/// What a piece is compared as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    /// Numbers must be the same numbers.
    Key,
    /// Any number will do.
    Value,
}

#[cfg(test)]
thread_local! {
    /// Prints that were made on this thread.
    pub(super) static PRINTS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Equal for what counts as equal.
fn print(bytes: &[u8], role: As) -> u64 {
    #[cfg(test)]
    PRINTS.set(PRINTS.get() + 1);
    print_at(bytes, role, 0)
}

fn print_at(bytes: &[u8], role: As, depth: u16) -> u64 {
    let of = |kind: u64, what: u64| {
        let mut both = [0; 16];
        both[..8].copy_from_slice(&kind.to_le_bytes());
        both[8..].copy_from_slice(&what.to_le_bytes());
        xxh3_64(&both)
    };
    let inner = |bytes, role| print_at(bytes, role, depth + 1);
    let unordered = |prints: &mut dyn Iterator<Item = u64>| {
        prints.fold(0_u64, |sum, print| sum.wrapping_add(of(99, print)))
    };
    match item(bytes).filter(|_| depth < LOOKED) {
        Some(Item::Number(number)) => of(0, if role == As::Key { xxh3_64(number) } else { 0 }),
        Some(Item::Bytes(bytes)) => match embedded(bytes) {
            Some(cbor) => of(1, inner(cbor, role)),
            None => of(2, xxh3_64(bytes)),
        },
        Some(Item::Text(text)) => of(3, xxh3_64(text)),
        Some(Item::Array(elements)) => {
            of(4, unordered(&mut elements.map(|element| inner(element, role))))
        }
        Some(Item::Map(elements)) => {
            let entry = |(key, value)| of(inner(key, As::Key), inner(value, role));
            of(5, unordered(&mut elements.entries().map(entry)))
        }
        Some(Item::Tag(tag, value)) => of(6, of(tag, inner(value, role))),
        Some(Item::Simple(value)) => of(7, value),
        None => of(8, xxh3_64(bytes)),
    }
}

/// How what came back differs from what was sent, with the path; `None` if it does not.
pub(super) fn difference(sent: &[u8], back: &[u8]) -> Option<String> {
    differs(sent, back, As::Value)
}

/// The same, where numbers must be the same numbers.
#[cfg(feature = "testkit")]
pub(super) fn exact_difference(sent: &[u8], back: &[u8]) -> Option<String> {
    differs(sent, back, As::Key)
}

fn differs(sent: &[u8], back: &[u8], role: As) -> Option<String> {
    if sent == back || print(sent, role) == print(back, role) {
        return None;
    }
    let mut path = String::new();
    let reason = describe(sent, back, role, &mut path);
    Some(super::at(&path, reason))
}

/// The first place where they differ. The two do differ.
fn describe(sent: &[u8], back: &[u8], role: As, path: &mut String) -> String {
    let (Some(sent), Some(back)) = (item(sent), item(back)) else {
        return "it comes back as something else".to_owned();
    };
    match (&sent, &back) {
        (Item::Bytes(sent), Item::Bytes(back)) => match (embedded(sent), embedded(back)) {
            (Some(sent), Some(back)) => describe(sent, back, role, path),
            _ => "bytes come back as others".to_owned(),
        },
        (Item::Array(sent), Item::Array(back)) => {
            let (sents, backs) = (sent.clone().count(), back.clone().count());
            if sents != backs {
                return format!("{sents} elements come back as {backs}");
            }
            match (odd_one(sent, back, role), odd_one(back, sent, role)) {
                (Some((index, sent)), Some((_, back))) => {
                    path.push_str(&format!("[{index}]"));
                    describe(sent, back, role, path)
                }
                _ => "elements come back as others".to_owned(),
            }
        }
        (Item::Map(sent), Item::Map(back)) => {
            let mut backs = BTreeMap::<u64, &[u8]>::new();
            for (key, value) in back.clone().entries() {
                backs.entry(print(key, As::Key)).or_insert(value);
            }
            for (key, value) in sent.clone().entries() {
                match backs.get(&print(key, As::Key)) {
                    Some(other) if print(value, role) == print(other, role) => {}
                    Some(other) => {
                        push_key(key, path);
                        return describe(value, other, role, path);
                    }
                    None => {
                        push_key(key, path);
                        return "it does not come back".to_owned();
                    }
                }
            }
            "it comes back with more entries".to_owned()
        }
        (Item::Tag(_, sent), Item::Tag(_, back)) => describe(sent, back, role, path),
        (sent, back) if sent.name() == back.name() => {
            format!("{} comes back as another", sent.name())
        }
        (sent, back) => format!("{} comes back as {}", sent.name(), back.name()),
    }
}

/// The first element that none of the others matches, each of which matches one; with its index.
fn odd_one<'a>(
    elements: &Elements<'a>,
    others: &Elements<'_>,
    role: As,
) -> Option<(usize, &'a [u8])> {
    let mut left = BTreeMap::<u64, usize>::new();
    for other in others.clone() {
        *left.entry(print(other, role)).or_default() += 1;
    }
    elements.clone().enumerate().find(|(_, element)| match left.get_mut(&print(element, role)) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    })
}

fn push_key(key: &[u8], path: &mut String) {
    let text = match item(key) {
        Some(Item::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        Some(Item::Number(number)) => match ciborium::from_reader::<i64, _>(number) {
            Ok(number) => return path.push_str(&format!("[{number}]")),
            Err(_) => "?".to_owned(),
        },
        _ => "?".to_owned(),
    };
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&crate::model::words::cut(text, 64));
}
