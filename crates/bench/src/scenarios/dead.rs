//! A receiver that is gone: its port refuses connections, and is nobody else's meanwhile.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A socket that is bound and does not listen.
#[derive(Debug)]
pub struct Dead(TcpSocket);

impl Dead {
    /// One on a free port.
    ///
    /// # Errors
    /// That no port can be had.
    pub fn new() -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self(socket))
    }

    /// The target of its endpoint.
    pub fn target(&self) -> String {
        let port = self.0.local_addr().map_or(0, |address| address.port());
        format!("http://127.0.0.1:{port}/dead")
    }
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, net::TcpStream};

    use super::*;

    #[test]
    fn it_refuses() {
        let dead = Dead::new().unwrap();
        let error = TcpStream::connect(dead.0.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}
