//! An HTTP proxy of the tests' own that does what it is told with each CONNECT, and keeps what it was asked.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
};

/// What to do with a CONNECT.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Connects to what it names.
    Tunnel,
    /// Connects to the receiver at that address, whatever it names.
    TunnelTo(SocketAddr),
    /// Connects to somebody who speaks first.
    Greeted,
    /// Answers with that status and these header lines.
    Answer(u16, &'static str),
    /// Says nothing.
    Silent,
    /// Says nothing to anybody, not even when it is asked for itself.
    Dead,
    /// Closes the connection.
    Close,
}

/// The proxy.
pub struct Proxy {
    pub address: SocketAddr,
    heads: Mutex<mpsc::UnboundedReceiver<String>>,
}

type Script = dyn Fn(usize) -> Manner + Send + Sync;

impl Proxy {
    /// A proxy that asks the script what to do with each CONNECT; they are counted from 0.
    pub async fn start(script: impl Fn(usize) -> Manner + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), script).await
    }

    /// The same at a place where one was before.
    pub async fn start_at(
        address: SocketAddr,
        script: impl Fn(usize) -> Manner + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, heads) = mpsc::unbounded_channel();
        let script: Arc<Script> = Arc::new(script);
        let count = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, script, count) = (sender.clone(), script.clone(), count.clone());
                tokio::spawn(async move {
                    let mut stream = stream;
                    let head = read_head(&mut stream).await?;
                    let is_connect = head.starts_with("CONNECT ");
                    let place = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    // Asked for itself, it does as with the CONNECT before, if that is to do nothing.
                    let manner = match is_connect {
                        true => script(count.fetch_add(1, Ordering::SeqCst)),
                        false => match script(count.load(Ordering::SeqCst).saturating_sub(1)) {
                            Manner::Dead => Manner::Dead,
                            _ => Manner::Answer(405, ""),
                        },
                    };
                    let _ = sender.send(head);
                    behave(stream, manner, &place).await
                });
            }
        });
        Self { address, heads: Mutex::new(heads) }
    }

    /// `http://HOST:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The head of the next request that came.
    pub async fn next(&self) -> String {
        self.heads.lock().await.recv().await.expect("the proxy lives")
    }

    /// The head of a request that came and was not taken yet.
    pub async fn try_next(&self) -> Option<String> {
        self.heads.lock().await.try_recv().ok()
    }
}

async fn behave(mut stream: TcpStream, manner: Manner, place: &str) -> std::io::Result<()> {
    let open = b"HTTP/1.1 200 Connection established\r\n\r\n";
    match manner {
        Manner::Tunnel => {
            let mut there = TcpStream::connect(place).await?;
            stream.write_all(open).await?;
            copy_bidirectional(&mut stream, &mut there).await.map(drop)
        }
        Manner::Greeted => {
            // In one piece, so that the greeting has come when the answer is read.
            stream.write_all(&[open, &b"220 mx.receiver.example ESMTP\r\n"[..]].concat()).await?;
            read_head(&mut stream).await.map(drop)
        }
        Manner::TunnelTo(address) => {
            let mut there = TcpStream::connect(address).await?;
            stream.write_all(open).await?;
            copy_bidirectional(&mut stream, &mut there).await.map(drop)
        }
        Manner::Answer(status, headers) => {
            let text = format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: 0\r\n\r\n");
            stream.write_all(text.as_bytes()).await
        }
        Manner::Silent | Manner::Dead => std::future::pending().await,
        Manner::Close => Ok(()),
    }
}

async fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).expect("our heads are text"))
}
