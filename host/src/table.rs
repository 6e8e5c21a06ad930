//! Tables for people.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr as _;

use crate::print::{harmless, in_colour};

/// What a cell says about its row's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// On its way, or asleep.
    Waiting,
    /// Somebody should look.
    Bad,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Waiting => "33",
            Self::Bad => "31",
        }
    }
}

/// One cell.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// A cell with a colour, where there are colours.
    pub(crate) fn toned(text: impl Into<String>, tone: Option<Tone>) -> Self {
        let text = text.into();
        Self { text: if text.is_empty() { "-".to_owned() } else { harmless(&text) }, tone }
    }

    fn render(&self, width: usize, colours: bool) -> String {
        let padding = " ".repeat(width.saturating_sub(self.text.width()));
        match self.tone.filter(|_| colours) {
            Some(tone) => format!("\x1b[{}m{}\x1b[0m{padding}", tone.code(), self.text),
            None => format!("{}{padding}", self.text),
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, None)
    }
}

/// Aligned columns under a header. An empty cell shows a dash.
pub(crate) struct Table<const N: usize> {
    rows: Vec<([Cell; N], String)>,
}

impl<const N: usize> Table<N> {
    /// A table with only a header.
    pub(crate) fn new(header: [&str; N]) -> Self {
        Self { rows: vec![(header.map(Cell::from), String::new())] }
    }

    /// One more row.
    pub(crate) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push((cells, String::new()));
    }

    /// Lines under the last row, indented.
    pub(crate) fn note(&mut self, lines: &str, indent: usize) {
        if let Some((_, note)) = self.rows.last_mut() {
            for line in lines.lines() {
                // Writing to a string does not fail.
                let _ = writeln!(note, "{:indent$}{}", "", harmless(line));
            }
        }
    }

    /// The table as text, for standard output.
    pub(crate) fn render(&self) -> String {
        self.render_for(in_colour())
    }

    /// The table as text, with colours or without.
    pub(crate) fn render_for(&self, colours: bool) -> String {
        let mut widths = [0; N];
        for (cells, _) in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.text.width());
            }
        }
        let mut text = String::new();
        for (cells, note) in &self.rows {
            let cells: Vec<_> =
                cells.iter().zip(widths).map(|(cell, width)| cell.render(width, colours)).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
            text.push_str(note);
        }
        text
    }
}

/// One thing at length: a line for each field that is known.
pub(crate) fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, Cell)>) -> String {
    let fields: Vec<_> = fields.into_iter().filter(|(_, cell)| cell.text != "-").collect();
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let colours = in_colour();
    fields.iter().map(|(name, cell)| format!("{name:width$}  {}\n", cell.render(0, colours))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_without_its_colour() {
        let mut table = Table::new(["NAME", "PHASE", "AGE"]);
        table.row(["日本".into(), "".into(), "1h".into()]);
        table.row(["älice".into(), Cell::toned("Failed", Some(Tone::Bad)), "5s".into()]);
        table.note("it broke\nand again", 4);
        table.row(["b\x1b[2J".into(), "".into(), "2h".into()]);
        assert_eq!(
            table.render_for(false),
            "NAME   PHASE   AGE\n日本   -       1h\nälice  Failed  5s\n    it broke\n    and again\nb\u{fffd}[2J  -       2h\n"
        );
        let coloured = table.render_for(true);
        assert!(coloured.contains("älice  \x1b[31mFailed\x1b[0m  5s\n"), "{coloured:?}");
    }

    #[test]
    fn fields_that_are_not_known_are_left_out() {
        assert_eq!(
            fields([("ID", "x".into()), ("NODE", "".into()), ("URL", "y".into())]),
            "ID   x\nURL  y\n"
        );
    }
}
