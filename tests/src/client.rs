// SPDX-License-Identifier: Apache-2.0
//! A client on a raw socket: it sends exactly the bytes it is given and reads answers strictly.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rustls::ClientConfig;

use crate::head::{Fields, Reader, joined, malformed};
use crate::tls::{self, Handshake, Stream};

/// One answer.
#[derive(Debug)]
pub struct Response {
    pub version: String,
    pub status: u16,
    pub reason: String,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// Why the body is visibly incomplete, if it is.
    pub broken: Option<String>,
    /// Interim (1xx) answers that came before.
    pub interim: Vec<u16>,
}

impl Response {
    /// Values of a header's lines, joined.
    pub fn header(&self, name: &str) -> Option<String> {
        joined(&self.fields, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What an echoing back end saw; `None` if none answered.
    pub fn seen(&self) -> Option<serde_json::Value> {
        let value: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        value.get("backend").is_some().then_some(value)
    }
}

/// A connection to a gateway.
#[derive(Debug)]
pub struct Client {
    reader: Reader,
}

impl Client {
    /// Connects from 127.0.0.1. Reads and writes give up after `patience`.
    pub fn connect(to: SocketAddr, patience: Duration) -> io::Result<Self> {
        Self::connect_from(Ipv4Addr::LOCALHOST, to, patience)
    }

    /// Connects from a given loopback address.
    pub fn connect_from(from: Ipv4Addr, to: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = connect_from(from, to)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: Reader::new(stream) })
    }

    /// Connects, says what goes before TLS (a PROXY header), and handshakes.
    pub fn connect_tls(
        to: SocketAddr,
        patience: Duration,
        before: &[u8],
        config: Arc<ClientConfig>,
        server_name: Option<&str>,
    ) -> Result<Self> {
        let mut plain = Self::connect(to, patience)?;
        plain.send(before)?;
        let Stream::Plain(socket) = plain.reader.stream else { unreachable!("just connected") };
        let stream = tls::connect(socket, config, server_name)?;
        Ok(Self { reader: Reader::new(stream) })
    }

    /// What the TLS handshake came to.
    pub fn handshake(&self) -> Option<Handshake> {
        self.reader.stream.handshake()
    }

    /// The socket, below TLS if there is any.
    pub fn stream(&self) -> &TcpStream {
        self.reader.stream.socket()
    }

    /// The connection, of which nothing must have been read beyond what was asked for.
    pub fn into_stream(self) -> Stream {
        self.reader.stream
    }

    pub fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.stream.write_all(bytes)
    }

    /// `METHOD target` with a Host and nothing else.
    pub fn get(&mut self, target: &str, host: &str) -> io::Result<Response> {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
        self.response("GET")
    }

    /// The next answer, its whole body included.
    pub fn response(&mut self, method: &str) -> io::Result<Response> {
        let mut body = Vec::new();
        let mut response = self.response_to(method, &mut |bytes| body.extend_from_slice(bytes))?;
        response.body = body;
        Ok(response)
    }

    /// The next answer; its body goes to `sink` as it comes.
    pub fn response_to(
        &mut self,
        method: &str,
        sink: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Response> {
        let mut response = self.response_head()?;
        let broken = self.body(method, &mut response, sink).err();
        // A read time-out is a hang and not an answer.
        match broken {
            Some(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            broken => {
                response.broken = broken.map(|error| error.to_string());
                Ok(response)
            }
        }
    }

    /// The next final head; interim ones are noted in it.
    pub fn response_head(&mut self) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let (start, fields) = self.reader.head()?.ok_or_else(|| {
                io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer")
            })?;
            let (version, status, reason) = status_line(&start)?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            return Ok(Response {
                version,
                status,
                reason,
                fields,
                body: Vec::new(),
                trailers: Vec::new(),
                broken: None,
                interim,
            });
        }
    }

    fn body(
        &mut self,
        method: &str,
        response: &mut Response,
        sink: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        // RFC 9112 §6.3, in its order.
        let bodiless = method == "HEAD" || matches!(response.status, 101 | 204 | 304);
        let length = response.header("content-length");
        let coding = response.header("transfer-encoding");
        match (bodiless, coding, length) {
            (_, Some(_), Some(_)) => Err(malformed("both Transfer-Encoding and Content-Length")),
            (true, ..) => Ok(()),
            (_, Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => {
                response.trailers = self.reader.chunked(sink)?;
                Ok(())
            }
            (_, Some(coding), _) => Err(malformed(format!("Transfer-Encoding: {coding}"))),
            (_, None, Some(length)) => {
                let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
                match length.parse() {
                    Ok(n) if digits => self.reader.exactly(n, sink),
                    _ => Err(malformed(format!("Content-Length: {length}"))),
                }
            }
            (_, None, None) => self.reader.rest(sink),
        }
    }

    /// Ends our side; the gateway may still answer.
    pub fn finish(&mut self) -> io::Result<()> {
        self.reader.stream.finish()
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let length = size_of::<libc::linger>() as libc::socklen_t;
        // SAFETY: an option of a descriptor that we own, from a value that outlives the call.
        unsafe {
            libc::setsockopt(
                self.reader.stream.socket().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                length,
            );
        }
    }

    /// Whether the gateway closes now, without another byte. A reset counts as closing.
    pub fn is_closed(&mut self) -> io::Result<bool> {
        if !self.reader.buffered().is_empty() {
            return Ok(false);
        }
        match self.reader.fill() {
            Ok(n) => Ok(n == 0),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(true),
            Err(error) => Err(error),
        }
    }
}

fn status_line(line: &str) -> io::Result<(String, u16, String)> {
    let bad = || malformed(format!("a bad status line: {line:?}"));
    let (version, rest) = line.split_once(' ').ok_or_else(bad)?;
    if version != "HTTP/1.1" && version != "HTTP/1.0" {
        return Err(bad());
    }
    // The space before the reason is required, the reason is not.
    let (status, reason) = rest.split_once(' ').ok_or_else(bad)?;
    if status.len() != 3 {
        return Err(bad());
    }
    let status = status.parse().map_err(|_| bad())?;
    Ok((version.to_owned(), status, reason.to_owned()))
}

/// Connects with a given source address, which the standard library cannot.
fn connect_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(to) = to else {
        return TcpStream::connect(to);
    };
    let address = |ip: Ipv4Addr, port: u16| libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
        sin_zero: [0; 8],
    };
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: plain system calls on a descriptor that `OwnedFd` closes; the addresses outlive them.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = OwnedFd::from_raw_fd(fd);
        // Without this the port would be chosen before the destination is known, and thousands of
        // connections from one address run out of ports.
        let on: libc::c_int = 1;
        let on_length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            on_length,
        );
        let source = address(from, 0);
        if libc::bind(fd.as_raw_fd(), (&raw const source).cast(), length) != 0 {
            return Err(io::Error::last_os_error());
        }
        let target = address(*to.ip(), to.port());
        if libc::connect(fd.as_raw_fd(), (&raw const target).cast(), length) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(TcpStream::from(fd))
    }
}
