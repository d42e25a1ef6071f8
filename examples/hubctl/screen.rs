//! Standard output and standard error.

use std::io::{self, IsTerminal as _, Write as _};

use crate::{
    client::Reply,
    options::Color,
    paint::{Paint, Tone},
    table::Table,
    text::json_line,
};

/// Where and how output is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Replies are shown as they came.
    pub(crate) json: bool,
    pub(crate) paint: Paint,
    notes: Paint,
}

impl Screen {
    pub(crate) fn new(json: bool, color: Color) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let is_painted = |is_terminal| match color {
            Color::Auto => is_terminal && wanted,
            Color::Always => true,
            Color::Never => false,
        };
        Self {
            json,
            paint: Paint(is_painted(io::stdout().is_terminal())),
            notes: Paint(is_painted(io::stderr().is_terminal())),
        }
    }

    /// Columns and lines of the terminal; `None` if standard output is none.
    pub(crate) fn size(self) -> Option<(usize, usize)> {
        if !io::stdout().is_terminal() {
            return None;
        }
        let size = terminal_size::terminal_size_of(io::stdout());
        let size = size.map(|(width, height)| (usize::from(width.0), usize::from(height.0)));
        Some(size.filter(|(width, height)| *width > 0 && *height > 0).unwrap_or((80, 24)))
    }

    pub(crate) fn width(self) -> Option<usize> {
        self.size().map(|(width, _)| width)
    }

    /// One or more whole lines.
    pub(crate) fn print(self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }

    pub(crate) fn print_json(self, reply: &Reply) -> io::Result<()> {
        self.print(&json_line(&reply.body))
    }

    pub(crate) fn print_table(self, table: &Table) -> io::Result<()> {
        self.print(&table.lines(self.width(), self.paint).join("\n"))
    }

    pub(crate) fn head(self, text: &str) -> String {
        self.paint.on(Tone::Head, text)
    }

    /// Tells why the program ends.
    pub(crate) fn fail(self, text: &str) {
        self.note(Tone::Plain, &format!("{} {text}", self.notes.on(Tone::Bad, "error:")));
    }

    /// Tells something beside the output. It is no failure if nobody can see it.
    pub(crate) fn note(self, tone: Tone, text: &str) {
        let _ = writeln!(io::stderr(), "{}", self.notes.on(tone, text));
    }
}
