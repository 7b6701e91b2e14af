//! The event types that a new tenant begins with: read from the binary's own list or from a file, and checked.

use std::collections::HashSet;

use anyhow::{Context, bail, ensure};
use postrider_kernel::EventType;
use serde::Deserialize;

use crate::config::Catalogue;

const BUILT_IN: &str = include_str!("../data/event-types.json");

/// A file of event types.
#[derive(Deserialize)]
struct List {
    event_types: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Item {
    Name(String),
    Described {
        #[serde(rename = "type")]
        name: String,
        #[serde(default)]
        description: String,
    },
}

impl Catalogue {
    /// The event types, with their descriptions, in order.
    ///
    /// # Errors
    /// A file that can't be read, or is not of the form `{"event_types": [...]}`.
    pub fn read(&self) -> anyhow::Result<Vec<(EventType, String)>> {
        match self {
            Self::BuiltIn => parse(BUILT_IN),
            Self::Empty => Ok(Vec::new()),
            Self::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(anyhow::Error::from)
                    .and_then(|text| parse(&text));
                text.with_context(|| {
                    format!(
                        "the catalogue {} can't be used; it is `community`, `none`, or a JSON file of the form \
                         {{\"event_types\": [\"post.created\"]}}",
                        path.display()
                    )
                })
            }
        }
    }
}

fn parse(text: &str) -> anyhow::Result<Vec<(EventType, String)>> {
    let list: List = serde_json::from_str(text)?;
    let mut seen = HashSet::new();
    let mut entries = Vec::with_capacity(list.event_types.len());
    for item in list.event_types {
        let (name, description) = match item {
            Item::Name(name) => (name, String::new()),
            Item::Described { name, description } => (name, description),
        };
        let event_type = EventType::parse(&name).with_context(|| format!("{name:?}"))?;
        if event_type.is_reserved() {
            bail!("{name}: types that begin with `endpoint.` or `delivery.` are the service's own");
        }
        ensure!(seen.insert(event_type.clone()), "{name} is listed twice");
        entries.push((event_type, description));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_list_is_sound() {
        let entries = Catalogue::BuiltIn.read().unwrap();
        assert!(entries.len() > 50);
        assert!(entries.iter().any(|(event_type, _)| event_type.as_str() == "vote.created"));
        assert!(Catalogue::Empty.read().unwrap().is_empty());
    }

    #[test]
    fn a_file_is_checked() {
        let described = r#"{"event_types": ["a.b", {"type": "c", "description": "x"}]}"#;
        let entries: Vec<_> = parse(described)
            .unwrap()
            .into_iter()
            .map(|(event_type, description)| format!("{event_type}:{description}"))
            .collect();
        assert_eq!(entries, ["a.b:", "c:x"]);
        for bad in [
            "",
            "[]",
            r#"{"event_types": ["a b"]}"#,
            r#"{"event_types": ["a", "a"]}"#,
            r#"{"event_types": ["endpoint.x"]}"#,
            r#"{"event_types": [{}]}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
