//! What can go wrong, in words and as an exit code.

use std::{fmt, io, process::ExitCode};

use serde::Deserialize;
use serde_json::Value;

use crate::text::{Text, cut, escape};

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Failure {
    /// The command line is wrong; nothing was sent that changes anything.
    #[error("{0}")]
    Usage(String),
    /// The endpoint said no.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// No answer came. What was `sent` may have been done all the same.
    #[error("{url} could not be reached: {reason}")]
    Unreachable { url: String, reason: String, sent: bool },
    /// An answer came that is none of this endpoint's.
    #[error("{url} gave an answer that hubctl does not know: {reason}")]
    Odd { url: String, reason: String },
    /// The question whether it shall be done was answered with no.
    #[error("nothing was done")]
    Declined,
    /// A file could not be read.
    #[error("{file} could not be read")]
    File {
        file: String,
        #[source]
        source: io::Error,
    },
    /// Standard input or output is gone.
    #[error("the terminal or pipe is gone")]
    Output(#[from] io::Error),
}

impl Failure {
    /// 2 for wrong usage, 1 for all else; 0 when the reader of the output has seen enough.
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::File { .. } => ExitCode::from(2),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }

    /// Whether the same may go well a little later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Refused(problem) => matches!(problem.status, 408 | 429 | 500..),
            Self::Unreachable { .. } => true,
            _ => false,
        }
    }
}

/// Problem details (RFC 9457).
#[derive(Debug, Deserialize)]
pub(crate) struct Problem {
    #[serde(default)]
    title: Text,
    #[serde(default)]
    status: u16,
    detail: Option<Text>,
    instance: Option<Text>,
    #[serde(rename = "type")]
    kind: Option<Text>,
    #[serde(default)]
    errors: Vec<Value>,
    /// Seconds, from the header `Retry-After`.
    #[serde(skip)]
    retry_after: Option<Text>,
}

impl Problem {
    /// From an answer that is not 2xx. A body that is no problem document, such as a proxy's page,
    /// is shown by its first line.
    pub(crate) fn of(status: u16, body: &str, retry_after: Option<&str>) -> Self {
        let mut problem = serde_json::from_str(body).unwrap_or_else(|_| {
            let line = body.trim().lines().next().unwrap_or_default();
            let detail = match (line, status) {
                ("", 404) => Some("nothing answers there; is the URL right?".to_owned()),
                ("", _) => None,
                (line, _) => Some(cut(line, 200).into_owned()),
            };
            let detail = detail.map(Text);
            Self {
                title: Text::default(),
                status,
                detail,
                instance: None,
                kind: None,
                errors: Vec::new(),
                retry_after: None,
            }
        });
        // The one of HTTP counts, whatever the document says.
        problem.status = status;
        if problem.title.0.is_empty() {
            problem.title = Text("The endpoint said no".into());
        }
        problem.retry_after = retry_after.map(|after| Text(after.to_owned()));
        problem
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.title, self.status)?;
        if let Some(detail) = &self.detail {
            write!(f, "\n  {detail}")?;
        }
        for error in &self.errors {
            let text = error.get("detail").or_else(|| error.get("message")).unwrap_or(error);
            let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
            write!(f, "\n  - {}", escape(&text))?;
            if let Some(at) = error.get("pointer").and_then(Value::as_str) {
                write!(f, " (at {})", escape(at))?;
            }
        }
        if let Some(kind) = self.kind.as_ref().filter(|kind| kind.0 != "about:blank") {
            write!(f, "\n  see {kind}")?;
        }
        if let Some(instance) = &self.instance {
            write!(f, "\n  instance {instance}")?;
        }
        match (&self.retry_after, self.status) {
            (Some(after), _) => write!(f, "\n  try again in {after} s"),
            (None, 401) => write!(f, "\n  HUBCTL_TOKEN or --token-file gives a token"),
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_with_title_status_and_detail() {
        let body = r#"{"type":"about:blank","title":"Conflict","status":409,
            "detail":"room/lobby stays on a: b is leaving",
            "errors":["one",{"detail":"two","pointer":"/to"},{"x":3}]}"#;
        assert_eq!(
            Problem::of(409, body, None).to_string(),
            "Conflict (409)\n  room/lobby stays on a: b is leaving\n  - one\n  - two (at /to)\n  - {\"x\":3}"
        );
    }

    #[test]
    fn a_problem_cannot_steer_the_terminal() {
        let body = "{\"title\":\"\\u001b[2J\",\"detail\":\"a\\nb\",\"errors\":[\"\\u0007\"],\"instance\":\"\\u009b\"}";
        let shown = Problem::of(400, body, Some("\u{9b}")).to_string();
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(
            lines,
            [
                "\\u{1b}[2J (400)",
                "  a\\nb",
                "  - \\u{7}",
                "  instance \\u{9b}",
                "  try again in \\u{9b} s"
            ]
        );
    }

    #[test]
    fn an_answer_that_is_no_problem_document_is_shown_by_its_first_line() {
        let shown = Problem::of(502, "<html>\n<body>", None).to_string();
        assert_eq!(shown, "The endpoint said no (502)\n  <html>");
        assert!(Problem::of(404, "", None).to_string().ends_with("is the URL right?"));
        assert_eq!(Problem::of(500, "", None).to_string(), "The endpoint said no (500)");
        assert_eq!(Problem::of(500, "[]", None).to_string(), "The endpoint said no (500)\n  []");
    }

    #[test]
    fn what_can_be_done_is_said() {
        assert!(Problem::of(401, "{}", None).to_string().ends_with("gives a token"));
        assert!(Problem::of(429, "{}", Some("3")).to_string().ends_with("try again in 3 s"));
    }

    #[test]
    fn only_refusals_that_may_pass_are_tried_again() {
        let refused = |status| Failure::Refused(Problem::of(status, "{}", None).into()).may_pass();
        assert_eq!([400, 401, 403, 404].map(refused), [false; 4]);
        assert_eq!([429, 503, 504].map(refused), [true; 3]);
    }
}
