//! Words of others: of users' code, of libraries, of peers.

/// Bytes that are kept of what somebody else said: it goes into events and to other nodes.
const MOST: usize = 1_024;

/// The text, or its first 1,024 bytes.
pub(crate) fn brief(mut text: String) -> String {
    if text.len() > MOST {
        let whole = (0..=MOST).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(whole.unwrap_or_default());
        text.push_str(" …");
    }
    text
}

#[test]
fn a_long_text_is_cut_at_a_character() {
    assert_eq!(brief("short".to_owned()), "short");
    let long = brief("ä".repeat(2_000));
    assert_eq!(long, format!("{} …", "ä".repeat(512)));
    assert_eq!(brief(format!("x{}", "ä".repeat(2_000))), format!("x{} …", "ä".repeat(511)));
}
