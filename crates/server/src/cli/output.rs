//! How commands answer: for people, or with `--json` as one JSON document.

use std::io::{self, Write};

use serde_json::Value;

/// What a command answers, in both forms.
pub struct Answer {
    /// For people, without the last line break.
    pub text: String,
    /// For programs.
    pub json: Value,
}

impl Answer {
    /// Prints the one form or the other.
    pub fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json { say(&format!("{:#}", self.json)) } else { say(&self.text) }
    }
}

/// Prints to standard output, at once. Unlike `println!` it survives a reader that has gone.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    if !text.is_empty() {
        writeln!(stdout, "{text}")?;
    }
    stdout.flush()?;
    Ok(())
}

/// Rows under their headings, each column as wide as its widest cell.
pub fn columns<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let headings = headings.map(str::to_owned);
    let lines = || std::iter::once(&headings).chain(rows);
    let width = |column: usize| lines().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A path or other text as a shell reads it back.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["1".to_owned(), "Zoë".to_owned()], ["10".to_owned(), String::new()]];
        assert_eq!(columns(["id", "name"], &rows), "id  name\n1   Zoë\n10");
    }

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        assert_eq!(shell_word("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
