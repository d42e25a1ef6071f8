//! Colours. They only repeat what words say already.

/// What a piece of text tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Good,
    Busy,
    Warn,
    Bad,
    Head,
    Faint,
}

impl Tone {
    /// The tone of a word that names a state, a status or a level.
    pub(crate) fn of(word: &str) -> Self {
        match word {
            "alive" | "up" | "running" | "done" | "active" => Self::Good,
            "moving" | "leaving" | "draining" | "starting" | "stopping" | "yielding" => Self::Busy,
            "suspect" | "drained" | "warn" | "waiting" => Self::Warn,
            "orphaned" | "failed" | "down" | "error" => Self::Bad,
            "self" | "info" | "debug" => Self::Faint,
            _ => Self::Plain,
        }
    }

    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Busy => Some("36"),
            Self::Warn => Some("33"),
            Self::Bad => Some("1;31"),
            Self::Head => Some("1"),
            Self::Faint => Some("2"),
        }
    }
}

/// Whether colours are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    /// The text in the colour of the tone.
    pub(crate) fn on(self, tone: Tone, text: &str) -> String {
        match tone.code() {
            Some(code) if self.0 && !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_the_text_stays_as_it_is() {
        assert_eq!(Paint(false).on(Tone::Bad, "down"), "down");
        assert_eq!(Paint(true).on(Tone::of("down"), "down"), "\x1b[1;31mdown\x1b[0m");
        assert_eq!(Paint(true).on(Tone::of("no such word"), "x"), "x");
    }
}
