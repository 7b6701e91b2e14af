//! A cable to the database that can be cut. While it is, nothing passes and nobody is told: who sent something waits for
//! the answer, and who connects for a greeting, as with a machine that was unplugged. When it is mended, the old
//! connections are found broken.

use std::path::PathBuf;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};

/// A port that leads to a socket.
pub struct Cable {
    port: u16,
    is_cut: watch::Sender<bool>,
}

impl Cable {
    /// A whole one.
    pub async fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_cut, state) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connect(stream, socket.clone(), state.clone()));
            }
        });
        Self { port, is_cut }
    }

    /// The URL of a database at its other end, given that at this end.
    pub fn url(&self, database: &str) -> String {
        let (_, name) = database.rsplit_once('/').unwrap();
        format!("postgres://postrider@127.0.0.1:{}/{name}", self.port)
    }

    /// Cuts it.
    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Mends it.
    pub fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

async fn connect(mut near: TcpStream, socket: PathBuf, mut is_cut: watch::Receiver<bool>) {
    if !*is_cut.borrow() {
        let Ok(mut far) = UnixStream::connect(socket).await else { return };
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => return,
            _ = is_cut.wait_for(|is_cut| *is_cut) => {}
        }
        // The far end is kept as well: the database, too, hears nothing.
        let _ = is_cut.wait_for(|is_cut| !is_cut).await;
        return;
    }
    let _ = is_cut.wait_for(|is_cut| !is_cut).await;
}
