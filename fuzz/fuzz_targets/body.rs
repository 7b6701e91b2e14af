//! JSON bodies and their fields: whatever comes is read or refused, and what is no JSON object with `data` is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postrider::api::fuzzed;

fuzz_target!(|body: &[u8]| {
    let refused = fuzzed::body(body);
    assert!(!refused.contains("too many items"), "{refused}");
    if refused.is_empty() {
        assert!(std::str::from_utf8(body).is_ok_and(|text| text.contains('{')));
    }
});
