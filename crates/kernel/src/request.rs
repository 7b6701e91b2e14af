//! The outgoing request: composed once per endpoint, signed once per attempt.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{CONTENT_TYPE, HOST, HeaderMap, USER_AGENT},
};
use thiserror::Error;

use crate::{
    EventId, Target, Timestamp, event,
    signature::{self, Signer},
};

/// The timestamped list's header, unless the operator chose another.
pub const SIGNATURE_HEADER: &str = "Postrider-Signature";

/// What all requests to one endpoint have in common.
#[derive(Clone, Debug)]
pub struct RequestTemplate {
    uri: Uri,
    headers: HeaderMap,
    signature_header: HeaderName,
}

/// A target that cannot be written as a request line or `Host` header.
#[derive(Debug, Error)]
#[error("the target cannot be requested: {0}")]
pub struct Unrequestable(#[from] http::Error);

/// A request that is ready to be written, and the signature header that the attempt's record shows.
#[derive(Debug)]
pub struct SignedRequest {
    /// The request, with the payload as its body.
    pub request: Request<Bytes>,
    /// The value of the timestamped list's header.
    pub signature: String,
}

impl RequestTemplate {
    /// Composes what is the same on every attempt.
    pub fn new(
        target: &Target,
        signature_header: HeaderName,
        user_agent: HeaderValue,
    ) -> Result<Self, Unrequestable> {
        let uri = Uri::builder().path_and_query(target.path_and_query()).build()?;
        let host = HeaderValue::from_str(&target.host_header()).map_err(http::Error::from)?;
        let headers = HeaderMap::from_iter([
            (HOST, host),
            (USER_AGENT, user_agent),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        Ok(Self { uri, headers, signature_header })
    }

    /// Signs a payload now, and completes the request with it.
    pub fn sign(
        &self,
        event: EventId,
        payload: &Bytes,
        signer: &Signer,
        now: Timestamp,
    ) -> SignedRequest {
        let webhook_id = event::webhook_id(event);
        let signed = signer.sign(&webhook_id, now, payload);
        let mut headers = self.headers.clone();
        let mut put = |name: HeaderName, value: &str| {
            // Signatures are digits, letters and base64 marks: all of them fit a header.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put(self.signature_header.clone(), &signed.list);
        put(HeaderName::from_static(signature::WEBHOOK_ID), &webhook_id);
        put(HeaderName::from_static(signature::WEBHOOK_TIMESTAMP), &signed.timestamp);
        put(HeaderName::from_static(signature::WEBHOOK_SIGNATURE), &signed.standard);

        let mut request = Request::new(payload.clone());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        SignedRequest { request, signature: signed.list }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SigningSecret, secret::Standing};

    #[test]
    fn a_request_is_complete() {
        let target = Target::parse("https://receiver.example:8443/hooks?x=é").unwrap();
        let agent = HeaderValue::from_static("Postrider/0.1");
        let template =
            RequestTemplate::new(&target, HeaderName::from_static("postrider-signature"), agent)
                .unwrap();
        let secret =
            SigningSecret::parse("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let signer = Signer::new([(&secret, Standing::Current)]);
        let now = Timestamp::from_micros(1_492_774_577_000_000);
        let payload = Bytes::from_static(
            br#"{"event_id":41,"type":"post.created","created":1625471209.139224,"data":{"id":1}}"#,
        );
        let signed = template.sign(EventId::new(41), &payload, &signer, now);
        let mut lines: Vec<String> = signed
            .request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        insta::assert_snapshot!(format!("{} {}\n{}", signed.request.method(), signed.request.uri(), lines.join("\n")), @r"
        POST /hooks?x=%C3%A9
        content-type: application/json
        host: receiver.example:8443
        postrider-signature: t=1492774577,v1=f5bac7badc81cb13d85d24f122cf2001861beed027b852b0a44eadc5df1bd26c
        user-agent: Postrider/0.1
        webhook-id: evt_41
        webhook-signature: v1,Q/oR6m3dm1xoibcVmyQAmvVgaEnFx8eNGMcuFhxx+ko=
        webhook-timestamp: 1492774577
        ");
        assert_eq!(signed.request.body(), &payload);
    }
}
