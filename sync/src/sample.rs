// SPDX-License-Identifier: Apache-2.0
//! Two small back ends to try the gateway with: one gives quotes, one says what it received.
//!
//! HTTP/1.1 with keep-alive, on loopback, on a thread of its own. Real enough to put load on,
//! not meant for anything else.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::log::Timestamp;

/// Which back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    Quote,
    Echo,
}

const QUOTES: [&str; 8] = [
    "A late night does not make any sense.",
    "A principal idea is omnipresent, much like candy.",
    "Abstraction is ever present.",
    "Nihilism gambles with lives, happiness, and even destiny itself!",
    "Non-locality is the driver of truth. By summoning, we vibrate.",
    "The last sentence you read is often sensible nonsense.",
    "Utter nonsense is a storyteller without equal.",
    "668: The Neighbor of the Beast.",
];

/// Bytes of a head; beyond, the connection closes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Starts back ends on loopback ports (0 takes a free one) and gives their addresses, in order.
///
/// # Errors
/// A port that is in use, named.
pub fn start(samples: &[(Sample, u16)]) -> io::Result<Vec<SocketAddr>> {
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for &(sample, port) in samples {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = StdListener::bind(address).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
        })?;
        listener.set_nonblocking(true)?;
        addresses.push(listener.local_addr()?);
        listeners.push((sample, listener));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("samples".into()).spawn(move || {
        runtime.block_on(async {
            for (sample, listener) in listeners {
                match TcpListener::from_std(listener) {
                    Ok(listener) => drop(tokio::spawn(accept(sample, listener))),
                    Err(error) => crate::log::error(format!("sample back end: {error}")),
                }
            }
            std::future::pending::<()>().await;
        });
    })?;
    Ok(addresses)
}

async fn accept(sample: Sample, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(sample, stream))),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

/// One connection; a fault of the peer ends it.
async fn connection(sample: Sample, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let Some(request) = Received::read(&mut stream, &mut buffer).await? else { return Ok(()) };
        let body = match sample {
            Sample::Quote => quote(),
            Sample::Echo => request.echo(),
        };
        let body = format!("{body:#}\n");
        let close = if request.close { "connection: close\r\n" } else { "" };
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             {close}\r\n",
            body.len()
        );
        if request.method != "HEAD" {
            answer.push_str(&body);
        }
        stream.write_all(answer.as_bytes()).await?;
        if request.close {
            return stream.shutdown().await;
        }
    }
}

fn quote() -> Value {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    json!({
        "server": "ringway-demo",
        "quote": QUOTES[n % QUOTES.len()],
        "time": Timestamp(SystemTime::now()).to_string(),
    })
}

/// A request, its body counted and gone.
struct Received {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body_bytes: u64,
    close: bool,
}

impl Received {
    /// Reads one request; `None` at the end of the connection.
    async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Self>> {
        let mut received = loop {
            if let Some((received, length)) = Self::parse(buffer)? {
                buffer.drain(..length);
                break received;
            }
            if buffer.len() > HEAD_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if stream.read_buf(buffer).await? == 0 {
                return Ok(None);
            }
        };
        let field = |name: &str| {
            let found = received.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        if field("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let close = field("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        let body_bytes = if field("transfer-encoding").is_some() {
            skip_chunks(stream, buffer).await?
        } else {
            let length = field("content-length").map_or(Ok(0), str::parse);
            let length = length.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            skip(stream, buffer, length).await?;
            length
        };
        received.close = close;
        received.body_bytes = body_bytes;
        Ok(Some(received))
    }

    fn parse(bytes: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut request = httparse::Request::new(&mut fields);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = request.headers.iter().map(|f| (f.name.to_owned(), text(f.value))).collect();
        let received = Self {
            method: request.method.unwrap_or_default().to_owned(),
            target: request.path.unwrap_or_default().to_owned(),
            headers,
            body_bytes: 0,
            close: false,
        };
        Ok(Some((received, length)))
    }

    /// What was received, headers in order as `name: value` lines.
    fn echo(&self) -> Value {
        let lines: Vec<String> = self.headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
        json!({
            "method": self.method,
            "path": self.target,
            "headers": lines,
            "body_bytes": self.body_bytes,
        })
    }
}

/// Reads and forgets so many bytes.
async fn skip(stream: &mut TcpStream, buffer: &mut Vec<u8>, mut length: u64) -> io::Result<()> {
    loop {
        let here = length.min(buffer.len() as u64);
        buffer.drain(..here as usize);
        length -= here;
        if length == 0 {
            return Ok(());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads and forgets a chunked body with its trailers; gives its length.
async fn skip_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<u64> {
    let mut total = 0;
    loop {
        let (start, size) = loop {
            match httparse::parse_chunk_size(buffer) {
                Ok(httparse::Status::Complete(found)) => break found,
                Ok(httparse::Status::Partial) if buffer.len() < HEAD_BYTES_MAX => {
                    if stream.read_buf(buffer).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        };
        buffer.drain(..start);
        if size == 0 {
            break;
        }
        skip(stream, buffer, size.saturating_add(2)).await?;
        total += size;
    }
    // Trailers end with an empty line.
    loop {
        match buffer.windows(2).position(|w| w == b"\r\n") {
            Some(0) => {
                buffer.drain(..2);
                return Ok(total);
            }
            Some(end) => drop(buffer.drain(..end + 2)),
            None if buffer.len() > HEAD_BYTES_MAX => return Err(io::ErrorKind::InvalidData.into()),
            None => {
                if stream.read_buf(buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
