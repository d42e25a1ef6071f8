//! Environment variables as a tree that serde reads.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{
    Deserializer,
    de::{
        self, EnumAccess, IntoDeserializer, Unexpected, VariantAccess, Visitor,
        value::{MapDeserializer, SeqDeserializer, StrDeserializer},
    },
};

/// Names are taken apart at this.
const NESTS: &str = "__";

/// A value, or values by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    Text(String),
    Names(BTreeMap<String, Tree>),
}

/// A variable that is both a value and the first part of another's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clash(pub(crate) String);

impl Tree {
    /// The variables whose names begin with the prefix, by the rest of their names in lower case, which
    /// is taken apart at `__`.
    pub(crate) fn of(
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Clash> {
        let mut tree = Self::Names(BTreeMap::new());
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(prefix).filter(|rest| !rest.is_empty()) else {
                continue;
            };
            let mut place = &mut tree;
            for part in rest.split(NESTS) {
                let Self::Names(names) = place else { return Err(Clash(name)) };
                let empty = || Self::Names(BTreeMap::new());
                place = names.entry(part.to_lowercase()).or_insert_with(empty);
            }
            match place {
                Self::Names(names) if names.is_empty() => *place = Self::Text(value),
                _ => return Err(Clash(name)),
            }
        }
        Ok(tree)
    }

    fn parsed<T: FromStr, E: de::Error>(&self, what: &dyn de::Expected) -> Result<T, E> {
        match self {
            Self::Text(text) => text
                .trim()
                .replace('_', "")
                .parse()
                .map_err(|_| E::invalid_value(Unexpected::Str(text), what)),
            Self::Names(_) => Err(E::invalid_type(Unexpected::Map, what)),
        }
    }
}

/// Reads a value from variables.
#[derive(Clone, Debug)]
pub(crate) struct Reader(pub(crate) Tree);

/// Why a value could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ReadError(String);

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self(reason.to_string())
    }
}

impl IntoDeserializer<'_, ReadError> for Reader {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            let value: $type = self.0.parsed(&visitor)?;
            visitor.$visit(value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Tree::Text(text) => visitor.visit_string(text),
            Tree::Names(_) => self.deserialize_map(visitor),
        }
    }

    parsed!(
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_f32 visit_f32 f32,
        deserialize_f64 visit_f64 f64,
    );

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let text: String = self.0.parsed(&visitor)?;
        match text.to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => visitor.visit_bool(true),
            "false" | "no" | "off" | "0" => visitor.visit_bool(false),
            _ => Err(de::Error::invalid_value(Unexpected::Str(&text), &"true or false")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        // Set and empty is how a variable is unset where it cannot be taken away.
        match &self.0 {
            Tree::Text(text) if text.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    /// Elements with commas between them.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let text = match self.0 {
            Tree::Text(text) => text,
            Tree::Names(_) => return Err(de::Error::invalid_type(Unexpected::Map, &visitor)),
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parts = parts.map(|part| Self(Tree::Text(part.to_owned())));
        visitor.visit_seq(SeqDeserializer::new(parts))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Tree::Names(names) => {
                let names = names.into_iter().map(|(name, tree)| (name, Self(tree)));
                visitor.visit_map(MapDeserializer::new(names))
            }
            Tree::Text(text) => Err(de::Error::invalid_type(Unexpected::Str(&text), &visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.0 {
            Tree::Text(name) => visitor.visit_enum(Variant { name, value: None }),
            Tree::Names(names) if names.len() == 1 => {
                let (name, value) = names.into_iter().next().expect("there is one");
                visitor.visit_enum(Variant { name, value: Some(Self(value)) })
            }
            Tree::Names(_) => Err(de::Error::invalid_length(0, &"one of the variants")),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}

struct Variant {
    name: String,
    value: Option<Reader>,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = ReadError;
    type Variant = Value;

    fn variant_seed<S: de::DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Value), ReadError> {
        let name = StrDeserializer::new(&self.name);
        Ok((seed.deserialize(name)?, Value(self.value)))
    }
}

struct Value(Option<Reader>);

impl Value {
    fn content(self) -> Reader {
        self.0.unwrap_or(Reader(Tree::Names(BTreeMap::new())))
    }
}

impl<'de> VariantAccess<'de> for Value {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        match self.0 {
            None => Ok(()),
            Some(_) => Err(de::Error::invalid_type(Unexpected::Map, &"no more")),
        }
    }

    fn newtype_variant_seed<S: de::DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<S::Value, ReadError> {
        seed.deserialize(self.content())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.content().deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.content().deserialize_map(visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn tree(variables: &[(&str, &str)]) -> Result<Tree, Clash> {
        let owned = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Tree::of("APP_", owned)
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        count: u32,
        is_on: Option<bool>,
        names: Vec<String>,
        way: Way,
        inner: Inner,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Way {
        #[default]
        Straight,
        Around(Inner),
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Inner {
        bytes: usize,
    }

    fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
        let tree = tree(variables).expect("no two of them clash");
        Config::deserialize(Reader(tree)).map_err(|error| error.to_string())
    }

    #[test]
    fn names_nest_and_texts_become_what_is_wanted() {
        let config = read(&[
            ("APP_COUNT", "1_000"),
            ("APP_IS_ON", "yes"),
            ("APP_NAMES", "a, b,,c"),
            ("APP_WAY__AROUND__BYTES", "7"),
            ("APP_INNER__BYTES", " 8 "),
            ("OTHER_COUNT", "x"),
            ("APP_", "x"),
        ]);
        let expected = Config {
            count: 1_000,
            is_on: Some(true),
            names: vec!["a".into(), "b".into(), "c".into()],
            way: Way::Around(Inner { bytes: 7 }),
            inner: Inner { bytes: 8 },
        };
        assert_eq!(config, Ok(expected));
        assert_eq!(read(&[("APP_IS_ON", ""), ("APP_WAY", "straight")]), Ok(Config::default()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (name, value, why) in [
            ("APP_COUNT", "many", "\"many\""),
            ("APP_COUNT__BYTES", "1", "map"),
            ("APP_IS_ON", "perhaps", "true or false"),
            ("APP_INNER", "1", "\"1\""),
            ("APP_WAY", "nowhere", "nowhere"),
            ("APP_WAY__STRAIGHT__BYTES", "1", "no more"),
            ("APP_WAY__AROUND", "1", "\"1\""),
            ("APP_COLOUR", "red", "colour"),
        ] {
            let error = read(&[(name, value)]).expect_err(name);
            assert!(error.contains(why), "{name}: {error}");
        }
        let clash = tree(&[("APP_INNER", "1"), ("APP_INNER__BYTES", "2")]);
        assert_eq!(clash, Err(Clash("APP_INNER__BYTES".to_owned())));
        let clash = tree(&[("APP_INNER__BYTES", "2"), ("APP_INNER", "1")]);
        assert_eq!(clash, Err(Clash("APP_INNER".to_owned())));
    }
}
