//! Tables that fit into the terminal.

use crate::{
    paint::{Paint, Tone},
    text::{cut, cut_name, width},
};

/// Between two columns.
const GAP: usize = 2;

/// A column, and what happens to it when there is too little room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    head: &'static str,
    to_right: bool,
    is_node: bool,
    /// It is cut to no less than this; `None`: it is not cut.
    least: Option<usize>,
    /// The highest goes first; 0 stays.
    goes: u8,
}

impl Column {
    pub(crate) const fn text(head: &'static str) -> Self {
        Self { head, to_right: false, is_node: false, least: None, goes: 0 }
    }

    pub(crate) const fn number(head: &'static str) -> Self {
        Self { to_right: true, ..Self::text(head) }
    }

    /// Of nodes: the ends of their ids are not cut.
    pub(crate) const fn node(head: &'static str) -> Self {
        Self { is_node: true, ..Self::text(head) }.cut_to(14)
    }

    /// May be cut to so many columns of the terminal.
    pub(crate) const fn cut_to(self, least: usize) -> Self {
        Self { least: Some(least), ..self }
    }

    /// May be left out; the highest order goes first.
    pub(crate) const fn goes(self, order: u8) -> Self {
        Self { goes: order, ..self }
    }
}

/// One field, safe to show.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// In the colour that belongs to the word.
    pub(crate) fn state(word: impl ToString) -> Self {
        let text = word.to_string();
        Self { tone: Tone::of(&text), text }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: Tone::Plain }
    }
}

pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row with one cell for each column.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        let cells = cells.into();
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// The head and the rows. Columns without any text are left out.
    ///
    /// With a `room`, no line takes more columns of the terminal: first long columns are cut, then
    /// columns that may go are left out, and at last the lines are cut.
    pub(crate) fn lines(&self, room: Option<usize>, paint: Paint) -> Vec<String> {
        let shown = self.fit(room);
        let line = |cells: &[(&str, Tone)]| self.line(&shown, room, paint, cells);
        let head: Vec<_> = self.columns.iter().map(|column| (column.head, Tone::Head)).collect();
        let rows = self.rows.iter().map(|row| {
            line(&row.iter().map(|cell| (cell.text.as_str(), cell.tone)).collect::<Vec<_>>())
        });
        std::iter::once(line(&head)).chain(rows).collect()
    }

    fn line(
        &self,
        shown: &[(usize, usize)],
        room: Option<usize>,
        paint: Paint,
        cells: &[(&str, Tone)],
    ) -> String {
        let mut line = String::new();
        // Blanks are kept back until text follows: no line ends in them.
        let (mut left, mut blanks) = (room.unwrap_or(usize::MAX), 0);
        for (position, &(index, wanted)) in shown.iter().enumerate() {
            let gap = if position == 0 { 0 } else { GAP };
            let taken = wanted.min(left.saturating_sub(gap));
            let (text, tone) = cells[index];
            let is_node = self.columns[index].is_node;
            let text = if is_node { cut_name(text, taken) } else { cut(text, taken) };
            let blank = taken - width(&text);
            let before = if self.columns[index].to_right { blank } else { 0 };
            blanks += gap + before;
            if !text.is_empty() {
                line.extend(std::iter::repeat_n(' ', std::mem::take(&mut blanks)));
                line.push_str(&paint.on(tone, &text));
            }
            blanks += blank - before;
            left = left.saturating_sub(gap + taken);
        }
        line
    }

    /// The columns that are shown, with their widths.
    fn fit(&self, room: Option<usize>) -> Vec<(usize, usize)> {
        let mut shown: Vec<(usize, usize)> = (0..self.columns.len())
            .map(|index| (index, self.rows.iter().map(|row| width(&row[index].text)).max()))
            .filter(|(_, widest)| *widest != Some(0))
            .map(|(index, widest)| {
                (index, widest.unwrap_or(0).max(width(self.columns[index].head)))
            })
            .collect();
        let Some(room) = room else { return shown };
        let least = |(index, width): (usize, usize)| {
            self.columns[index].least.map_or(width, |least| least.min(width))
        };
        loop {
            let gaps = GAP * shown.len().saturating_sub(1);
            if shown.iter().map(|column| least(*column)).sum::<usize>() + gaps <= room {
                break;
            }
            let goes = |at: &usize| self.columns[shown[*at].0].goes;
            let Some(at) = (0..shown.len()).filter(|at| goes(at) > 0).max_by_key(goes) else {
                break;
            };
            shown.remove(at);
        }
        let gaps = GAP * shown.len().saturating_sub(1);
        while shown.iter().map(|(_, width)| width).sum::<usize>() + gaps > room {
            let can = |column: &&mut (usize, usize)| least(**column) < column.1;
            match shown.iter_mut().filter(can).max_by_key(|(_, width)| *width) {
                Some((_, width)) => *width -= 1,
                None => break,
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 4]]) -> Table {
        let mut table = Table::new([
            Column::text("ID").cut_to(6),
            Column::text("STATE"),
            Column::number("QUEUED").goes(1),
            Column::text("TAGS").cut_to(4).goes(2),
        ]);
        for [id, state, queued, tags] in rows {
            let plain = |text: &str| Cell::from(text.to_owned());
            table.row([plain(id), Cell::state(state), plain(queued), plain(tags)]);
        }
        table
    }

    fn lines(room: usize, rows: &[[&str; 4]]) -> Vec<String> {
        table(rows).lines(Some(room), Paint(false))
    }

    const ROWS: [[&str; 4]; 2] =
        [["room/lobby", "running", "7", "eu,test"], ["room/漢字漢字", "moving", "?", ""]];

    #[test]
    fn columns_stand_below_each_other_and_numbers_to_the_right() {
        let expected = [
            "ID             STATE    QUEUED  TAGS",
            "room/lobby     running       7  eu,test",
            "room/漢字漢字  moving        ?",
        ];
        assert_eq!(lines(80, &ROWS), expected);
        assert_eq!(table(&ROWS).lines(None, Paint(false)), expected);
    }

    #[test]
    fn long_cells_are_cut_before_columns_go() {
        let heads = |room: usize| lines(room, &ROWS)[0].split_whitespace().count();
        assert_eq!(
            lines(31, &ROWS),
            [
                "ID      STATE    QUEUED  TAGS",
                "room/…  running       7  eu,te…",
                "room/…  moving        ?",
            ]
        );
        assert_eq!([31, 25, 20].map(heads), [4, 3, 2]);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for room in 1..60 {
            for line in lines(room, &ROWS) {
                assert!(width(&line) <= room, "{line:?} in {room}");
                assert!(!line.ends_with(' '), "{line:?} in {room}");
            }
        }
    }

    #[test]
    fn colours_take_no_room() {
        let plain = lines(40, &ROWS);
        let painted = table(&ROWS).lines(Some(40), Paint(true));
        assert!(painted[1].contains("\x1b[32mrunning\x1b[0m"));
        for (plain, painted) in plain.iter().zip(painted) {
            let mut bare = painted;
            for code in ["\x1b[0m", "\x1b[1m", "\x1b[32m", "\x1b[36m"] {
                bare = bare.replace(code, "");
            }
            assert_eq!(*plain, bare);
        }
    }

    #[test]
    fn a_column_without_text_is_left_out_but_a_table_without_rows_keeps_its_head() {
        assert_eq!(lines(80, &[["a", "running", "", ""]]), ["ID  STATE", "a   running"]);
        assert_eq!(lines(80, &[]), ["ID  STATE  QUEUED  TAGS"]);
    }
}
