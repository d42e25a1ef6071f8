//! Where a message belongs in a distributed trace.

use std::{fmt, str::FromStr};

/// A position in a distributed trace, as W3C Trace Context has it: the trace, the span that caused
/// what follows, and whether the trace is recorded.
///
/// ```
/// use actix_hub::TraceContext;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let context: TraceContext = text.parse().unwrap();
/// assert_eq!(context.span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
/// assert!(context.is_sampled());
/// assert_eq!(context.to_string(), text);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace; not all zero.
    pub trace_id: [u8; 16],
    /// The span that caused what follows; not all zero.
    pub span_id: [u8; 8],
    /// The trace flags; bit 0: the trace is recorded.
    pub flags: u8,
}

impl TraceContext {
    /// Whether the trace is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// Whether both ids are such as the standard allows.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.trace_id != [0; 16] && self.span_id != [0; 8]
    }
}

/// As the header `traceparent`, version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// A text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no traceparent of version 00: 00-<32 hex digits>-<16 hex digits>-<2 hex digits>")]
pub struct InvalidTraceParent;

impl FromStr for TraceContext {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
            let digits = text.as_bytes();
            let is_hex = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
            if digits.len() != 2 * N || !digits.iter().all(is_hex) {
                return None;
            }
            let mut bytes = [0; N];
            for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
                let pair = std::str::from_utf8(pair).ok()?;
                *byte = u8::from_str_radix(pair, 16).ok()?;
            }
            Some(bytes)
        }
        let mut parts = text.split('-');
        let parts = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
        let (Some("00"), Some(trace), Some(span), Some(flags), None) = parts else {
            return Err(InvalidTraceParent);
        };
        let [flags] = bytes(flags).ok_or(InvalidTraceParent)?;
        let context = Self {
            trace_id: bytes(trace).ok_or(InvalidTraceParent)?,
            span_id: bytes(span).ok_or(InvalidTraceParent)?,
            flags,
        };
        if context.is_valid() { Ok(context) } else { Err(InvalidTraceParent) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_trace_parent_is_refused() {
        for text in [
            "",
            "00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033-01",
            "00-0af7651916cd43dd8448eb211c80319é-b7ad6b7169203331-01",
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(InvalidTraceParent), "{text}");
        }
    }
}
