// SPDX-License-Identifier: Apache-2.0
//! HTTP/2: connections, whose events and floods do not depend on where bytes are cut; messages
//! against the codec of HTTP/1.1, which must read what is made of them as one message and the same.

use ringway_core::limits;
use ringway_core::wire::h1::body::{Decoder, Step};
use ringway_core::wire::h1::parse::{self, Limits, Parsed};
use ringway_core::wire::h2::connection::{Config, Connection, Event, Key};
use ringway_core::wire::h2::frame::{self, Code, FrameHeader};
use ringway_core::wire::h2::message::{self, Malformed, Pseudo};
use ringway_core::wire::h2::meter::Role;
use ringway_core::wire::{Framing, Head, HeadView, Version};

use crate::segments::{Cuts, Random};

type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Between fields, and between a name and its value: no field may have either in it.
const RECORD: u8 = 0x1e;
const UNIT: u8 = 0x1f;

/// Whole fields, for inputs that are choices among them.
const FIELDS: &[(&[u8], &[u8])] = &[
    (b"host", b"a"),
    (b"host", b"A:443"),
    (b"host", b"b"),
    (b"cookie", b"a=b"),
    (b"cookie", b"c=d; e"),
    (b"te", b"trailers"),
    (b"te", b"gzip"),
    (b"connection", b"close"),
    (b"upgrade", b"x"),
    (b"transfer-encoding", b"chunked"),
    (b"content-length", b"5"),
    (b"x-a", b""),
    (b"x-a", b"b\tc"),
    (b"x-a", b"b\r\nhost: c"),
    (b"x-a", b" b"),
    (b"X-A", b"b"),
    (b"x a", b"b"),
    (b"x-envoy-a", b"b"),
    (b"sec-websocket-key", b"k"),
    (b"grpc-status", b"0"),
    (b":path", b"/"),
    (b"", b"b"),
];
const PSEUDO: &[Pseudo<'static>] = &[
    pseudo(b"GET", Some(b"https"), Some(b"a"), Some(b"/"), None),
    pseudo(b"POST", Some(b"http"), None, Some(b"/a?b"), None),
    pseudo(b"OPTIONS", Some(b"http"), Some(b"a"), Some(b"*"), None),
    pseudo(b"CONNECT", None, Some(b"a:1"), None, None),
    pseudo(b"CONNECT", Some(b"https"), Some(b"a"), Some(b"/"), Some(b"websocket")),
    pseudo(b"GET", Some(b"https"), Some(b"a"), Some(b"/"), Some(b"websocket")),
];

const fn pseudo<'a>(
    method: &'a [u8],
    scheme: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    protocol: Option<&'a [u8]>,
) -> Pseudo<'a> {
    Pseudo { method, scheme, authority, path, protocol }
}

/// Pseudo-header fields and fields: those written in the bytes, or after a byte that is no method,
/// those that they choose.
fn composed(data: &[u8]) -> (Pseudo<'_>, Pairs<'_>) {
    if let [1, first, choices @ ..] = data {
        let fields = choices.iter().map(|&choice| FIELDS[usize::from(choice) % FIELDS.len()]);
        return (PSEUDO[usize::from(*first) % PSEUDO.len()], fields.collect());
    }
    let mut records = data.split(|&b| b == RECORD);
    let mut parts = records.next().unwrap_or_default().split(|&b| b == UNIT);
    let mut part = || parts.next().unwrap_or_default();
    let method = part();
    let [scheme, authority, path, protocol] =
        std::array::from_fn(|_| Some(part()).filter(|part| !part.is_empty()));
    let fields = records.map(|record| {
        let mut parts = record.splitn(2, |&b| b == UNIT);
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    });
    (Pseudo { method, scheme, authority, path, protocol }, fields.collect())
}

/// Pseudo-header fields and fields as a request, a response and trailers.
pub fn h2_message(data: &[u8]) {
    let (pseudo, fields) = composed(data);
    request(pseudo, &fields);
    response(&fields);
    trailers(&fields);
}

fn request(pseudo: Pseudo<'_>, fields: &Pairs<'_>) {
    let limits = Limits::default();
    let (mut block, mut head) = (Vec::new(), Head::default());
    let fields_of = || fields.iter().copied();
    let made = message::request(&mut block, &mut head, &limits, pseudo, b"key", fields_of());
    let clean = fields.iter().all(|(name, value)| is_clean(name, value));
    let Ok(()) = made else { return };
    assert!(clean, "{:?}", String::from_utf8_lossy(&block));
    same(&block, &head, parse::request);
    let view = HeadView::new(&head, &block);
    let upgrades = pseudo.protocol.is_some();
    assert_eq!(view.method(), if upgrades { b"GET" } else { pseudo.method });
    assert_eq!(Some(view.target()), pseudo.path.or(pseudo.authority));
    assert_eq!(view.values("upgrade").next(), pseudo.protocol);
    assert!(view.values("host").count() <= 1 && view.values("cookie").count() <= 1);
    let cookies = |pairs: Pairs<'_>| {
        let values = pairs.into_iter().filter(|(name, _)| *name == b"cookie").map(|(_, v)| v);
        values.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(&b"; "[..])
    };
    let host = view.values("host").next();
    assert_eq!(cookies(fields_of().collect()), view.values("cookie").next().unwrap_or_default());
    if upgrades {
        return;
    }
    // What is sent onward by HTTP/2 is received as the same.
    let onward: Pairs<'_> = message::lines(&block).collect();
    assert_eq!(onward.len() + view.values("host").count(), head.fields.len());
    let (mut again, mut head) = (Vec::new(), Head::default());
    let pseudo = Pseudo { authority: pseudo.authority.or(host), ..pseudo };
    let fields = onward.iter().copied();
    let made = message::request(&mut again, &mut head, &limits, pseudo, b"key", fields);
    assert_eq!(made, Ok(()));
    let sorted = |block: &[u8]| {
        let mut lines: Vec<Vec<u8>> = block.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&again), sorted(&block));
}

fn response(fields: &Pairs<'_>) {
    let (mut block, mut head) = (Vec::new(), Head::default());
    let limits = Limits::default();
    let made = message::response(&mut block, &mut head, &limits, 200, fields.iter().copied());
    let clean = fields.iter().all(|(name, value)| is_clean(name, value));
    if made.is_ok() {
        same(&block, &head, parse::response);
        let view = HeadView::new(&head, &block);
        let seen: Pairs<'_> = view.fields().map(|(_, name, value)| (name, value)).collect();
        assert_eq!(&seen, fields);
    }
    let within = fields.len() <= limits::HEAD_FIELDS_MAX && block.len() <= limits::HEAD_BYTES_MAX;
    assert!(made.is_ok() == clean || (clean && !within) || made == Err(Malformed::HeadTooLarge));
}

/// As trailers of HTTP/1.1 the same would pass.
fn trailers(fields: &Pairs<'_>) {
    let mut out = Vec::new();
    let Ok(()) = message::trailers(&mut out, fields.iter().copied()) else { return };
    let mut section = b"0\r\n".to_vec();
    for &(name, value) in fields {
        section.extend([name, &b": "[..], value, b"\r\n"].concat());
    }
    section.extend(b"\r\n");
    let mut decoder = Decoder::new(Framing::Chunked);
    assert_eq!(decoder.step(&section), Ok(Step::End { skip: section.len() }));
    assert_eq!(decoder.trailers(), out);
}

/// RFC 9113 §8.2 in plain words.
fn is_clean(name: &[u8], value: &[u8]) -> bool {
    let symbols = b"!#$%&'*+-.^_`|~";
    let token = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || symbols.contains(b);
    let text = |b: &u8| *b == b'\t' || (*b >= b' ' && *b != 0x7f);
    let specific: [&[u8]; 5] =
        [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];
    !name.is_empty()
        && name.iter().all(token)
        && value.iter().all(text)
        && !value.starts_with(b" ")
        && !value.starts_with(b"\t")
        && !value.ends_with(b" ")
        && !value.ends_with(b"\t")
        && !specific.contains(&name)
        && (name != b"te" || value.eq_ignore_ascii_case(b"trailers"))
}

type Parser = fn(&[u8], &mut Head, &Limits, &mut usize) -> Result<Parsed, parse::ParseError>;

fn same(block: &[u8], head: &Head, parser: Parser) {
    let mut parsed = Head::default();
    assert_eq!(parser(block, &mut parsed, &Limits::default(), &mut 0), Ok(Parsed::Complete));
    parsed.version = Version::Http2;
    assert_eq!(&parsed, head);
    assert_eq!(head.len, block.len());
}

/// Bytes of a connection: behind what must come first, or as they are. To a client, which has sent
/// two requests, or to a server. After a byte with its third bit set, frames are made of the bytes:
/// four each for type, flags, stream and length, then their payload.
pub fn h2_connection(data: &[u8]) {
    let [choice, data @ ..] = data else { return };
    let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let mut stream = Vec::new();
    if choice & 2 == 0 {
        if role == Role::Server {
            stream.extend_from_slice(frame::PREFACE);
        }
        frame::write_settings(&mut stream, &[]);
    }
    if choice & 4 == 0 {
        stream.extend_from_slice(data);
    } else {
        let mut rest = data;
        while let &[kind, flags, number, len, ref after @ ..] = rest {
            let len = usize::from(len).min(after.len());
            let (kind, number) = (kind % 11, u32::from(number % 8));
            FrameHeader { len: len as u32, kind, flags, stream: number }.write(&mut stream);
            stream.extend_from_slice(&after[..len]);
            rest = &after[len..];
        }
    }
    let whole = heard(role, &stream, Cuts::Whole);
    for cuts in [Cuts::Bytes, Cuts::Random(Random::of(data))] {
        assert!(heard(role, &stream, cuts) == whole);
    }
}

/// What a connection made of the bytes, what it said to them, and how it ended.
fn heard(role: Role, mut bytes: &[u8], mut cuts: Cuts) -> (String, Vec<u8>, Option<Code>) {
    let config = Config { role, streams_max: 2, head_bytes_max: 4096 };
    let mut connection = Connection::<u32>::new(config);
    let mut events = String::new();
    if role == Role::Client {
        for user in [1, 3] {
            let head = b"POST / HTTP/1.1\r\nhost: a\r\n\r\n";
            let _ = connection.request(user, head, false, user == 1);
        }
    }
    // Of the body that is being told: its pieces depend on the cuts, and are put together.
    let mut body = None;
    while !bytes.is_empty() {
        let (mut piece, after) = bytes.split_at(cuts.next(bytes.len()));
        bytes = after;
        loop {
            let mut attached: Option<Key> = None;
            match connection.next(&mut piece) {
                None => break,
                Some(Event::Data { user, data, ended }) => {
                    if body != Some(*user) {
                        events.push_str(&format!("\ndata {user} "));
                    }
                    body = (!ended).then_some(*user);
                    events.extend(data.iter().map(|byte| format!("{byte:02x}")));
                    events.push_str(if ended { " ended" } else { "" });
                    continue;
                }
                Some(Event::Request { key, fields, ended }) => {
                    attached = Some(key);
                    let fields: Vec<_> = fields.iter().collect();
                    events.push_str(&format!("\nrequest {fields:?} {ended}"));
                }
                Some(Event::Answer { user, fields, ended, .. }) => {
                    let fields: Vec<_> = fields.iter().collect();
                    events.push_str(&format!("\nanswer {user} {fields:?} {ended}"));
                }
                Some(Event::Trailers { user, fields, .. }) => {
                    let fields: Vec<_> = fields.iter().collect();
                    events.push_str(&format!("\ntrailers {user} {fields:?}"));
                }
                Some(Event::Failed { user, failure }) => {
                    events.push_str(&format!("\nfailed {user} {failure:?}"));
                }
                Some(Event::Room { user }) => events.push_str(&format!("\nroom {user}")),
            }
            body = None;
            if let Some(key) = attached {
                connection.attach(key, events.len() as u32, None);
            }
        }
        assert!(piece.is_empty() && connection.live() <= 2);
    }
    let over = connection.over();
    let (frames, flood) = (connection.frames(), connection.flood());
    assert!(flood.is_none() || over == Some(Code::ENHANCE_YOUR_CALM));
    events.push_str(&format!("\n{frames} frames, {flood:?}"));
    (events, std::mem::take(&mut connection.out), over)
}
