//! Words of others: of users' code, of libraries, of peers.

/// Bytes that are kept of what somebody else said: it goes into events and to other nodes.
const MOST: usize = 1_024;

/// What stands in the place of what was cut off.
const CUT: &str = " …";

/// The text, or its first 1,024 bytes and a mark that it was cut.
pub(crate) fn brief(text: String) -> String {
    cut(text, MOST + CUT.len())
}

/// The text, if it has at most so many bytes; else as much of it as they hold, with a mark that it
/// was cut.
pub(crate) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let most = most.saturating_sub(CUT.len());
        let whole = (0..=most).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(whole.unwrap_or_default());
        text.push_str(CUT);
    }
    text
}

#[test]
fn a_long_text_is_cut_at_a_character() {
    assert_eq!(brief("short".to_owned()), "short");
    let long = brief("ä".repeat(2_000));
    assert_eq!(long, format!("{} …", "ä".repeat(512)));
    assert_eq!(brief(format!("x{}", "ä".repeat(2_000))), format!("x{} …", "ä".repeat(511)));
    assert_eq!(cut("0123456789".to_owned(), 10), "0123456789");
    assert_eq!(cut("0123456789a".to_owned(), 10), "012345 …");
}
