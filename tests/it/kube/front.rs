// SPDX-License-Identifier: Apache-2.0
//! In front of the API server: what is asked is noted and passed on, as whoever asks, unless a test
//! has it go wrong.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ringway_tests::head::Reader;
use ringway_tests::kube::PROXY;
use ringway_tests::upstream::{self, Request, Upstream};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Everything is answered with this status.
    Status(u16),
    /// Connections are closed without an answer.
    Cut,
    /// No answer until it is over.
    Silence,
    /// Every watch ends at once: where it would begin is too long ago.
    Gone,
}

#[derive(Debug, Default)]
struct Script {
    fault: Option<Fault>,
    /// Requests that met the fault.
    met: usize,
    /// Method and target of every request.
    asked: Vec<String>,
    /// Who is being answered.
    clients: Vec<TcpStream>,
}

#[derive(Debug)]
pub(super) struct Front {
    upstream: Upstream,
    script: Arc<Mutex<Script>>,
}

impl Front {
    pub(super) fn start() -> Self {
        let script = Arc::<Mutex<Script>>::default();
        let shared = Arc::clone(&script);
        let serve = move |stream| {
            // Whoever asked may be gone.
            let _ = serve(stream, &shared);
        };
        Self { upstream: Upstream::custom(serve).unwrap(), script }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// From now on it goes wrong, for watches that are under way as well.
    pub(super) fn fail(&self, fault: Fault) {
        let mut script = self.script();
        (script.fault, script.met) = (Some(fault), 0);
        for client in script.clients.drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// Requests that met the fault that is on.
    pub(super) fn met(&self) -> usize {
        self.script().met
    }

    pub(super) fn heal(&self) {
        self.script().fault = None;
    }

    /// How many requests were of this method and had this in their target.
    pub(super) fn asked(&self, method: &str, target: &str) -> usize {
        let is_it = |asked: &&String| {
            asked.split_once(' ').is_some_and(|(m, t)| m == method && t.contains(target))
        };
        self.script().asked.iter().filter(is_it).count()
    }
}

/// Answers one request.
fn serve(mut stream: TcpStream, script: &Mutex<Script>) -> io::Result<()> {
    let Some(request) = upstream::request(&mut Reader::new(stream.try_clone()?))? else {
        return Ok(());
    };
    let is_watch = request.target.contains("watch=1");
    let fault = {
        let mut script = script.lock().unwrap();
        script.asked.push(format!("{} {}", request.method, request.target));
        let fault = script.fault.filter(|fault| *fault != Fault::Gone || is_watch);
        script.met += usize::from(fault.is_some());
        script.clients.push(stream.try_clone()?);
        fault
    };
    match fault {
        None => pass(stream, &request),
        Some(Fault::Status(code)) => {
            let body = status(code);
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {code} x\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all((head + &body).as_bytes())
        }
        Some(Fault::Gone) => {
            let event = format!("{{\"type\": \"ERROR\", \"object\": {}}}\n", status(410));
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
            stream.write_all(format!("{head}\r\n{event}").as_bytes())
        }
        Some(Fault::Cut) => stream.shutdown(Shutdown::Both),
        Some(Fault::Silence) => {
            while script.lock().unwrap().fault == Some(Fault::Silence) {
                std::thread::sleep(Duration::from_millis(10));
            }
            pass(stream, &request)
        }
    }
}

fn status(code: u16) -> String {
    format!(
        r#"{{"kind": "Status", "apiVersion": "v1", "metadata": {{}}, "status": "Failure", "message": "no", "reason": "x", "code": {code}}}"#
    )
}

/// To the API server, as whoever asked, and back until either side is done.
fn pass(mut stream: TcpStream, request: &Request) -> io::Result<()> {
    let mut server = TcpStream::connect(PROXY)?;
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    for (name, value) in &request.fields {
        if !["connection", "content-length", "host"].contains(&name.to_lowercase().as_str()) {
            head += &format!("{name}: {value}\r\n");
        }
    }
    let length = request.body.len();
    head += &format!("Host: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    server.write_all(head.as_bytes())?;
    server.write_all(&request.body)?;
    server.set_read_timeout(Some(Duration::from_millis(100)))?;
    stream.set_nonblocking(true)?;
    let mut buffer = [0; 64 * 1024];
    loop {
        match server.read(&mut buffer) {
            Ok(0) => return stream.shutdown(Shutdown::Both),
            Ok(n) => {
                stream.set_nonblocking(false)?;
                stream.write_all(&buffer[..n])?;
                stream.set_nonblocking(true)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Nothing is sent any more; only the end of it can come.
                if matches!(stream.peek(&mut [0]), Ok(0)) {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}
