//! The policy against `corpus.txt`, line by line. The server's end-to-end test sends every line of it, too.

use std::net::IpAddr;

use super::{
    corpus::{lines, names},
    *,
};
use crate::endpoint::InvalidTarget;

fn target(text: &str) -> Target {
    Target::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What the default policy says of a literal target, as the corpus writes it.
fn verdict(text: &str) -> String {
    let policy = EgressPolicy::default();
    let target = match Target::parse(text) {
        Err(InvalidTarget::NotAUrl) => return "not-a-url".into(),
        Err(InvalidTarget::HasCredentials) => return "credentials".into(),
        Err(InvalidTarget::TooLong) => return "too-long".into(),
        Ok(target) => target,
    };
    match (target.host(), policy.check_target(&target)) {
        (TargetHost::Address(address), Err(_)) => format!("forbidden {}", address.to_canonical()),
        (TargetHost::Address(address), Ok(())) => format!("public {}", address.to_canonical()),
        (TargetHost::Name(_), Err(_)) => "local".into(),
        (TargetHost::Name(name), Ok(())) => format!("name {name}"),
    }
}

#[test]
fn every_line_of_the_corpus_is_judged_as_it_says() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for word in ["not-a-url", "credentials", "forbidden", "local", "public", "name"] {
        for (rest, text) in lines(word) {
            let expected = format!("{word} {rest}").trim_end().to_owned();
            let found = verdict(&text);
            if found != expected {
                wrong.push(format!("{text:?}: {found}, not {expected}"));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count >= 150, "{count} targets");
}

#[test]
fn one_forbidden_answer_forbids_a_name() {
    let policy = EgressPolicy::default();
    let mut count = 0;
    for (name, turns) in names() {
        for turn in turns {
            let addresses: Vec<IpAddr> =
                turn.answers.iter().filter_map(|answer| answer.parse().ok()).collect();
            let found = policy.check_all(&target(&format!("http://{name}/")), &addresses);
            assert_eq!(found.is_err(), turn.is_refused, "{name}: {turn:?}");
            count += 1;
        }
    }
    assert!(count > 20, "{count} answers");
}

#[test]
fn no_redirect_of_the_corpus_leads_to_a_public_place() {
    for (_, location) in lines("redirect") {
        let absolute = location.strip_prefix("//").map(|rest| format!("http://{rest}"));
        let verdict = verdict(&absolute.unwrap_or(location));
        assert!(verdict.starts_with("forbidden") || verdict == "name loop.example", "{verdict}");
    }
}

#[test]
fn the_operator_may_allow_more_and_deny_more() {
    let blocks = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    let policy = EgressPolicy {
        allowed: blocks(&["127.0.0.0/8", "fd00::/8", "10.0.0.0/8", "64:ff9b::/96"]),
        denied: blocks(&["10.66.0.0/16", "8.8.8.0/24", "2606:4700::/32"]),
        ..EgressPolicy::default()
    };
    let check = |text: &str, expected: bool| {
        assert_eq!(policy.check(text.parse().unwrap()).is_ok(), expected, "{text}");
    };
    for allowed in ["127.0.0.1", "::ffff:127.0.0.1", "fd12::1", "10.65.0.1", "1.1.1.1"] {
        check(allowed, true);
    }
    for denied in ["10.66.0.1", "::ffff:10.66.0.1", "8.8.8.8", "2606:4700::1111"] {
        check(denied, false);
    }
    for forbidden in ["192.168.0.1", "::1", "fe80::1"] {
        check(forbidden, false);
    }
    // Who allows a gateway allows what is allowed behind it, and no more.
    check("64:ff9b::8.8.4.4", true);
    check("64:ff9b::127.0.0.1", true);
    check("64:ff9b::8.8.8.8", false);
    check("64:ff9b::192.168.0.1", false);
    assert_eq!(EgressPolicy::anywhere().check("::1".parse().unwrap()), Ok(()));
}

#[test]
fn a_refusal_says_why() {
    let check = |policy: &EgressPolicy, text: &str, expected: &str| {
        let refused = policy.check_target(&target(text)).unwrap_err();
        assert_eq!(refused.to_string(), format!("deliveries to {expected}"));
    };
    let policy = EgressPolicy {
        denied: vec!["8.8.8.0/24".parse().unwrap()],
        ports: Ports(vec![443..=443, 8000..=8999]),
        ..EgressPolicy::default()
    };
    check(
        &policy,
        "https://0x7f.1/",
        "127.0.0.1 are not allowed: its address is not a public one (loopback, 127.0.0.0/8), and --egress-allow does \
         not list it",
    );
    check(
        &policy,
        "https://a.localhost/",
        "a.localhost are not allowed: its address is not a public one (loopback, 127.0.0.0/8), and --egress-allow does \
         not list it",
    );
    check(&policy, "https://8.8.8.8/", "8.8.8.8 are not allowed: --egress-deny lists 8.8.8.0/24");
    check(
        &policy,
        "https://x.example:22/",
        "x.example are not allowed: port 22 is none of --egress-ports, which lists 443, 8000-8999",
    );
    assert_eq!(policy.check_target(&target("http://x.example:8443/")), Ok(()));
    let policy = EgressPolicy { requires_https: true, ..EgressPolicy::default() };
    check(
        &policy,
        "http://x.example/",
        "x.example are not allowed: --require-https demands an https URL",
    );
    assert_eq!(policy.check_target(&target("https://x.example/")), Ok(()));
}

#[test]
fn localhost_is_where_it_is_allowed_to_be() {
    let of = |allowed: &[&str]| EgressPolicy {
        allowed: allowed.iter().map(|text| text.parse().unwrap()).collect(),
        ..EgressPolicy::default()
    };
    let v4: IpAddr = Ipv4Addr::LOCALHOST.into();
    assert!(of(&[]).loopback().is_err());
    assert_eq!(of(&["127.0.0.0/8"]).loopback(), Ok(vec![v4]));
    assert_eq!(of(&["127.0.0.0/8", "::1/128"]).loopback().unwrap().len(), 2);
    assert_eq!(of(&["127.0.0.0/8"]).check_target(&target("http://LOCALHOST:9000/")), Ok(()));
}

#[test]
fn a_block_of_ipv4_in_ipv6_clothes_lists_what_it_names() {
    let check = |text: &str, expected: &str| {
        assert_eq!(block(text).map(|block| block.to_string()).unwrap_or_default(), expected);
    };
    check("10.0.0.0/8", "10.0.0.0/8");
    check("::ffff:10.0.0.0/104", "10.0.0.0/8");
    check("::ffff:8.8.8.8/128", "8.8.8.8/32");
    check("::/0", "::/0");
    check("fe80::/96", "fe80::/96");
    check("10.0.0.0", "");
    let denied = vec![block("::ffff:8.8.8.0/120").unwrap()];
    let policy = EgressPolicy { denied, ..EgressPolicy::default() };
    for address in ["8.8.8.8", "::ffff:8.8.8.8"] {
        assert!(policy.check(address.parse().unwrap()).is_err(), "{address}");
    }
}
