//! What a server did to its files and told its publishers, read from what strace wrote.

use std::{collections::HashMap, io::BufRead, path::Path};

use anyhow::{Context, ensure};

/// The system calls that matter, and whole strings, as hexadecimal bytes, with the paths of files.
pub const STRACE: [&str; 10] = [
    "strace",
    "-D",
    "-f",
    "-qq",
    "-y",
    "-xx",
    "-s",
    "65536",
    "-e",
    "trace=pwrite64,fsync,fdatasync,ftruncate,unlink,sendto,writev",
];

/// One thing that happened, in the order in which things happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bytes were written to a file at an offset; they may be on disk from now on.
    Write { file: String, offset: usize, bytes: Vec<u8> },
    /// A file was cut or grown.
    Truncate { file: String, length: usize },
    /// All that was written to a file before `since` (a number of a step) is on disk, if the disk said so.
    Sync { file: String, since: usize, worked: bool },
    /// A file was removed.
    Unlink { file: String },
    /// A publisher is told that this event is kept.
    Acknowledge { event: i64 },
}

/// Reads a trace. Calls of other threads may stand between a call's beginning and its end: a write counts from its
/// beginning, and a sync from its end.
pub fn read(path: &Path) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut begun: HashMap<String, (String, usize)> = HashMap::new();
    for line in std::io::BufReader::new(std::fs::File::open(path)?).lines() {
        let line = line?;
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(first) = call.strip_suffix(" <unfinished ...>") {
            steps.extend(begin(first)?);
            begun.insert(thread.to_owned(), (first.to_owned(), steps.len()));
        } else if call.starts_with("<... ") {
            let Some((first, since)) = begun.remove(thread) else { continue };
            steps.extend(end(&first, call, since)?);
        } else {
            let since = steps.len();
            steps.extend(begin(call)?);
            steps.extend(end(call, call, since)?);
        }
    }
    Ok(steps)
}

/// What counts from a call's beginning.
fn begin(call: &str) -> anyhow::Result<Option<Step>> {
    let (name, rest) = call.split_once('(').unwrap_or((call, ""));
    let step = match name {
        "pwrite64" => {
            let Some(file) = file_of(rest) else { return Ok(None) };
            let (text, rest) = string(rest).context("pwrite64 without a string")?;
            ensure!(!rest.starts_with("..."), "strace cut a write short: {}", &call[..80]);
            let mut numbers = rest.trim_start_matches([',', ' ']).split([',', ')']);
            numbers.next();
            let offset = numbers.next().context("pwrite64 without an offset")?.trim().parse()?;
            Step::Write { file, offset, bytes: text }
        }
        "ftruncate" => {
            let Some(file) = file_of(rest) else { return Ok(None) };
            let length = rest.rsplit_once(", ").context("ftruncate without a length")?.1;
            Step::Truncate { file, length: length.split(')').next().unwrap_or_default().parse()? }
        }
        "unlink" => {
            let (text, _) = string(rest).context("unlink without a path")?;
            let Some(file) = database_file(&String::from_utf8_lossy(&text)) else {
                return Ok(None);
            };
            Step::Unlink { file }
        }
        "sendto" | "writev" => {
            let sent = all_strings(rest);
            let Some(event) = acknowledged(&sent) else { return Ok(None) };
            Step::Acknowledge { event }
        }
        _ => return Ok(None),
    };
    Ok(Some(step))
}

/// What counts from a call's end.
fn end(first: &str, last: &str, since: usize) -> anyhow::Result<Option<Step>> {
    let (name, rest) = first.split_once('(').unwrap_or((first, ""));
    if !matches!(name, "fsync" | "fdatasync") {
        return Ok(None);
    }
    let Some(file) = file_of(rest) else { return Ok(None) };
    let worked = last.rsplit_once("= ").is_some_and(|(_, result)| result.trim() == "0");
    Ok(Some(Step::Sync { file, since, worked }))
}

/// The database's file that a descriptor is of: `13<\x2f…>`.
fn file_of(arguments: &str) -> Option<String> {
    let path = arguments.split_once('<')?.1.split_once('>')?.0;
    database_file(&String::from_utf8_lossy(&bytes(path)))
}

fn database_file(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    let is_ours = name.starts_with("postrider.db") && !name.ends_with("-shm");
    is_ours.then(|| name.to_owned())
}

/// The first string, and what follows it.
fn string(text: &str) -> Option<(Vec<u8>, &str)> {
    let (inside, rest) = text.split_once('"')?.1.split_once('"')?;
    Some((bytes(inside), rest))
}

fn all_strings(mut text: &str) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some((bytes, rest)) = string(text) {
        all.extend(bytes);
        text = rest;
    }
    all
}

/// `\x41\x42` as bytes.
fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    hexadecimal
        .as_bytes()
        .chunks_exact(4)
        .map(|four| digit(four[2]) << 4 | digit(four[3]))
        .collect()
}

fn acknowledged(sent: &[u8]) -> Option<i64> {
    let text = String::from_utf8_lossy(sent);
    let rest = text.strip_prefix("HTTP/1.1 201")?.split_once(r#"{"event_id":"#)?.1;
    rest.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    #[test]
    fn writes_count_from_their_beginning_and_syncs_from_their_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace");
        let (file, told) =
            (hex("/data/postrider.db-wal"), hex("HTTP/1.1 201 Created\r\n\r\n{\"event_id\":7,"));
        let lines = [
            format!(r#"10 pwrite64(13<{file}>, "{}", 3, 40) = 3"#, hex("abc")),
            format!("10 fsync(13<{file}> <unfinished ...>"),
            format!(
                r#"11 sendto(12<{}>, "{told}", 40, MSG_NOSIGNAL, NULL, 0) = 40"#,
                hex("socket:[1]")
            ),
            "10 <... fsync resumed>) = 0".to_owned(),
            format!("10 fdatasync(13<{file}>) = -1 EIO (Input/output error) (INJECTED)"),
            format!("10 ftruncate(13<{file}>, 0) = 0"),
            format!(
                r#"10 pwrite64(14<{}>, "{}", 1, 0) = 1"#,
                hex("/data/postrider.db-shm"),
                hex("x")
            ),
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let file = || "postrider.db-wal".to_owned();
        assert_eq!(
            read(&path).unwrap(),
            [
                Step::Write { file: file(), offset: 40, bytes: b"abc".to_vec() },
                Step::Acknowledge { event: 7 },
                Step::Sync { file: file(), since: 1, worked: true },
                Step::Sync { file: file(), since: 3, worked: false },
                Step::Truncate { file: file(), length: 0 },
            ]
        );
    }
}
