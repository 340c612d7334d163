//! One connection, over TCP or a unix socket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

#[derive(Debug)]
pub enum Link {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Link {
    pub fn tcp(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap_or_else(|e| panic!("cannot connect to {to}: {e}"));
        stream.set_nodelay(true).unwrap();
        Link::Tcp(stream)
    }

    pub fn unix(to: &Path) -> Self {
        Link::Unix(UnixStream::connect(to).unwrap_or_else(|e| panic!("cannot connect to {}: {e}", to.display())))
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Link::Tcp(s) => Link::Tcp(s.try_clone()?),
            Link::Unix(s) => Link::Unix(s.try_clone()?),
        })
    }

    pub fn shutdown(&self, how: Shutdown) {
        // The other side may be gone already, which is what was wanted.
        let _ = match self {
            Link::Tcp(s) => s.shutdown(how),
            Link::Unix(s) => s.shutdown(how),
        };
    }

    /// Makes the last close of this connection a reset instead of an orderly end.
    pub fn reset_on_close(&self) {
        if let Link::Tcp(s) = self {
            socket2::SockRef::from(s).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }

    pub fn read_timeout(&self, limit: Duration) {
        match self {
            Link::Tcp(s) => s.set_read_timeout(Some(limit)),
            Link::Unix(s) => s.set_read_timeout(Some(limit)),
        }
        .unwrap();
    }
}

impl Read for Link {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Link::Tcp(s) => s.read(buf),
            Link::Unix(s) => s.read(buf),
        }
    }
}

impl Write for Link {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Link::Tcp(s) => s.write(buf),
            Link::Unix(s) => s.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
