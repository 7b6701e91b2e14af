//! What simulations have found: each bug as a short plan that meets it.

use std::time::Duration;

use postrider::lanes::Bounds;

use crate::{
    plan::{Arrival, Change, EndpointPlan, EventPlan, Nature, Plan},
    run::run_plan,
    store::{Fate, Moment},
};

/// A call that takes so many milliseconds to its commit, and succeeds.
fn takes(millis: u64) -> Fate {
    Fate { before: Duration::from_millis(millis), fails: None, after: Duration::ZERO }
}

/// A call that fails after so many milliseconds.
fn fails(moment: Moment, millis: u64) -> Fate {
    Fate { fails: Some(moment), ..takes(millis) }
}

/// An event that is published then.
fn arrival(at_millis: u64) -> Arrival {
    Arrival {
        at: Duration::from_millis(at_millis),
        node: 0,
        events: vec![EventPlan { event_type: 0, bytes: 50 }],
        has_key: false,
        hangs_up_after: None,
    }
}

/// Runs a plan with several streams of chance; no promise may depend on them.
fn check(plan: impl Fn() -> Plan) {
    for seed in 0..3 {
        let report = run_plan(seed, plan(), true);
        assert!(report.violations.is_empty(), "{}{:#?}", report.trace, report.violations);
    }
}

/// One endpoint, to which an admin does these things.
fn endpoint(nature: Nature, changes: &[(u64, Change)]) -> Vec<EndpointPlan> {
    let at = |&(millis, change): &(u64, Change)| (Duration::from_millis(millis), change);
    vec![EndpointPlan { types: vec![0], nature, changes: changes.iter().map(at).collect() }]
}

#[test]
fn what_a_publisher_that_hung_up_had_asked_for_is_delivered() {
    // The first event takes identifiers for the second, which is given up while its commit is on its way.
    let given_up = Arrival { hangs_up_after: Some(Duration::from_millis(1)), ..arrival(200) };
    check(|| Plan {
        arrivals: vec![arrival(100), given_up.clone()],
        script: vec![("publish", takes(1)), ("publish", takes(50)), ("give_back", takes(1))],
        ..Plan::calm()
    });
}

#[test]
fn a_change_whose_answer_got_lost_is_taken_in() {
    check(|| Plan {
        endpoints: endpoint(Nature::Healthy, &[(100, Change::Deactivate), (300, Change::Activate)]),
        script: vec![
            ("update_endpoint", takes(1)),
            // However often the admin tries.
            ("update_endpoint", fails(Moment::AfterCommit, 1)),
            ("update_endpoint", fails(Moment::AfterCommit, 1)),
            ("update_endpoint", fails(Moment::AfterCommit, 1)),
        ],
        ..Plan::calm()
    });
}

#[test]
fn what_is_owed_is_looked_up_again_until_the_store_answers() {
    check(|| Plan {
        // The receiver answers 500, so that a retry waits for the activation.
        endpoints: endpoint(
            Nature::Broken,
            &[(300, Change::Deactivate), (2_000, Change::Activate)],
        ),
        arrivals: vec![arrival(50)],
        script: vec![
            ("update_endpoint", takes(1)),
            ("update_endpoint", fails(Moment::AfterCommit, 1)),
            ("update_endpoint", fails(Moment::AfterCommit, 1)),
            ("update_endpoint", fails(Moment::AfterCommit, 1)),
            ("earliest_due", takes(1)),
            ("earliest_due", fails(Moment::BeforeCommit, 1)),
            ("earliest_due", fails(Moment::BeforeCommit, 1)),
            ("earliest_due", fails(Moment::BeforeCommit, 1)),
        ],
        ..Plan::calm()
    });
}

#[test]
fn a_claim_that_found_no_room_but_what_was_reserved_is_made_again() {
    let calm = Plan::calm();
    check(|| Plan {
        bounds: Bounds { lane_capacity: 1, ..calm.bounds },
        arrivals: vec![Arrival { has_key: true, ..arrival(100) }],
        script: vec![
            // The event is kept; its publisher hears of a failure, and repeats the request, for which there is room.
            ("publish", fails(Moment::AfterCommit, 1)),
            // Given back and claimed while the repeat is on its way, which turns out to need no room.
            ("give_back", takes(1_200)),
            ("publish", takes(500)),
        ],
        ..Plan::calm()
    });
}

#[test]
fn a_repeated_give_back_takes_nothing_from_a_worker() {
    check(|| Plan {
        endpoints: endpoint(Nature::Healthy, &[(500, Change::Resend)]),
        arrivals: vec![arrival(50), arrival(100)],
        script: vec![
            ("publish", takes(1)),
            ("record_all", takes(1)),
            // The second event is kept, though nobody hears of it, and then given back, though nobody hears of it.
            ("publish", fails(Moment::AfterCommit, 1)),
            ("give_back", fails(Moment::AfterCommit, 1)),
            // The resend has both claimed, and its record is on its way when the give-back is repeated.
            ("record_all", takes(1_500)),
        ],
        ..Plan::calm()
    });
}
