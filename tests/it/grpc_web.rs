// SPDX-License-Identifier: Apache-2.0
//! gRPC-Web and the gRPC bridge of HTTP/1.1 through the running gateway, in front of the official
//! library's server: what browsers and clients without trailers send and read, byte by byte.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use ringway_tests::client::Response;
use ringway_tests::gateway::Gateway;
use ringway_tests::h2::frame::{Code, Frame, data, headers, reset};
use ringway_tests::h2::{Event, Peer};
use ringway_tests::head::{Fields, joined};
use ringway_tests::manifest::{mapping, module};
use ringway_tests::pki::base64;
use ringway_tests::upstream::{Upstream, pattern};
use ringway_tests::{Client, PATIENCE, wait_until};

use super::DRIVERS;
use super::grpc::{grpcio, message};
use super::h2::{self, CLEARTEXT, HOST, TLS, listeners_and_host};

/// What a body says: its messages, and the trailers if they are its last one.
#[derive(Debug, Default, PartialEq)]
struct Said {
    messages: Vec<Vec<u8>>,
    trailers: Option<Fields>,
}

impl Said {
    /// Of whole frames and nothing else.
    fn read(mut body: &[u8]) -> Result<Self> {
        let mut said = Self::default();
        while !body.is_empty() {
            ensure!(said.trailers.is_none(), "more after the trailers: {body:?}");
            let (flags, rest) = body.split_first().context("flags")?;
            let (length, rest) = rest.split_first_chunk().context("half a length")?;
            let length = u32::from_be_bytes(*length) as usize;
            let content = rest.get(..length).context("half a message")?;
            body = &rest[length..];
            match flags {
                0 => said.messages.push(content.to_vec()),
                0x80 => said.trailers = Some(fields(content)?),
                other => anyhow::bail!("flags {other:#x}"),
            }
        }
        Ok(said)
    }

    fn trailer(&self, name: &str) -> Option<String> {
        joined(self.trailers.as_ref()?, name)
    }
}

fn fields(text: &[u8]) -> Result<Fields> {
    let lines = std::str::from_utf8(text)?.strip_suffix("\r\n").context("no end of line")?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':').context("no colon")?;
        ensure!(name == name.to_ascii_lowercase(), "{name} is not in lower case");
        Ok((name.to_owned(), value.trim().to_owned()))
    };
    lines.split("\r\n").map(field).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Binary,
    Text,
}

impl Form {
    fn media_type(self) -> &'static str {
        match self {
            Self::Binary => "application/grpc-web+proto",
            Self::Text => "application/grpc-web-text+proto",
        }
    }

    fn encode(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Binary => bytes.to_vec(),
            Self::Text => base64(bytes).into_bytes(),
        }
    }

    /// Base64 that ends, padded, and begins anew anywhere: by groups of four.
    fn decode(self, body: &[u8]) -> Result<Vec<u8>> {
        if self == Self::Binary {
            return Ok(body.to_vec());
        }
        let (groups, rest) = body.as_chunks::<4>();
        ensure!(rest.is_empty(), "half a group of four");
        let mut bytes = Vec::new();
        for group in groups {
            let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
            ensure!(padding <= 2, "nothing but padding");
            let mut bits = 0;
            for byte in &group[..4 - padding] {
                let value = match byte {
                    b'A'..=b'Z' => byte - b'A',
                    b'a'..=b'z' => byte - b'a' + 26,
                    b'0'..=b'9' => byte - b'0' + 52,
                    b'+' => 62,
                    b'/' => 63,
                    other => anyhow::bail!("{other:#x} in base64"),
                };
                bits = bits << 6 | u32::from(value);
            }
            let [_, three @ ..] = (bits << (6 * padding)).to_be_bytes();
            bytes.extend_from_slice(&three[..3 - padding]);
        }
        Ok(bytes)
    }
}

/// The connection that a browser has to the gateway.
enum Caller {
    H1(Client),
    H2(Box<Peer>, u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Protocol {
    /// HTTP/1.1 over cleartext.
    H1,
    /// HTTP/2 over TLS.
    H2,
}

impl Caller {
    fn connect(gateway: &Gateway, protocol: Protocol) -> Self {
        match protocol {
            Protocol::H1 => Self::H1(gateway.client(CLEARTEXT).unwrap()),
            Protocol::H2 => {
                let peer = Peer::connect_tls(gateway.address(TLS), HOST).unwrap();
                // The next request's stream is this and two.
                Self::H2(Box::new(peer), u32::MAX)
            }
        }
    }

    fn send(&mut self, path: &str, fields: &[(&str, &str)], body: &[u8]) -> std::io::Result<()> {
        match self {
            Self::H1(client) => {
                let mut head = format!("POST {path} HTTP/1.1\r\nhost: {HOST}\r\n");
                for (name, value) in fields {
                    head += &format!("{name}: {value}\r\n");
                }
                head += &format!("content-length: {}\r\n\r\n", body.len());
                client.send(&[head.as_bytes(), body].concat())
            }
            Self::H2(peer, stream) => {
                *stream = stream.wrapping_add(2);
                let head = headers(*stream).request("POST", path).fields(fields.iter().copied());
                peer.send(head)?;
                peer.body(*stream, body)?;
                peer.send(data(*stream, "").end_stream())
            }
        }
    }

    /// Ends the connection, so that whoever writes on it hears of it at once.
    fn leave(self) {
        match self {
            Self::H1(client) => client.reset(),
            Self::H2(peer, _) => drop(peer),
        }
    }

    fn response(&mut self) -> std::io::Result<Response> {
        match self {
            Self::H1(client) => client.response("POST"),
            Self::H2(peer, stream) => peer.response(*stream),
        }
    }

    fn ask(&mut self, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Result<Response> {
        self.send(path, fields, body)?;
        Ok(self.response()?)
    }

    /// Bytes of an answer's body as far as they have come, once there are any.
    fn some_body(&mut self) -> Result<Vec<u8>> {
        match self {
            Self::H1(client) => {
                let reader = client.reader();
                let size = usize::from_str_radix(&reader.line("a chunk size")?, 16)?;
                let mut bytes = Vec::new();
                reader.exactly(size as u64, &mut |more| bytes.extend_from_slice(more))?;
                reader.line("the end of a chunk")?;
                Ok(bytes)
            }
            Self::H2(peer, stream) => match peer.event_of(*stream)? {
                Event::Data { bytes, .. } => Ok(bytes),
                other => anyhow::bail!("{other:?}"),
            },
        }
    }

    /// The head of an answer whose body is still to come.
    fn head(&mut self) -> Result<Fields> {
        match self {
            Self::H1(client) => Ok(client.response_head()?.fields),
            Self::H2(peer, stream) => match peer.event_of(*stream)? {
                Event::Headers { fields, end: false, .. } => Ok(fields),
                other => anyhow::bail!("{other:?}"),
            },
        }
    }
}

/// A page's calls over one connection.
struct Browser<'g> {
    gateway: &'g Gateway,
    protocol: Protocol,
    form: Form,
    caller: Caller,
}

impl Browser<'_> {
    fn fields<'f>(&self, more: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
        let media_type = self.form.media_type();
        let own = [("content-type", media_type), ("accept", media_type), ("x-grpc-web", "1")];
        own.into_iter().chain(more.iter().copied()).collect()
    }

    fn ask(&mut self, path: &str, more: &[(&str, &str)], body: &[u8]) -> Result<Response> {
        let response = self.caller.ask(path, &self.fields(more), &self.form.encode(body))?;
        ensure!(response.broken.is_none(), "{path}: {:?}", response.broken);
        ensure!(response.trailers.is_empty(), "a browser reads none: {:?}", response.trailers);
        let media_type = response.header("content-type");
        let same = media_type.as_deref() == Some(self.form.media_type());
        ensure!(same, "{path}: {} {media_type:?}", response.status);
        Ok(response)
    }

    /// One message's call, which must end with this status.
    fn call(&mut self, method: &str, more: &[(&str, &str)], of: &[u8], code: u8) -> Result<Said> {
        let response = self.ask(&format!("/test.Echo/{method}"), more, &message(of))?;
        ensure!(response.status == 200, "{method}: {}", response.status);
        let said = Said::read(&self.form.decode(&response.body)?)?;
        // Where there was no message the head may have said it all.
        let status = said.trailer("grpc-status").or_else(|| response.header("grpc-status"));
        ensure!(status == Some(code.to_string()), "{method}: {status:?} in {response:?}");
        Ok(said)
    }
}

/// One step of [`a_browser_calls_a_grpc_server`], by name.
type Step = fn(&mut Browser<'_>) -> Result<()>;

const STEPS: [(&str, Step); 9] = [
    ("unary", unary),
    ("server streaming", streaming),
    ("a stream that rests, and is left", resting),
    ("large messages", large),
    ("an error before the answer", before),
    ("an error during the answer", during),
    ("failures of the gateway", gateways_own),
    ("base64 in pieces", in_pieces),
    ("base64 that is none", not_base64),
];

fn unary(browser: &mut Browser<'_>) -> Result<()> {
    let more = [("x-ask", "a, b"), ("x-ask-bin", "AAEC")];
    let response = browser.ask("/test.Echo/Unary", &more, &message(b"hello"))?;
    let said = Said::read(&browser.form.decode(&response.body)?)?;
    ensure!(said.messages == [b"hello"], "{said:?}");
    for (name, value) in more.into_iter().chain([("x-first", "1")]) {
        ensure!(response.header(name).as_deref() == Some(value), "{name} in {response:?}");
    }
    for (name, value) in [("grpc-status", "0"), ("x-last", "2"), ("x-last-bin", "AP8=")] {
        let got = said.trailer(name).unwrap_or_default();
        // Padding of base64 is left out or not, as the server likes.
        ensure!(got.trim_end_matches('=') == value.trim_end_matches('='), "{name} in {said:?}");
        ensure!(response.header(name).is_none(), "{name} in the head, too");
    }
    let said = browser.call("Unary", &[], b"", 0)?;
    ensure!(said.messages == [b""], "{said:?}");
    Ok(())
}

fn streaming(browser: &mut Browser<'_>) -> Result<()> {
    for n in [0, 1, 1000] {
        let said = browser.call("Count", &[], n.to_string().as_bytes(), 0)?;
        let wanted: Vec<Vec<u8>> = (0..n).map(|n: u32| n.to_string().into_bytes()).collect();
        ensure!(said.messages == wanted, "{} of {n} messages", said.messages.len());
    }
    Ok(())
}

/// How many calls the server saw cancelled.
fn cancelled(browser: &mut Browser<'_>) -> Result<u64> {
    let said = browser.call("Cancelled", &[], b"", 0)?;
    Ok(std::str::from_utf8(&said.messages[0])?.parse()?)
}

/// A message that came is told at once, whole in either form; who leaves ends the call.
fn resting(browser: &mut Browser<'_>) -> Result<()> {
    let before = cancelled(browser)?;
    let mut other = Caller::connect(browser.gateway, browser.protocol);
    let body = browser.form.encode(&message(b""));
    other.send("/test.Echo/WaitInStream", &browser.fields(&[]), &body)?;
    let media_type = joined(&other.head()?, "content-type");
    ensure!(media_type.as_deref() == Some(browser.form.media_type()), "{media_type:?}");
    let mut body = Vec::new();
    let wanted = Said { messages: vec![b"go on".to_vec()], trailers: None };
    // In pieces, if the server likes.
    while browser.form.decode(&body).and_then(|bytes| Said::read(&bytes)).ok().as_ref()
        != Some(&wanted)
    {
        body.extend(other.some_body()?);
    }
    other.leave();
    wait_until("the call is cancelled", PATIENCE, || cancelled(browser).unwrap() > before);
    Ok(())
}

fn large(browser: &mut Browser<'_>) -> Result<()> {
    let bytes = pattern(400_001);
    let said = browser.call("Unary", &[], &bytes, 0)?;
    ensure!(said.messages == [bytes], "{} messages", said.messages.len());
    Ok(())
}

fn before(browser: &mut Browser<'_>) -> Result<()> {
    let said = browser.call("Unary", &[("x-fail", "NOT_FOUND")], b"", 5)?;
    ensure!(said.messages.is_empty(), "{said:?}");
    let text = said.trailer("grpc-message");
    ensure!(text.as_deref() == Some("no luck: %C3%BC %2541%0Aand a line"), "{text:?}");
    ensure!(said.trailer("x-last").as_deref() == Some("2"), "{said:?}");
    // Trailers alone come as a head.
    let said = browser.call("Nobody", &[], b"", 12)?;
    ensure!(said == Said::default(), "{said:?}");
    Ok(())
}

fn during(browser: &mut Browser<'_>) -> Result<()> {
    let said = browser.call("Count", &[("x-fail", "ABORTED")], b"3", 10)?;
    ensure!(said.messages == [b"0", b"1", b"2"], "{said:?}");
    ensure!(said.trailer("grpc-message").is_some_and(|text| text.starts_with("no luck")));
    Ok(())
}

fn gateways_own(browser: &mut Browser<'_>) -> Result<()> {
    for (path, code) in [("/test.Nowhere/Unary", "12"), ("/test.Down/Unary", "14")] {
        let response = browser.ask(path, &[], &message(b"hello"))?;
        ensure!(response.status == 200 && response.body.is_empty(), "{response:?}");
        let status = response.header("grpc-status");
        ensure!(status.as_deref() == Some(code), "{path}: {status:?}");
    }
    Ok(())
}

/// Base64 may end and begin anew between any two bytes.
fn in_pieces(browser: &mut Browser<'_>) -> Result<()> {
    if browser.form == Form::Binary {
        return Ok(());
    }
    let bytes = message(b"hello, piece by piece");
    let body: Vec<u8> = bytes.iter().flat_map(|byte| base64(&[*byte]).into_bytes()).collect();
    let response = browser.caller.ask("/test.Echo/Unary", &browser.fields(&[]), &body)?;
    let said = Said::read(&browser.form.decode(&response.body)?)?;
    ensure!(said.messages == [&bytes[5..]], "{said:?}");
    Ok(())
}

fn not_base64(browser: &mut Browser<'_>) -> Result<()> {
    if browser.form == Form::Binary {
        return Ok(());
    }
    for body in ["AAAAA*==", "AAA", "A===", "AAAAAAVoZWxsbx=="] {
        // What is refused may end its connection.
        let mut caller = Caller::connect(browser.gateway, browser.protocol);
        let response = caller.ask("/test.Echo/Unary", &browser.fields(&[]), body.as_bytes())?;
        let status = response.header("grpc-status");
        ensure!(status.as_deref() == Some("13"), "{body}: {response:?}");
    }
    Ok(())
}

/// A gateway with this Module, whose gRPC services are at one address, and whose everything else is
/// at another over HTTP/1.1.
fn start(config: &str, grpc: SocketAddr, other: SocketAddr, driver: &'static str) -> Gateway {
    let to = |name: &str, service: &str, to: &str| {
        let spec = format!("prefix: /{service}/, rewrite: \"\", service: \"{to}\", grpc: true");
        mapping(name, &(spec + ", timeout_ms: 0"))
    };
    let manifests = listeners_and_host()
        + &module(config)
        + &to("echo", "test.Echo", &grpc.to_string())
        + &to("down", "test.Down", "127.0.0.1:9")
        + &mapping("other", &format!("prefix: /other/, rewrite: \"\", service: \"{other}\""));
    h2::start(&manifests, driver, &["--access-log=off"])
}

#[test]
fn a_browser_calls_a_grpc_server() {
    let (_server, address) = grpcio();
    let other = Upstream::echo("other").unwrap();
    let (mut wrong, mut ran) = (Vec::new(), 0);
    for driver in DRIVERS {
        // Emissary: the key enables, whatever its value.
        let gateway = start("enable_grpc_web: false", address, other.address(), driver);
        for protocol in [Protocol::H1, Protocol::H2] {
            for form in [Form::Binary, Form::Text] {
                for (name, step) in STEPS {
                    let caller = Caller::connect(&gateway, protocol);
                    let mut browser = Browser { gateway: &gateway, protocol, form, caller };
                    ran += 1;
                    if let Err(error) = step(&mut browser) {
                        wrong.push(format!("{name}, {form:?}, {protocol:?}, {driver}: {error:#}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {ran}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(ran, 2 * 2 * 2 * STEPS.len());
}

/// What is no call by gRPC-Web passes as it is: a preflight, which is the service's to answer,
/// other methods, other types.
#[test]
fn what_is_no_browsers_call_is_untouched() {
    let other = Upstream::echo("other").unwrap();
    for driver in DRIVERS {
        let gateway = start("enable_grpc_web: true", other.address(), other.address(), driver);
        let mut client = gateway.client(CLEARTEXT).unwrap();
        let preflight = [
            ("origin", "https://page.example"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,x-grpc-web"),
        ];
        for (method, fields) in [
            ("OPTIONS", &preflight[..]),
            ("GET", &[("content-type", "application/grpc-web")][..]),
            ("POST", &[("content-type", "application/grpc-webfoot")][..]),
            ("POST", &[("content-type", "application/grpc-web;a=b")][..]),
        ] {
            let mut head = format!("{method} /other/x HTTP/1.1\r\nhost: {HOST}\r\n");
            for (name, value) in fields {
                head += &format!("{name}: {value}\r\n");
            }
            client.send(format!("{head}content-length: 0\r\n\r\n").as_bytes()).unwrap();
            let response = client.response(method).unwrap();
            assert_eq!(response.header("content-type").as_deref(), Some("application/json"));
            let seen = response.seen().unwrap();
            assert_eq!(seen["method"], method, "{driver}");
            let lines = seen["fields"].as_array().unwrap();
            for (name, value) in fields {
                let same = |line: &&serde_json::Value| line[0] == *name && line[1] == *value;
                assert!(lines.iter().any(|line| same(&line)), "{name} in {seen:#}");
            }
            let ours = ["te", "grpc-accept-encoding"];
            assert!(!lines.iter().any(|line| ours.iter().any(|name| line[0] == *name)), "{seen:#}");
        }
    }
}

/// The server goes in the middle of an answer: a browser has the messages that came, and sees that
/// it was not the end.
#[test]
fn a_broken_stream_is_seen_as_one() {
    for driver in DRIVERS {
        let breaks = Upstream::custom(|socket| {
            let mut peer = Peer::server(socket, &[]).unwrap();
            while let Ok(Some((stream, _))) = peer.request(std::time::Instant::now() + PATIENCE) {
                let head = headers(stream).status(200).field("content-type", "application/grpc");
                let _ = peer.send([head, data(stream, message(b"one"))]);
                let _ = peer.send(reset(stream, Code::INTERNAL_ERROR));
            }
        });
        let breaks = breaks.unwrap();
        let gateway = start("enable_grpc_web: true", breaks.address(), breaks.address(), driver);
        for protocol in [Protocol::H1, Protocol::H2] {
            for form in [Form::Binary, Form::Text] {
                let caller = Caller::connect(&gateway, protocol);
                let mut browser = Browser { gateway: &gateway, protocol, form, caller };
                let (fields, body) = (browser.fields(&[]), form.encode(&message(b"")));
                let response = browser.caller.ask("/test.Echo/Count", &fields, &body).unwrap();
                let place = format!("{form:?}, {protocol:?}, {driver}: {response:?}");
                assert!(response.broken.is_some(), "{place}");
                assert_eq!(response.header("grpc-status"), None, "{place}");
                // What was sent together with the reset may have gone with it.
                let said = Said::read(&form.decode(&response.body).unwrap()).unwrap();
                assert_eq!(said.trailers, None, "{place}");
                assert!(said.messages.is_empty() || said.messages == [b"one"], "{place}");
            }
        }
    }
}

/// Envoy's `grpc_http1_bridge`: a call by HTTP/1.1 gets its whole answer with a length, and what its
/// trailers said of it in the head.
#[test]
fn the_bridge_answers_clients_without_trailers() {
    let (_server, address) = grpcio();
    let other = Upstream::echo("other").unwrap();
    for driver in DRIVERS {
        let config = "enable_grpc_http11_bridge: true";
        let gateway = start(config, address, other.address(), driver);
        let mut caller = Caller::connect(&gateway, Protocol::H1);
        let mut ask = |path: &str, more: &[(&str, &str)], of: &[u8]| {
            let fields = [&[("content-type", "application/grpc")][..], more].concat();
            let response = caller.ask(path, &fields, &message(of)).unwrap();
            assert_eq!(response.broken, None, "{path} on {driver}");
            assert!(response.trailers.is_empty(), "{path} on {driver}: {response:?}");
            let length = response.header("content-length");
            assert_eq!(length, Some(response.body.len().to_string()), "{path} on {driver}");
            (response.status, response.header("grpc-status").unwrap_or_default(), response)
        };

        let (status, code, response) = ask("/test.Echo/Unary", &[("x-ask", "a")], b"hello");
        assert_eq!((status, &*code), (200, "0"));
        assert_eq!(response.body, message(b"hello"));
        assert_eq!(response.header("x-ask").as_deref(), Some("a"));
        assert_eq!(response.header("content-type").as_deref(), Some("application/grpc"));

        let (status, code, response) = ask("/test.Echo/Unary", &[("x-fail", "NOT_FOUND")], b"");
        assert_eq!((status, &*code), (503, "5"));
        let text = response.header("grpc-message");
        assert_eq!(text.as_deref(), Some("no luck: %C3%BC %2541%0Aand a line"));

        // Trailers alone are a head, which passes as it is.
        let (status, code, _) = ask("/test.Echo/Nobody", &[], b"");
        assert_eq!((status, &*code), (200, "12"));

        let (status, code, response) = ask("/test.Echo/Count", &[], b"1000");
        assert_eq!((status, &*code), (200, "0"));
        assert_eq!(Said::read(&response.body).unwrap().messages.len(), 1000);

        let (status, code, response) = ask("/test.Echo/Count", &[("x-fail", "ABORTED")], b"3");
        assert_eq!((status, &*code), (503, "10"));
        assert_eq!(Said::read(&response.body).unwrap().messages.len(), 3);

        // Failures of the gateway, the last one of an answer that it will not hold.
        let large = pattern((1 << 20) + 1);
        for (path, of, wanted) in [
            ("/test.Nowhere/Unary", &b""[..], "12"),
            ("/test.Down/Unary", b"".as_slice(), "14"),
            ("/test.Echo/Unary", &large[..], "14"),
        ] {
            let (status, code, response) = ask(path, &[], of);
            assert_eq!((status, &*code), (200, wanted), "{path}: {response:?}");
        }

        // Who reads trailers gets them.
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        let head: Frame = headers(1).request("POST", "/test.Echo/Unary");
        let head = head.field("content-type", "application/grpc").field("te", "trailers");
        peer.send([head, data(1, message(b"hello")).end_stream()]).unwrap();
        let response = peer.response(1).unwrap();
        assert_eq!((response.status, response.header("grpc-status")), (200, None));
        assert_eq!(joined(&response.trailers, "grpc-status").as_deref(), Some("0"));
    }
}
