//! SOCK_SEQPACKET sockets of the Unix domain: packets with descriptors, and an end that is noticed.

use super::error::{At, OsError, OsResult};
use super::sys;
use crate::model::wire::PACKET;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, connect, listen, sendmsg,
    setsockopt, socket, socketpair, sockopt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

/// What a packet's room is made with, in bytes. glibc gives what is above 128 KiB a mapping of its own (M_MMAP_THRESHOLD,
/// mallopt(3)), whose pages the kernel makes when they are first touched; anything smaller is zeroed at once, sixteen pages for
/// packets that are a thousandth of the largest (30 µs of a warm run at either end).
const LAZY: usize = 256 * 1024;

/// One end of a connection, and the room for its packets, which is made once.
#[derive(Debug)]
pub struct Peer(OwnedFd, RefCell<Vec<u8>>);

impl Peer {
    fn new(socket: OwnedFd) -> Self {
        Self(socket, RefCell::default())
    }
}

/// A packet as it came.
#[derive(Debug)]
pub struct Packet<T> {
    pub message: T,
    pub fds: Vec<OwnedFd>,
    /// The sender, if the socket asks for credentials.
    pub pid: Option<i32>,
}

fn fresh() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
}

/// An address below an open directory: however long the directory's own path is, it fits into `sun_path` (108 bytes, unix(7)).
fn address(dir: &File, name: &str) -> nix::Result<UnixAddr> {
    UnixAddr::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()).as_str())
}

/// Binds and listens at `dir/name`. Connections may be made at once; they wait in the backlog.
///
/// # Errors
/// of socket, bind, listen.
pub fn listen_at(dir: &Path, name: &str) -> OsResult<OwnedFd> {
    let open = File::open(dir).at("open", dir)?;
    let made = fresh().and_then(|s| {
        bind(s.as_raw_fd(), &address(&open, name)?)?;
        listen(&s, Backlog::new(1)?)?;
        Ok(s)
    });
    made.at("listen on a socket in", dir)
}

/// Connects to `dir/name`, asking for the credentials of who sends.
///
/// # Errors
/// ECONNREFUSED where nobody holds the listening end any more.
pub fn connect_to(dir: &Path, name: &str) -> OsResult<Peer> {
    let open = File::open(dir).at("open", dir)?;
    let made = fresh().and_then(|s| {
        setsockopt(&s, sockopt::PassCred, &true)?;
        connect(s.as_raw_fd(), &address(&open, name)?)?;
        Ok(s)
    });
    made.map(Peer::new).at("connect to the socket in", dir)
}

/// Two ends of one connection.
///
/// # Errors
/// EMFILE and the like.
pub fn pair() -> OsResult<(Peer, Peer)> {
    let (one, other) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).at("make", "a pair of sockets")?;
    Ok((Peer::new(one), Peer::new(other)))
}

/// The next connection, close-on-exec.
///
/// # Errors
/// of accept.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Peer> {
    let raw: RawFd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    sys::owned(raw).map(Peer::new)
}

impl Peer {
    /// Sends one packet; waits for room.
    ///
    /// # Errors
    /// EPIPE where the other end is gone.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        loop {
            match sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None) {
                Err(nix::errno::Errno::EINTR) => {}
                other => return other.map(drop).map_err(io::Error::from),
            }
        }
    }

    /// The next packet; `None` when the other end is gone. Waits for one unless `now`, which answers WouldBlock.
    ///
    /// # Errors
    /// InvalidData for a packet that is too large or makes no sense.
    pub fn receive<T: DeserializeOwned>(&self, now: bool) -> io::Result<Option<Packet<T>>> {
        let mut buf = self.1.borrow_mut();
        if buf.is_empty() {
            *buf = vec![0; LAZY];
        }
        let flags = if now { libc::MSG_DONTWAIT } else { 0 };
        let (n, fds, pid) = loop {
            match sys::receive(self.0.as_fd(), &mut buf[..PACKET], flags) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The other end has gone without reading all of ours. That is said once, ahead of what it had sent before:
                // its last packets still follow, then the end.
                Err(e) if e.raw_os_error() == Some(libc::ECONNRESET) => {}
                other => break other?,
            }
        };
        if n == 0 {
            return Ok(None);
        }
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let bytes = buf[..PACKET].get(..n).ok_or_else(|| invalid(format!("a packet of {n} bytes")))?;
        let message = postcard::from_bytes(bytes).map_err(|e| invalid(e.to_string()))?;
        Ok(Some(Packet { message, fds, pid }))
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// For callers that report by place.
pub fn on_socket(e: io::Error) -> OsError {
    OsError { doing: "talk to init over", on: "the cell's socket".into(), source: e }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::wire::{Order, Report};

    #[test]
    fn packets_carry_descriptors_and_the_end_is_noticed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let listener = listen_at(dir.path(), "s").expect("listens");
        let ours = connect_to(dir.path(), "s").expect("connects before anyone accepts");
        let theirs = accept(listener.as_fd()).expect("accepts");
        let (r, w) = nix::unistd::pipe().expect("pipe");
        ours.send(&Order::Dispatch, &[r.as_fd()]).expect("sent");
        let packet: Packet<Order> = theirs.receive(false).expect("received").expect("not the end");
        assert_eq!((packet.message, packet.fds.len()), (Order::Dispatch, 1));
        nix::unistd::write(&w, b"x").expect("write");
        let mut buf = [0u8; 2];
        assert_eq!(nix::unistd::read(&packet.fds[0], &mut buf).expect("read"), 1);
        theirs.send(&Report::Hello, &[]).expect("sent");
        let hello: Packet<Report> = ours.receive(false).expect("received").expect("not the end");
        assert_eq!(hello.pid, Some(std::process::id() as i32));
        drop(theirs);
        assert!(ours.receive::<Report>(false).expect("no error").is_none());
    }

    #[test]
    fn last_words_arrive_though_nobody_read_ours() {
        let (a, b) =
            nix::sys::socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).expect("pair");
        let (ours, theirs) = (Peer::new(a), Peer::new(b));
        theirs.send(&Report::Done, &[]).expect("sent");
        ours.send(&Order::Kill, &[]).expect("sent, and never read");
        drop(theirs);
        assert!(ours.send(&Order::Kill, &[]).is_err(), "nobody is there");
        let last: Packet<Report> = ours.receive(true).expect("no error").expect("not the end yet");
        assert_eq!(last.message, Report::Done);
        assert!(ours.receive::<Report>(true).expect("no error").is_none());
    }

    #[test]
    fn nonsense_is_an_error_and_not_a_panic() {
        let (a, b) =
            nix::sys::socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).expect("pair");
        nix::unistd::write(&a, &[0xff; 100]).expect("write");
        assert!(Peer::new(b).receive::<Report>(true).is_err());
    }
}
