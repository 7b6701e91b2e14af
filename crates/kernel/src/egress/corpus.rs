//! `corpus.txt`, read: targets that somebody could type in, and what has to become of each. The policy's own tests judge
//! every line, and the server's end-to-end test sends every line; what the columns mean, the file says itself.

const CORPUS: &str = include_str!("corpus.txt");

/// The lines that begin with that word: what follows it, and what stands right of the bar.
///
/// # Panics
/// Where a line has no bar.
pub fn lines(word: &str) -> Vec<(&'static str, String)> {
    let lines = CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &'static str| {
        let (left, right) = line.split_once(" | ").unwrap_or_else(|| panic!("no bar: {line}"));
        let rest = left.strip_prefix(word)?;
        (rest.is_empty() || rest.starts_with(' ')).then(|| (rest.trim(), unescape(right)))
    };
    lines.filter_map(read).collect()
}

/// What a resolver answers for a name, one look-up after the other.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Whether the default policy refuses the name for it.
    pub is_refused: bool,
    /// Addresses, or the one name that this one is an alias of.
    pub answers: Vec<&'static str>,
}

/// All names that a resolver knows.
pub fn names() -> Vec<(&'static str, Vec<Turn>)> {
    let turn = |text: &'static str| {
        let text = text.trim();
        let answers = text.strip_prefix('!').unwrap_or(text).split_whitespace().collect();
        Turn { is_refused: text.starts_with('!'), answers }
    };
    let lines = CORPUS.lines().filter_map(|line| line.strip_prefix("answers ")?.split_once(" | "));
    lines.map(|(name, turns)| (name, turns.split(';').map(turn).collect())).collect()
}

fn unescape(text: &str) -> String {
    let text = text.replace("\\\\", "\0").replace("\\t", "\t").replace("\\n", "\n");
    let text = text.replace("\\r", "\r").replace("\\u{ad}", "\u{ad}");
    text.replace("\\u{200b}", "\u{200b}").replace('\0', "\\")
}
