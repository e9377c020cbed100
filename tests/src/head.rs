// SPDX-License-Identifier: Apache-2.0
//! HTTP/1 messages read strictly from a socket, shared by the client and the back ends. Written
//! from RFC 9112 on its own, and shares nothing with the gateway's codec: what it accepts, others
//! accept too.

use std::io::{self, Read};

use crate::tls::Stream;

/// Field lines in order, names as they came.
pub type Fields = Vec<(String, String)>;

/// Values of all lines of a name (any case), joined as RFC 9110 §5.3 says.
pub fn joined(fields: &Fields, name: &str) -> Option<String> {
    let values: Vec<&str> = fields
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.as_str())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// A socket with what was read beyond the last message.
#[derive(Debug)]
pub struct Reader {
    pub stream: Stream,
    buffer: Vec<u8>,
}

/// A message that is not as RFC 9112 says, or that ended early.
pub fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Reader {
    pub fn new(stream: impl Into<Stream>) -> Self {
        Self { stream: stream.into(), buffer: Vec::new() }
    }

    /// Bytes read and not used yet.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads more; 0 at the end of the stream.
    pub fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let n = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    fn need(&mut self, what: &str) -> io::Result<()> {
        match self.fill()? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the connection ended within {what}"),
            )),
            _ => Ok(()),
        }
    }

    /// One line without its CRLF. A bare LF or CR is an error.
    pub fn line(&mut self, what: &str) -> io::Result<String> {
        let mut from = 0;
        loop {
            if let Some(at) = self.buffer[from..].iter().position(|b| *b == b'\n') {
                let at = from + at;
                if at == 0 || self.buffer[at - 1] != b'\r' {
                    return Err(malformed(format!("a bare line feed in {what}")));
                }
                let line: Vec<u8> = self.buffer.drain(..=at).take(at - 1).collect();
                if line.contains(&b'\r') || line.contains(&0) {
                    return Err(malformed(format!("a bare CR or a NUL in {what}")));
                }
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            from = self.buffer.len();
            if from > 256 * 1024 {
                return Err(malformed(format!("an endless line in {what}")));
            }
            self.need(what)?;
        }
    }

    /// A start line and its fields; `None` where the stream ends before the first byte.
    pub fn head(&mut self) -> io::Result<Option<(String, Fields)>> {
        while self.buffer.is_empty() {
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
        let start = self.line("a start line")?;
        Ok(Some((start, self.fields()?)))
    }

    /// Field lines up to and including the empty line.
    pub fn fields(&mut self) -> io::Result<Fields> {
        let mut fields = Vec::new();
        loop {
            let line = self.line("a head")?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| malformed(format!("a field line without a colon: {line:?}")))?;
            let token = !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
            if !token {
                return Err(malformed(format!("a field name that is no token: {line:?}")));
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// Exactly `n` bytes, handed on as they come.
    pub fn exactly(&mut self, mut n: u64, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        while n > 0 {
            if self.buffer.is_empty() {
                self.need("a body")?;
            }
            let take = self.buffer.len().min(usize::try_from(n).unwrap_or(usize::MAX));
            sink(&self.buffer[..take]);
            self.buffer.drain(..take);
            n -= take as u64;
        }
        Ok(())
    }

    /// A chunked body and its trailers.
    pub fn chunked(&mut self, sink: &mut dyn FnMut(&[u8])) -> io::Result<Fields> {
        loop {
            let line = self.line("a chunk size")?;
            let size = line.split(';').next().unwrap_or_default().trim_end();
            let hex = !size.is_empty() && size.bytes().all(|b| b.is_ascii_hexdigit());
            if !hex {
                return Err(malformed(format!("a bad chunk size: {line:?}")));
            }
            let size = u64::from_str_radix(size, 16).map_err(|e| malformed(e.to_string()))?;
            if size == 0 {
                return self.fields();
            }
            self.exactly(size, sink)?;
            if !self.line("the end of a chunk")?.is_empty() {
                return Err(malformed("bytes after a chunk's data"));
            }
        }
    }

    /// Everything until the stream ends.
    pub fn rest(&mut self, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        loop {
            sink(&self.buffer);
            self.buffer.clear();
            if self.fill()? == 0 {
                return Ok(());
            }
        }
    }
}
