//! CBOR for people: diagnostic notation (RFC 8949, section 8), and JSON where there is one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ciborium::Value;

/// The one value that these bytes are. `None`: they are no CBOR, or there is more behind it.
pub(crate) fn value(mut bytes: &[u8]) -> Option<Value> {
    let value = ciborium::from_reader(&mut bytes).ok()?;
    bytes.is_empty().then_some(value)
}

/// The diagnostic notation of a value. A byte string that is CBOR itself, as the states of
/// `hot_swap!` are, is written as what it holds, between `<<` and `>>`.
pub(crate) fn notation(value: &Value) -> String {
    let mut text = String::new();
    match embedded(value) {
        Some(inner) => {
            text.push_str("<<");
            write(&inner, &mut text);
            text.push_str(">>");
        }
        None => write(value, &mut text),
    }
    text
}

fn embedded(value: &Value) -> Option<Value> {
    self::value(value.as_bytes()?)
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Integer(number) => text.push_str(&i128::from(*number).to_string()),
        Value::Float(number) if number.is_nan() => text.push_str("NaN"),
        Value::Float(number) if number.is_infinite() => {
            text.push_str(if *number > 0.0 { "Infinity" } else { "-Infinity" });
        }
        Value::Float(number) => text.push_str(&format!("{number:?}")),
        Value::Bool(is) => text.push_str(if *is { "true" } else { "false" }),
        Value::Null => text.push_str("null"),
        Value::Text(words) => text.push_str(&serde_json::Value::from(words.as_str()).to_string()),
        Value::Bytes(bytes) => {
            text.push_str("h'");
            for byte in bytes {
                text.push_str(&format!("{byte:02x}"));
            }
            text.push('\'');
        }
        Value::Array(items) => {
            list(text, ('[', ']'), items.len(), |text, at| write(&items[at], text));
        }
        Value::Map(pairs) => list(text, ('{', '}'), pairs.len(), |text, at| {
            write(&pairs[at].0, text);
            text.push_str(": ");
            write(&pairs[at].1, text);
        }),
        Value::Tag(tag, inner) => {
            text.push_str(&format!("{tag}("));
            write(inner, text);
            text.push(')');
        }
        _ => text.push_str("undefined"),
    }
}

fn list(text: &mut String, ends: (char, char), len: usize, item: impl Fn(&mut String, usize)) {
    text.push(ends.0);
    for at in 0..len {
        if at > 0 {
            text.push_str(", ");
        }
        item(text, at);
    }
    text.push(ends.1);
}

/// The value as JSON, or what it holds if it is CBOR itself: bytes as base64, tags left out.
/// `None` where JSON cannot say it: keys that are no text or come twice, numbers that are none of
/// JSON's.
pub(crate) fn json(value: &Value) -> Option<serde_json::Value> {
    embedded(value).map_or_else(|| plain(value), |inner| plain(&inner))
}

fn plain(value: &Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::Integer(number) => {
            let number = i128::from(*number);
            let small = i64::try_from(number).map(serde_json::Value::from);
            small.or_else(|_| u64::try_from(number).map(serde_json::Value::from)).ok()?
        }
        Value::Float(number) => serde_json::Number::from_f64(*number)?.into(),
        Value::Bool(is) => (*is).into(),
        Value::Null => serde_json::Value::Null,
        Value::Text(words) => words.as_str().into(),
        Value::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Value::Array(items) => items.iter().map(plain).collect::<Option<Vec<_>>>()?.into(),
        Value::Map(pairs) => {
            let mut object = serde_json::Map::new();
            for (key, value) in pairs {
                if object.insert(key.as_text()?.to_owned(), plain(value)?).is_some() {
                    return None;
                }
            }
            object.into()
        }
        Value::Tag(_, inner) => plain(inner)?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_standard_has_them() {
        let value = Value::Map(vec![
            (Value::Text("a\n".into()), Value::Array(vec![1.into(), (-2).into(), Value::Null])),
            (Value::Integer(7.into()), Value::Tag(32, Box::new(Value::Bytes(vec![1, 0xab])))),
            (Value::Bool(true), Value::Float(f64::NEG_INFINITY)),
        ]);
        let expected = r#"{"a\n": [1, -2, null], 7: 32(h'01ab'), true: -Infinity}"#;
        assert_eq!(notation(&value), expected);
        assert_eq!(json(&value), None, "JSON has no such keys");
    }

    #[test]
    fn a_state_that_was_encoded_before_is_shown_as_what_it_holds() {
        let held = Value::Bytes(vec![0xa1, 0x61, b'n', 7]);
        assert_eq!(notation(&held), r#"<<{"n": 7}>>"#);
        assert_eq!(json(&held), Some(serde_json::json!({ "n": 7 })));
        assert_eq!(notation(&Value::Bytes(vec![7, 7])), "h'0707'", "more than one value");
    }

    #[test]
    fn json_is_given_where_it_can_say_the_same() {
        let value = Value::Map(vec![(
            Value::Text("n".into()),
            Value::Array(vec![Value::Integer(u64::MAX.into()), Value::Bytes(vec![0xff])]),
        )]);
        assert_eq!(json(&value), Some(serde_json::json!({ "n": [u64::MAX, "/w=="] })));
        assert_eq!(json(&Value::Float(f64::NAN)), None);
        let twice = || (Value::Text("n".into()), Value::Null);
        assert_eq!(json(&Value::Map(vec![twice(), twice()])), None);
    }
}
