//! The event that is published: a JSON object as a community platform would send it, of a chosen size.

use bytes::Bytes;

/// A type of the built-in catalogue.
pub const EVENT_TYPE: &str = "post.created";

/// The body of a publish, that many bytes long; some 100 at least, which is what it has without its text.
pub fn published(size: usize) -> Bytes {
    let head = format!(
        r#"{{"type":"{EVENT_TYPE}","data":{{"id":1234567,"title":"Hello","author":{{"id":42,"name":"ada"}},"body":""#
    );
    let tail = r#""}}"#;
    let words = "the quick brown fox jumps over the lazy dog, ";
    let room = size.saturating_sub(head.len() + tail.len());
    let text: String = words.chars().cycle().take(room).collect();
    format!("{head}{text}{tail}").into()
}

/// The `data` of that body alone.
pub fn data(published: &[u8]) -> &str {
    let text = std::str::from_utf8(published).unwrap_or_default();
    text.split_once(r#""data":"#).map_or("{}", |(_, data)| &data[..data.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_its_size_and_is_an_event() {
        for size in [120, 500, 10_000] {
            let body = published(size);
            assert_eq!(body.len(), size);
            let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(event["type"], EVENT_TYPE);
            let data: serde_json::Value = serde_json::from_str(data(&body)).unwrap();
            assert_eq!(event["data"], data);
        }
    }
}
