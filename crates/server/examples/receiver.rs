//! A receiver that verifies what Postrider sends, with public libraries alone:
//! `cargo add axum tokio standardwebhooks hmac sha2`.
#![allow(clippy::disallowed_methods, reason = "an example reads the clock as a receiver would")]

use std::{env, time::SystemTime};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use standardwebhooks::Webhook;

#[tokio::main]
async fn main() {
    let secret = env::var("WEBHOOK_SECRET")
        .expect("WEBHOOK_SECRET is whsec_…, as the reveal operation shows it");
    let port = env::var("PORT").unwrap_or("9000".into());
    let listener =
        tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("the port is free");
    println!("listening on {}", listener.local_addr().expect("it listens").port());
    let app = Router::new().fallback_service(post(receive).with_state(secret));
    axum::serve(listener, app).await.expect("it serves");
}

/// The bytes as they came: parse them only after they have been verified. One of the two dialects is enough.
async fn receive(State(secret): State<String>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let standard =
        Webhook::new(&secret).and_then(|webhook| webhook.verify(&body, &headers)).is_ok();
    let list = headers.get("postrider-signature").and_then(|value| value.to_str().ok());
    if standard && list.is_some_and(|header| verify_list(header, &body, &secret)) {
        println!("verified: {:?} {}", headers["webhook-id"], String::from_utf8_lossy(&body));
        StatusCode::NO_CONTENT
    } else {
        println!("refused");
        StatusCode::BAD_REQUEST
    }
}

/// `t=<seconds>,v1=<hex>,…`: the HMAC-SHA256 of `<t>.<body>` under the whole secret text.
fn verify_list(header: &str, body: &[u8], secret: &str) -> bool {
    let items: Vec<(&str, &str)> =
        header.split(',').filter_map(|item| item.split_once('=')).collect();
    let Some(&(_, sent_at)) = items.iter().find(|(name, _)| *name == "t") else { return false };
    let now =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let is_fresh = sent_at.parse::<u64>().is_ok_and(|seconds| seconds.abs_diff(now) <= 300);
    let verifies = |hex: &str| {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length will do");
        mac.update(sent_at.as_bytes());
        mac.update(b".");
        mac.update(body);
        let bytes: Option<Vec<u8>> = (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok())
            .collect();
        bytes.is_some_and(|bytes| mac.verify_slice(&bytes).is_ok())
    };
    is_fresh && items.iter().any(|(name, value)| *name == "v1" && verifies(value))
}
