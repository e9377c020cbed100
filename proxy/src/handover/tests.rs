// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::thread;

use super::*;

/// A folder of its own, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ringway-ho-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn listeners(n: usize) -> Vec<Arc<TcpListener>> {
    (0..n).map(|_| Arc::new(TcpListener::bind("127.0.0.1:0").unwrap())).collect()
}

fn station(path: &Path) -> Station {
    let mut station = Station::prepare(path).unwrap();
    station.publish().unwrap();
    station
}

#[test]
fn every_socket_arrives_with_its_address() {
    // More than one message, and not a whole number of them.
    let n = 2 * HANDOVER_BATCH_MAX + 3;
    let scratch = Scratch::new("arrives");
    let (path, sockets) = (scratch.path(), listeners(n));
    let station = station(&path);
    let mode = fs::symlink_metadata(&path).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let found = thread::scope(|scope| {
        let successor = scope.spawn(|| {
            let found = Predecessor::find(&path).unwrap().unwrap();
            found.relieve().unwrap();
            found
        });
        let asks = station.next().unwrap();
        asks.hand_over(&sockets, Some(&admin)).unwrap();
        asks.release().unwrap();
        successor.join().unwrap()
    });
    let address = |socket: &TcpListener| socket.local_addr().unwrap();
    let sent: Vec<_> = sockets.iter().map(|socket| address(socket)).collect();
    let came: Vec<_> = found.listeners.iter().map(address).collect();
    assert_eq!(came, sent);
    assert_eq!(found.admin.as_ref().map(address), Some(address(&admin)));
    assert_eq!(found.pid, std::process::id());
}

#[test]
fn nobody_there_is_no_error() {
    let scratch = Scratch::new("nobody");
    assert!(Predecessor::find(&scratch.path()).unwrap().is_none());
    // Of a process that was killed.
    drop(station(&scratch.path()));
    assert!(scratch.path().exists());
    assert!(Predecessor::find(&scratch.path()).unwrap().is_none());
}

#[test]
fn what_is_no_socket_of_ours_is_an_error() {
    let scratch = Scratch::new("foreign");
    let path = scratch.path();
    fs::write(&path, "a file").unwrap();
    assert_eq!(Predecessor::find(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(Station::prepare(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    fs::remove_file(&path).unwrap();
    // Even a link to a socket of ours.
    let other = scratch.0.join("other");
    let _station = station(&other);
    std::os::unix::fs::symlink(&other, &path).unwrap();
    assert_eq!(Predecessor::find(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(Station::prepare(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 2, "no draft is left behind");
}

#[test]
fn a_successor_that_dies_is_noticed() {
    let scratch = Scratch::new("dies");
    let (path, sockets) = (scratch.path(), listeners(2));
    let station = station(&path);
    thread::scope(|scope| {
        scope.spawn(|| drop(Predecessor::find(&path).unwrap().unwrap()));
        let error = station.next().unwrap().hand_over(&sockets, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_predecessor_that_has_ended_leaves_everything() {
    let scratch = Scratch::new("left");
    let path = scratch.path();
    let station = station(&path);
    thread::scope(|scope| {
        let successor = scope.spawn(|| Predecessor::find(&path).unwrap().unwrap().relieve());
        let asks = station.next().unwrap();
        send(&asks.socket, Kind::End, &0u32.to_be_bytes(), &[]).unwrap();
        drop(asks);
        let error = successor.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn one_that_ends_says_so_and_one_that_has_moved_is_asked_again() {
    let scratch = Scratch::new("moved");
    let path = scratch.path();
    let station = station(&path);
    thread::scope(|scope| {
        let successor = scope.spawn(|| Predecessor::find(&path).unwrap());
        station.next().unwrap().redirect().unwrap();
        station.next().unwrap().decline().unwrap();
        assert!(successor.join().unwrap().is_none());
    });
}

#[test]
fn nonsense_is_refused() {
    let scratch = Scratch::new("nonsense");
    let path = scratch.path();
    let station = station(&path);
    let connect = || {
        let socket = unix_socket().unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        socket
    };
    let raw = |socket: &OwnedFd, packet: &[u8]| {
        rustix::net::send(socket, packet, SendFlags::empty()).unwrap();
    };
    let socket = connect();
    raw(&socket, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(station.next().unwrap_err().kind(), ErrorKind::InvalidData);
    let socket = connect();
    raw(&socket, b"RWHO\x09\x01");
    assert_eq!(station.next().unwrap_err().kind(), ErrorKind::Unsupported);
    let answer = receive(&socket).unwrap();
    assert_eq!((answer.kind, &*answer.body), (Kind::Refused, &[Reason::Version as u8][..]));
    let socket = connect();
    raw(&socket, b"RWHO\x01\x04");
    assert_eq!(station.next().unwrap_err().kind(), ErrorKind::InvalidData);
    let socket = connect();
    drop(socket);
    assert_eq!(station.next().unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_successor_takes_listening_sockets_only() {
    let scratch = Scratch::new("sockets");
    let path = scratch.path();
    let station = station(&path);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let offers: [(&[u8], BorrowedFd<'_>); 3] = [
        (&[Role::Listener as u8], connected.as_fd()),
        (&[9], listener.as_fd()),
        (&[1, 1], listener.as_fd()),
    ];
    for (roles, socket) in offers {
        thread::scope(|scope| {
            let successor = scope.spawn(|| Predecessor::find(&path));
            let asks = station.next().unwrap();
            send(&asks.socket, Kind::Sockets, roles, &[socket]).unwrap();
            let error = successor.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
        });
    }
}
