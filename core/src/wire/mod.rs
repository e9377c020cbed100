// SPDX-License-Identifier: Apache-2.0
//! Codecs: bytes to events and back, without I/O.
//!
//! Every protocol speaks one vocabulary: a [`Head`], body chunks, trailers, an end or a reset. A
//! head is one block of bytes plus spans into it; nothing is copied into a map, names keep the
//! case that they came with, and edits are applied while the outgoing head is written.

pub mod authority;
pub mod grpc;
pub mod grpc_web;
pub mod h1;
pub mod h2;
pub mod proxy_protocol;

/// A range of bytes in a head's block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= u32::MAX as usize);
        Self { start: start as u32, end: end as u32 }
    }

    pub fn of(self, block: &[u8]) -> &[u8] {
        &block[self.start as usize..self.end as usize]
    }

    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// HTTP versions as far as a head can have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    /// Its heads are written as HTTP/1.1 would have them: see [`h2::message`].
    Http2,
}

impl Version {
    /// As access logs print it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

macro_rules! known_fields {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// Field names that the gateway itself reads or decides about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Known {
            /// Any other name.
            Other,
            $($variant,)*
        }

        impl Known {
            /// How many there are, [`Known::Other`] included.
            pub const COUNT: usize = [$($name),*].len() + 1;

            const NAMES: [&'static [u8]; Self::COUNT] = [b"", $($name.as_bytes()),*];
            const ALL: [Self; Self::COUNT] = [Self::Other, $(Self::$variant),*];

            /// The name in lower case; empty for [`Known::Other`].
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::Other => "",
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

known_fields! {
    Host = "host",
    Connection = "connection",
    ContentLength = "content-length",
    TransferEncoding = "transfer-encoding",
    KeepAlive = "keep-alive",
    ProxyConnection = "proxy-connection",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    Te = "te",
    Trailer = "trailer",
    Upgrade = "upgrade",
    Http2Settings = "http2-settings",
    Expect = "expect",
    Date = "date",
    Server = "server",
    UserAgent = "user-agent",
    Authorization = "authorization",
    Cookie = "cookie",
    SetCookie = "set-cookie",
    ContentType = "content-type",
    Location = "location",
    XForwardedFor = "x-forwarded-for",
    XForwardedClientCert = "x-forwarded-client-cert",
    XForwardedProto = "x-forwarded-proto",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XRequestId = "x-request-id",
    XEnvoyOriginalPath = "x-envoy-original-path",
    XEnvoyExpectedRqTimeoutMs = "x-envoy-expected-rq-timeout-ms",
    XEnvoyUpstreamServiceTime = "x-envoy-upstream-service-time",
    XEnvoyInternal = "x-envoy-internal",
    XEnvoyExternalAddress = "x-envoy-external-address",
    // Stands for every other `x-envoy-` name: its own text never occurs as a field name.
    XEnvoyOther = "x-envoy-",
}

/// Position of each known name by [`hash`], 0 where there is none. Built by the compiler, which
/// refuses a set of names in which two collide.
const BY_HASH: [u8; 128] = {
    let mut table = [0; 128];
    let mut at = 1;
    while at < Known::COUNT {
        let slot = hash(Known::NAMES[at]);
        assert!(table[slot] == 0, "two known names collide: choose other factors in `hash`");
        table[slot] = at as u8;
        at += 1;
    }
    table
};

/// Of a name of at least two bytes, whatever its case.
const fn hash(name: &[u8]) -> usize {
    let (first, penultimate) = (name[0] | 0x20, name[name.len() - 2] | 0x20);
    (name.len() * 4 + first as usize + penultimate as usize * 19) % 128
}

/// A known name as names are compared with it: a word of eight bytes at a time, whatever their case.
#[derive(Clone, Copy)]
struct Pattern {
    len: usize,
    text: [u8; NAME_BYTES_MAX],
    /// The bit that a letter of the text has and the same letter in upper case has not.
    case: [u8; NAME_BYTES_MAX],
}

/// Bytes of the longest known name, in whole words.
const NAME_BYTES_MAX: usize = 32;

const PATTERNS: [Pattern; Known::COUNT] = {
    let empty = Pattern { len: 0, text: [0; NAME_BYTES_MAX], case: [0; NAME_BYTES_MAX] };
    let mut patterns = [empty; Known::COUNT];
    let mut at = 0;
    while at < Known::COUNT {
        let name = Known::NAMES[at];
        patterns[at].len = name.len();
        let mut byte = 0;
        while byte < name.len() {
            patterns[at].text[byte] = name[byte];
            patterns[at].case[byte] = if name[byte].is_ascii_lowercase() { 0x20 } else { 0 };
            byte += 1;
        }
        at += 1;
    }
    patterns
};

impl Pattern {
    fn is(&self, name: &[u8]) -> bool {
        if name.len() != self.len {
            return false;
        }
        let whole = self.len / 8 * 8;
        (0..whole).step_by(8).all(|at| self.has_word(name, at))
            && match self.len {
                len if len == whole => true,
                // Once more some bytes of the word before.
                8.. => self.has_word(name, self.len - 8),
                _ => name.iter().zip(self.text).zip(self.case).all(|((&b, t), c)| b | c == t),
            }
    }

    /// Whether the eight bytes at `at` are the name's.
    fn has_word(&self, name: &[u8], at: usize) -> bool {
        let word = |bytes: &[u8]| bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes);
        match (word(name), word(&self.text), word(&self.case)) {
            (Some(name), Some(text), Some(case)) => name | case == text,
            _ => false,
        }
    }
}

impl Known {
    /// Recognises a name, ignoring ASCII case. Never gives [`Known::XEnvoyOther`].
    pub fn of(name: &[u8]) -> Self {
        if name.len() < 2 {
            return Self::Other;
        }
        let at = BY_HASH[hash(name)] as usize;
        if PATTERNS[at].is(name) && at != Self::XEnvoyOther as usize {
            Self::ALL[at]
        } else {
            Self::Other
        }
    }

    /// As [`Known::of`], and [`Known::XEnvoyOther`] for every other name of that prefix: what
    /// tags a field line.
    pub fn of_field(name: &[u8]) -> Self {
        let known = Self::of(name);
        if known == Self::Other && is_x_envoy(name) { Self::XEnvoyOther } else { known }
    }

    /// Whether the tag says the whole name.
    pub fn is_exact(self) -> bool {
        !matches!(self, Self::Other | Self::XEnvoyOther)
    }
}

/// Whether a name has that prefix, which is a word.
fn is_x_envoy(name: &[u8]) -> bool {
    PATTERNS[Known::XEnvoyOther as usize].has_word(name, 0)
}

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    /// Without surrounding white space.
    pub value: Span,
    pub known: Known,
}

/// One message head: spans into a block of bytes that somebody else holds. Kept by its connection
/// and filled again for each message, so that parsing allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Requests: the method. Empty for responses.
    pub method: Span,
    /// Requests: the target as sent. Responses: the reason phrase.
    pub target: Span,
    pub version: Version,
    /// Responses: the status code. 0 for requests.
    pub status: u16,
    pub fields: Vec<Field>,
    /// Bytes of the block that the head takes, its empty line included.
    pub len: usize,
}

impl Head {
    /// What is not read yet.
    pub const EMPTY: Self = Self {
        method: Span { start: 0, end: 0 },
        target: Span { start: 0, end: 0 },
        version: Version::Http11,
        status: 0,
        fields: Vec::new(),
        len: 0,
    };
}

/// A head together with its block: what routing, policies and encoders look at.
#[derive(Clone, Copy, Debug)]
pub struct HeadView<'a> {
    pub head: &'a Head,
    pub block: &'a [u8],
}

impl<'a> HeadView<'a> {
    pub fn new(head: &'a Head, block: &'a [u8]) -> Self {
        Self { head, block }
    }

    pub fn method(self) -> &'a [u8] {
        self.head.method.of(self.block)
    }

    pub fn target(self) -> &'a [u8] {
        self.head.target.of(self.block)
    }

    /// All field lines in order: tag, name as written, value.
    pub fn fields(self) -> impl Iterator<Item = (Known, &'a [u8], &'a [u8])> {
        let block = self.block;
        self.head.fields.iter().map(move |f| (f.known, f.name.of(block), f.value.of(block)))
    }

    /// Value of the first line with this known name.
    pub fn known(self, known: Known) -> Option<&'a [u8]> {
        self.head.fields.iter().find(|f| f.known == known).map(|f| f.value.of(self.block))
    }

    /// Values of all lines with this name (lower case), in order.
    pub fn values(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let known = Known::of(name.as_bytes());
        let block = self.block;
        self.head.fields.iter().filter_map(move |f| {
            let same = match known {
                Known::Other => {
                    !f.known.is_exact() && f.name.of(block).eq_ignore_ascii_case(name.as_bytes())
                }
                known => f.known == known,
            };
            same.then(|| f.value.of(block))
        })
    }

    /// Value of the first line with this name (lower case).
    pub fn first(self, name: &str) -> Option<&'a [u8]> {
        self.values(name).next()
    }
}

/// How a message's body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    #[default]
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// RFC 9112 §7.1.
    Chunked,
    /// Responses only: everything until the connection closes.
    UntilClose,
}

#[cfg(test)]
mod tests;
