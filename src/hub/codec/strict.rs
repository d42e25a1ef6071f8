//! A serializer in front of ciborium's that refuses what decoding would not give back.
//!
//! CBOR has one null: `None`, `()` and a unit struct are all written as that. So `Some` of one of them
//! would come back as `None` without a word. And what is nested deeper than decoding follows would be
//! written and never read. Both are seen from the calls that a value makes, without a look at its type
//! and without a copy of anything.
//!
//! The path of a refusal is gathered while its error returns through the containers, so a value that is
//! encoded pays for a depth and a flag, and for nothing else.

use std::{
    cell::{Cell, RefCell},
    fmt::{self, Write as _},
};

use ciborium::value::Value;
use serde::{
    Serialize,
    ser::{self, Serializer},
};

/// Containers within each other that ciborium decodes. An enum counts as one, and its fields as
/// another.
pub(super) const DEEPEST: u16 = 256;

/// Steps of a path that are shown.
const MOST_STEPS: usize = 24;

/// What is done with `Some` of a null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nulls {
    Refuse,
    Count,
}

/// Why a value was refused, though its own `Serialize` did not mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `Some` of what is written as null.
    SomeNull,
    /// It is nested too deep.
    Depth,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SomeNull => "`Some` of a value that is written as null comes back as `None`",
            Self::Depth => "it is nested deeper than 256 levels, which cannot be read back",
        })
    }
}

/// One step of the way to a value.
enum Step {
    Field(&'static str),
    Index(usize),
    Key(String),
}

/// What is known of one run of the serializer.
pub(super) struct Watch {
    nulls: Nulls,
    some_nulls: Cell<usize>,
    refusal: Cell<Option<Refusal>>,
    /// The innermost step first.
    path: RefCell<Vec<Step>>,
}

impl Watch {
    pub(super) fn new(nulls: Nulls) -> Self {
        Self { nulls, some_nulls: Cell::new(0), refusal: Cell::new(None), path: RefCell::default() }
    }

    /// A value to give to ciborium in the place of `value`.
    pub(super) fn over<'a, T: ?Sized>(&'a self, value: &'a T) -> Watched<'a, T> {
        Watched { value, watch: self, at: At { depth: 0, in_some: false } }
    }

    /// How often `Some` of a null was written.
    pub(super) fn some_nulls(&self) -> usize {
        self.some_nulls.get()
    }

    /// Why it was refused, if it was not the value itself that failed.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get()
    }

    /// Where an error came from, as in `players[3].nick`; empty for the value itself.
    pub(super) fn path(&self) -> String {
        let path = self.path.borrow();
        let mut text = String::new();
        for (shown, step) in path.iter().rev().enumerate() {
            if shown == MOST_STEPS {
                text.push_str("..");
                break;
            }
            let dot = if text.is_empty() { "" } else { "." };
            // A `String` takes everything.
            let _ = match step {
                Step::Field(name) => write!(text, "{dot}{name}"),
                Step::Index(index) => write!(text, "[{index}]"),
                Step::Key(key) => write!(text, "[{key}]"),
            };
        }
        text
    }

    fn step(&self, step: impl FnOnce() -> Step) {
        self.path.borrow_mut().push(step());
    }

    fn refuse<E: ser::Error>(&self, refusal: Refusal) -> E {
        self.refusal.set(Some(refusal));
        E::custom(refusal)
    }
}

/// Where in a value the serializer is.
#[derive(Clone, Copy)]
struct At {
    /// Containers around it.
    depth: u16,
    /// The next thing that is written is what `Some` holds.
    in_some: bool,
}

/// A value that is serialized under a [`Watch`].
pub(super) struct Watched<'a, T: ?Sized> {
    value: &'a T,
    watch: &'a Watch,
    at: At,
}

impl<T: Serialize + ?Sized> Serialize for Watched<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Strict { inner: serializer, watch: self.watch, at: self.at })
    }
}

struct Strict<'w, S> {
    inner: S,
    watch: &'w Watch,
    at: At,
}

impl<'w, S: Serializer> Strict<'w, S> {
    /// Goes `levels` containers deeper.
    fn deeper(&self, levels: u16) -> Result<At, S::Error> {
        let depth = self.at.depth + levels;
        if depth > DEEPEST {
            return Err(self.watch.refuse(Refusal::Depth));
        }
        Ok(At { depth, in_some: false })
    }

    fn null(&self) -> Result<(), S::Error> {
        if self.at.in_some {
            if self.watch.nulls == Nulls::Refuse {
                return Err(self.watch.refuse(Refusal::SomeNull));
            }
            self.watch.some_nulls.set(self.watch.some_nulls.get() + 1);
        }
        Ok(())
    }

    fn container<C>(
        self,
        levels: u16,
        variant: Option<&'static str>,
        open: impl FnOnce(S) -> Result<C, S::Error>,
    ) -> Result<Container<'w, C>, S::Error> {
        let at = self.deeper(levels)?;
        let inner = open(self.inner)?;
        Ok(Container { inner, watch: self.watch, at, variant, index: 0 })
    }
}

macro_rules! scalars {
    ($($name:ident: $type:ty),* $(,)?) => {$(
        fn $name(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$name(value)
        }
    )*};
}

impl<'w, S: Serializer> Serializer for Strict<'w, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Container<'w, S::SerializeSeq>;
    type SerializeTuple = Container<'w, S::SerializeTuple>;
    type SerializeTupleStruct = Container<'w, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Container<'w, S::SerializeTupleVariant>;
    type SerializeMap = Container<'w, S::SerializeMap>;
    type SerializeStruct = Container<'w, S::SerializeStruct>;
    type SerializeStructVariant = Container<'w, S::SerializeStructVariant>;

    scalars! {
        serialize_bool: bool,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64,
        serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.null()?;
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let at = At { in_some: true, ..self.at };
        self.inner.serialize_some(&Watched { value, watch: self.watch, at })
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.null()?;
        self.inner.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.null()?;
        self.inner.serialize_unit_struct(name)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.deeper(1)?;
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let watched = Watched { value, watch: self.watch, at: self.at };
        self.inner.serialize_newtype_struct(name, &watched)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let at = self.deeper(1)?;
        let watched = Watched { value, watch: self.watch, at };
        let written = self.inner.serialize_newtype_variant(name, index, variant, &watched);
        if written.is_err() {
            self.watch.step(|| Step::Field(variant));
        }
        written
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.container(1, None, |inner| inner.serialize_seq(length))
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.container(1, None, |inner| inner.serialize_tuple(length))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.container(1, None, |inner| inner.serialize_tuple_struct(name, length))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.container(2, Some(variant), |inner| {
            inner.serialize_tuple_variant(name, index, variant, length)
        })
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.container(1, None, |inner| inner.serialize_map(length))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        self.container(1, None, |inner| inner.serialize_struct(name, length))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.container(2, Some(variant), |inner| {
            inner.serialize_struct_variant(name, index, variant, length)
        })
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A container that is open.
struct Container<'w, C> {
    inner: C,
    watch: &'w Watch,
    /// Of what it holds.
    at: At,
    /// The variant that it belongs to.
    variant: Option<&'static str>,
    /// Elements before the next one.
    index: usize,
}

impl<'w, C> Container<'w, C> {
    /// Writes what it holds next; the step that leads there is asked for if that fails.
    fn put<T: ?Sized, E>(
        &mut self,
        value: &T,
        step: impl FnOnce(usize) -> Step,
        write: impl FnOnce(&mut C, &Watched<'_, T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let watched = Watched { value, watch: self.watch, at: self.at };
        let written = write(&mut self.inner, &watched);
        if written.is_err() {
            self.watch.step(|| step(self.index));
            if let Some(variant) = self.variant {
                self.watch.step(|| Step::Field(variant));
            }
        }
        self.index += 1;
        written
    }
}

macro_rules! sequences {
    ($($trait:ident: $method:ident),* $(,)?) => {$(
        impl<C: ser::$trait> ser::$trait for Container<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.put(value, Step::Index, |inner, value| inner.$method(value))
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

sequences! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! structs {
    ($($trait:ident),* $(,)?) => {$(
        impl<C: ser::$trait> ser::$trait for Container<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), C::Error> {
                let write = |inner: &mut C, value: &Watched<'_, T>| inner.serialize_field(key, value);
                self.put(value, |_| Step::Field(key), write)
            }

            fn skip_field(&mut self, key: &'static str) -> Result<(), C::Error> {
                self.inner.skip_field(key)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

structs!(SerializeStruct, SerializeStructVariant);

impl<C: ser::SerializeMap> ser::SerializeMap for Container<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        let index = self.index;
        let written = self.put(key, Step::Index, |inner, key| inner.serialize_key(key));
        self.index = index;
        written
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.put(value, Step::Index, |inner, value| inner.serialize_value(value))
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), C::Error> {
        self.serialize_key(key)?;
        self.put(
            value,
            |index| key_step(key).unwrap_or(Step::Index(index)),
            |inner, value| inner.serialize_value(value),
        )
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

/// How a key is shown, if it is a text or a number.
fn key_step<K: Serialize + ?Sized>(key: &K) -> Option<Step> {
    Some(match Value::serialized(key).ok()? {
        Value::Text(text) => Step::Key(format!("{:?}", crate::model::words::cut(text, 64))),
        Value::Integer(number) => Step::Key(i128::from(number).to_string()),
        _ => return None,
    })
}
