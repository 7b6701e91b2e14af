//! `Retry-After` headers and retry schedules: nobody waits longer than is allowed, and a schedule reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postrider_kernel::{
    RetrySchedule, Timestamp,
    retry::{RETRY_AFTER_MAX, parse_retry_after},
};

fuzz_target!(|given: (&str, i64)| {
    let (text, now) = given;
    let wait = parse_retry_after(text, Timestamp::from_micros(now));
    assert!(wait.is_none_or(|wait| wait <= RETRY_AFTER_MAX));
    if let Ok(schedule) = text.parse::<RetrySchedule>() {
        let written = schedule.to_string();
        assert_eq!(written.parse::<RetrySchedule>().expect(&written), schedule);
    }
});
