//! An HTTP client over hyper. Each client keeps one connection and makes a new one when that was closed.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, sync::Mutex};

/// Speaks to one server with one credential.
#[derive(Clone)]
pub struct Client {
    authority: String,
    authorization: Option<String>,
    connection: Arc<Mutex<Option<SendRequest<Full<Bytes>>>>>,
}

/// What came back.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).expect("answers are UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Client {
    pub fn new(url: &str, token: &str) -> Self {
        Self::with_authorization(url, Some(format!("Bearer {token}")))
    }

    pub fn anonymous(url: &str) -> Self {
        Self::with_authorization(url, None)
    }

    pub fn with_authorization(url: &str, authorization: Option<String>) -> Self {
        let authority = url.strip_prefix("http://").unwrap().to_owned();
        Self { authority, authorization, connection: Arc::default() }
    }

    /// `127.0.0.1:PORT`
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Another client to the same server, with a connection of its own.
    pub fn another(&self) -> Self {
        Self { connection: Arc::default(), ..self.clone() }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], Bytes::new()).await
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.send("DELETE", path, &[], Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.json("POST", path, body).await
    }

    pub async fn json(&self, method: &str, path: &str, body: &Value) -> Response {
        self.raw_json(method, path, body.to_string()).await
    }

    pub async fn raw_json(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Response {
        self.send(method, path, &[("content-type", "application/json")], body.into()).await
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Response {
        self.try_send(method, path, headers, body)
            .await
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// A request that may fail, because the server is killed meanwhile.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
        let mut request =
            Request::builder().method(method).uri(path).header("host", &self.authority);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body))?;

        let mut connection = self.connection.lock().await;
        let kept = match connection.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let mut sender = match kept {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(&self.authority).await?;
                stream.set_nodelay(true)?;
                let (sender, driver) = handshake(TokioIo::new(stream)).await?;
                tokio::spawn(driver);
                sender
            }
        };
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        *connection = Some(sender);
        Ok(Response { status: StatusCode::as_u16(&head.status), headers: head.headers, body })
    }
}
