//! `limit`, `offset` and `ordering`: a page stays within its bounds, and its links lead where they say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postrider::api::fuzzed::page;

fuzz_target!(|given: (&str, u64)| {
    let (query, count) = given;
    let count = count.min(i64::MAX as u64);
    let (limit, offset, [next, previous]) = page(query, count);
    assert!((1..=100).contains(&limit));
    let follow = |link: String| {
        let (_, query) = link.split_once('?').expect("a link has a query");
        assert!(query.bytes().all(|byte| byte.is_ascii_graphic()), "{query}");
        page(query, count)
    };
    if let Some(next) = next {
        let (same, further, _) = follow(next);
        assert_eq!((same, further), (limit, offset + u64::from(limit)));
        assert!(further < count);
    }
    if let Some(previous) = previous {
        let (same, nearer, _) = follow(previous);
        assert_eq!(same, limit);
        assert!(nearer <= offset);
    }
});
