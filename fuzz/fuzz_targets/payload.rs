//! Payloads: whatever object a publisher attached, what is built around it is JSON that holds the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postrider_kernel::{
    EventId, EventType,
    event::{Created, EventData, payload},
};
use serde_json::value::RawValue;

fuzz_target!(|body: &[u8]| {
    let Ok(raw) = serde_json::from_slice::<&RawValue>(body) else { return };
    let Ok(data) = EventData::parse(raw) else { return };
    let created = Created::from_seconds(1.5).expect("in range");
    let event_type = EventType::parse("post.created").expect("a good one");
    let built = payload(EventId::new(1), &event_type, created, data);
    assert!(built.ends_with(&[b"\"data\":", data.as_str().as_bytes(), b"}"].concat()));
    serde_json::from_slice::<&RawValue>(&built).expect("it is JSON");
});
