//! Targets: what passes reads back the same, and fits into the head of a request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postrider_kernel::{EventType, Target, egress::EgressPolicy, endpoint::TargetHost};

fuzz_target!(|text: &str| {
    let _ = EventType::parse(text);
    let Ok(target) = Target::parse(text) else { return };
    assert_eq!(target.as_str(), text);
    assert!(target.port() > 0);
    let head = format!("POST {} HTTP/1.1 {}", target.path_and_query(), target.host_header());
    assert!(head.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{head}");
    assert_eq!(head.split(' ').count(), 4, "{head}");
    if let TargetHost::Address(address) = target.host() {
        let _ = EgressPolicy::default().check(address);
    }
});
