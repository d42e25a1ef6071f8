//! What a deployment says of where a node is, and what it has.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The labels of a node: values by key, such as `zone=a`, in the order of their keys.
///
/// At most 16, of at most 1,024 bytes together. A key has 1 to 64 bytes of `A-Z a-z 0-9 _ - . /`; a
/// value has at most 128 bytes of UTF-8 without commas, control characters, and white space at its
/// ends. They are set with [`HubBuilder::label`](crate::HubBuilder::label) and stay as they are while
/// the node runs. None unless set.
///
/// As text, and in the environment: `zone=a,rack=3`. On the wire and in JSON: a map.
///
/// ```
/// use actix_hub::Labels;
///
/// let labels: Labels = "zone=a, rack=3".parse().unwrap();
/// assert_eq!(labels.get("zone"), Some("a"));
/// assert_eq!(labels.to_string(), "rack=3,zone=a");
/// assert!("zone".parse::<Labels>().is_err());
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<BTreeMap<String, String>>);

/// Why labels are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label {label:?} is not valid: {rule}")]
#[non_exhaustive]
pub struct InvalidLabel {
    /// The label, at most its first 64 characters: its key, or what was no key and value.
    pub label: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl InvalidLabel {
    fn new(label: &str, rule: &'static str) -> Self {
        Self { label: label.chars().take(64).collect(), rule }
    }
}

fn check(key: &str, value: &str) -> Result<(), &'static str> {
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.' | b'/');
    if !(1..=64).contains(&key.len()) || !key.bytes().all(fits) {
        return Err("a key has 1 to 64 characters of A-Z a-z 0-9 _ - . /");
    }
    let is_odd = |c: char| c == ',' || c.is_control();
    if value.len() > 128 || value.contains(is_odd) || value.trim() != value {
        return Err(
            "a value has at most 128 bytes, without commas, control characters, and white \
                    space at its ends",
        );
    }
    Ok(())
}

impl Labels {
    /// At most so many labels has a node.
    pub const MOST: usize = 16;
    /// At most so many bytes have their keys and values together.
    pub const MOST_BYTES: usize = 1_024;

    /// Checks the labels. Of two with one key the later one counts.
    ///
    /// # Errors
    /// [`InvalidLabel`] names the first that does not have its shape, or with which they are too many.
    pub fn new<K: AsRef<str>, V: AsRef<str>>(
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, InvalidLabel> {
        let mut checked = BTreeMap::new();
        let mut bytes = 0;
        for (key, value) in labels {
            let (key, value) = (key.as_ref(), value.as_ref());
            check(key, value).map_err(|rule| InvalidLabel::new(key, rule))?;
            bytes += value.len();
            match checked.insert(key.to_owned(), value.to_owned()) {
                Some(earlier) => bytes -= earlier.len(),
                None => bytes += key.len(),
            }
            if checked.len() > Self::MOST {
                return Err(InvalidLabel::new(key, "a node has at most 16 labels"));
            }
            if bytes > Self::MOST_BYTES {
                let rule = "the labels of a node have at most 1,024 bytes together";
                return Err(InvalidLabel::new(key, rule));
            }
        }
        Ok(Self(Arc::new(checked)))
    }

    /// The value of a label, if the node has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The labels, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl FromStr for Labels {
    type Err = InvalidLabel;

    /// Reads `zone=a,rack=3`; white space around a label counts for nothing.
    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let mut labels = BTreeMap::new();
        for part in parts {
            let Some((key, value)) = part.split_once('=') else {
                return Err(InvalidLabel::new(part, "it has no value, as in zone=a"));
            };
            if labels.insert(key.trim_end(), value.trim_start()).is_some() {
                return Err(InvalidLabel::new(key, "it is there twice"));
            }
        }
        Self::new(labels)
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels such as zone=a, or a map of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Labels, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels: Vec<(String, String)> = Vec::new();
                while let Some(label) = map.next_entry()? {
                    if labels.len() == Labels::MOST {
                        return Err(de::Error::invalid_length(labels.len() + 1, &"at most 16"));
                    }
                    labels.push(label);
                }
                Labels::new(labels).map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_label_that_does_not_fit_is_named_with_the_rule() {
        for (text, label, rule) in [
            ("zone", "zone", "no value"),
            ("zone=a,=b", "", "1 to 64"),
            ("zone a=b", "zone a", "A-Z"),
            ("zone=a\u{7}b", "zone", "control"),
            ("zone=a,zone=b", "zone", "twice"),
        ] {
            let error = text.parse::<Labels>().expect_err(text);
            assert_eq!(error.label, label);
            assert!(error.to_string().contains(rule), "{error}");
        }
        for (key, value) in [("zone", "a,b"), ("zone", " a"), ("zone", "a ")] {
            assert!(Labels::new([(key, value)]).is_err(), "{value:?}");
        }
        let long = "x".repeat(129);
        assert!(Labels::new([("zone", &long)]).is_err());
        assert!(Labels::new([(&long, "a")]).is_err());
    }

    #[test]
    fn labels_are_bounded_in_count_and_in_bytes() {
        let many = |count: usize, bytes: usize| {
            Labels::new((0..count).map(|n| (format!("{n:02}"), "x".repeat(bytes))))
        };
        assert_eq!(many(16, 62).map(|labels| labels.len()), Ok(16), "16 of 64 bytes");
        let error = many(17, 1).expect_err("17");
        assert_eq!((error.label.as_str(), error.rule), ("16", "a node has at most 16 labels"));
        let error = many(16, 63).expect_err("16 of 65 bytes");
        assert!(error.rule.contains("1,024 bytes"), "{error}");
        let again = (0..100).map(|n| ("zone", format!("{n:064}")));
        assert_eq!(Labels::new(again).map(|labels| labels.len()), Ok(1), "the last one counts");
    }

    #[test]
    fn what_a_peer_sends_is_bounded() {
        let decode = |labels: Vec<(String, String)>| {
            let map: BTreeMap<_, _> = labels.into_iter().collect();
            let mut cbor = Vec::new();
            ciborium::into_writer(&map, &mut cbor).expect("it encodes");
            ciborium::from_reader::<Labels, _>(&cbor[..]).map_err(|error| error.to_string())
        };
        let labels = |count: usize| (0..count).map(|n| (format!("k{n}"), String::new())).collect();
        assert_eq!(decode(labels(16)).map(|labels| labels.len()), Ok(16));
        assert!(decode(labels(17)).is_err_and(|error| error.contains("at most 16")));
        assert!(decode(vec![("a b".into(), String::new())]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn labels_read_back_from_text_and_from_cbor(
            pairs in proptest::collection::vec(("[a-zA-Z0-9_./-]{1,8}", "[^,\\pC\\s]{0,4}( =[^,\\pC\\s])?"), 0..20),
        ) {
            if let Ok(labels) = Labels::new(pairs) {
                prop_assert_eq!(labels.to_string().parse::<Labels>(), Ok(labels.clone()));
                let mut cbor = Vec::new();
                ciborium::into_writer(&labels, &mut cbor).expect("it encodes");
                prop_assert_eq!(ciborium::from_reader::<Labels, _>(&cbor[..]).ok(), Some(labels));
            }
        }
    }
}
