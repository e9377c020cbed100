// SPDX-License-Identifier: Apache-2.0
//! Each routing and header feature over every pair of protocols: clients and back ends of HTTP/1.1
//! and of HTTP/2. A feature is one function of a [`Cell`]; its expectations know no protocol.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use ringway_tests::client::Response;
use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::h2::frame::{data, headers};
use ringway_tests::h2::{Event, Peer, echo};
use ringway_tests::head::{Fields, joined};
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::upstream::{Upstream, digest, pattern, told};
use ringway_tests::{Client, PATIENCE, wait_until};
use serde_json::Value;

use super::super::DRIVERS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    H1,
    H2,
}
use Protocol::{H1, H2};

const PAIRS: [(Protocol, Protocol); 4] = [(H1, H1), (H1, H2), (H2, H1), (H2, H2)];

/// A gateway between a client and back ends of some protocol each.
struct Cell {
    gateway: Gateway,
    client: Protocol,
    upstream: Protocol,
    /// `a` and `b`.
    back_ends: [Upstream; 2],
}

/// A request, whatever says it.
#[derive(Clone, Default)]
struct Ask {
    method: String,
    target: String,
    host: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    /// Whether the body's length is said first.
    unsized_body: bool,
    trailers: Vec<(String, String)>,
}

fn get(target: &str) -> Ask {
    let [method, host] = ["GET", "a.example"].map(str::to_owned);
    Ask { method, host, target: target.to_owned(), ..Ask::default() }
}

impl Ask {
    fn method(self, method: &str) -> Self {
        Self { method: method.to_owned(), ..self }
    }

    fn host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn fields_of<'a>(self, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        fields.into_iter().fold(self, |ask, (name, value)| ask.field(name, value))
    }

    fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self.unsized_body = true;
        self
    }

    fn post(self, body: impl Into<Vec<u8>>) -> Self {
        Self { method: "POST".into(), body: body.into(), ..self }
    }

    fn without_length(self) -> Self {
        Self { unsized_body: true, ..self }
    }

    fn over_h1(&self, client: &mut Client) -> std::io::Result<Response> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.host);
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        let mut bytes = Vec::new();
        if self.unsized_body {
            head += "transfer-encoding: chunked\r\n";
            for chunk in self.body.chunks(10_000) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n");
            for (name, value) in &self.trailers {
                bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
        } else if !self.body.is_empty() || self.method == "POST" {
            head += &format!("content-length: {}\r\n", self.body.len());
            bytes.extend_from_slice(&self.body);
        }
        client.send(format!("{head}\r\n").as_bytes())?;
        // A gateway that has answered already need not read on.
        let _ = client.send(&bytes);
        client.response(&self.method)
    }

    fn over_h2(&self, peer: &mut Peer, stream: u32) -> std::io::Result<Response> {
        let mut head = headers(stream)
            .field(":method", &self.method)
            .field(":scheme", "http")
            .field(":authority", &self.host)
            .field(":path", &self.target);
        for (name, value) in &self.fields {
            head = head.field(name, value);
        }
        let bodiless = self.body.is_empty() && self.trailers.is_empty();
        if !self.unsized_body && (!bodiless || self.method == "POST") {
            head = head.field("content-length", self.body.len().to_string());
        }
        if bodiless {
            return peer.ask(head.end_stream());
        }
        peer.send(head)?;
        let sent = peer.body(stream, &self.body).and_then(|()| {
            let trailers = self.trailers.iter().map(|(name, value)| (&name[..], &value[..]));
            peer.send(match self.trailers.is_empty() {
                true => data(stream, "").end_stream(),
                false => headers(stream).fields(trailers).end_stream(),
            })
        });
        match sent {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
            _ => peer.response(stream),
        }
    }
}

impl Cell {
    fn start(driver: &'static str, (client, upstream): (Protocol, Protocol)) -> Self {
        let back_end = |name: &str| match upstream {
            H1 => Upstream::echo(name).unwrap(),
            H2 => echo::upstream(name).unwrap(),
        };
        let back_ends = ["a", "b"].map(back_end);
        let manifests = manifests(upstream, &back_ends);
        let gateway = Gateway::start(&manifests, &Options::driver(driver)).unwrap();
        gateway.assert_driver(driver).unwrap();
        Self { gateway, client, upstream, back_ends }
    }

    /// The answer on a connection of its own.
    #[track_caller]
    fn ask(&self, ask: &Ask) -> Response {
        self.conversation(std::slice::from_ref(ask)).remove(0)
    }

    /// The answers on one connection, one after the other.
    #[track_caller]
    fn conversation(&self, asks: &[Ask]) -> Vec<Response> {
        let answers: std::io::Result<Vec<Response>> = match self.client {
            H1 => {
                let mut client = self.gateway.client(8080).unwrap();
                asks.iter().map(|ask| ask.over_h1(&mut client)).collect()
            }
            H2 => {
                let mut peer = Peer::connect(self.gateway.address(8080)).unwrap();
                let streams = (1..).step_by(2);
                asks.iter().zip(streams).map(|(ask, n)| ask.over_h2(&mut peer, n)).collect()
            }
        };
        answers.unwrap()
    }

    /// What the back end saw of a request that it answered with 200.
    #[track_caller]
    fn seen(&self, ask: &Ask) -> Seen {
        let response = self.ask(ask);
        assert_eq!(response.status, 200, "{}", response.text());
        Seen(response.seen().unwrap())
    }

    #[track_caller]
    fn status(&self, ask: &Ask) -> u16 {
        let response = self.ask(ask);
        assert!(response.broken.is_none(), "{response:?}");
        response.status
    }
}

/// A request as the back end saw it.
struct Seen(Value);

impl Seen {
    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    fn lines(&self, key: &str) -> Fields {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let lines = self.0[key].as_array().unwrap().iter();
        lines.map(|line| (text(&line[0]), text(&line[1]))).collect()
    }

    fn header(&self, name: &str) -> Option<String> {
        joined(&self.lines("fields"), name).map(|value| value.replace(", ", ","))
    }

    /// The host, as the back end's protocol says it.
    fn host(&self) -> String {
        let [host, authority] = ["host", ":authority"].map(|name| self.header(name));
        assert!(host.is_none() || authority.is_none() || host == authority, "{}", self.0);
        authority.or(host).unwrap()
    }
}

/// A header, its lines joined by commas without space.
fn header(response: &Response, name: &str) -> Option<String> {
    response.header(name).map(|value| value.replace(", ", ","))
}

fn manifests(upstream: Protocol, [a, b]: &[Upstream; 2]) -> String {
    let grpc = if upstream == H2 { ", grpc: true" } else { "" };
    let mut number = 0;
    let mut route = |service: &str, spec: &str| {
        number += 1;
        mapping(&format!("m{number}"), &format!("service: \"{service}\", {spec}{grpc}"))
    };
    let (a, b) = (a.address().to_string(), b.address().to_string());
    let mut all = listener(8080);
    for spec in [
        "prefix: /prefix/",
        "prefix: /exact, prefix_exact: true",
        "prefix: \"/regex/[0-9]+\", prefix_regex: true, rewrite: \"\"",
        "prefix: /caseless/, case_sensitive: false, rewrite: \"\"",
        "prefix: /rewritten/, rewrite: /new/",
        "prefix: /kept/, rewrite: \"\"",
        "prefix: /user/, regex_rewrite: {pattern: \"/user/([a-z]+)/([0-9]+)\", \
            substitution: \"/id/\\\\2/name/\\\\1\"}",
        "prefix: /host/, host_rewrite: inside.example",
        "prefix: /put/, method: PUT",
        "prefix: /header/, headers: {x-tier: gold}",
        "prefix: /presence/, regex_headers: {x-any: \".*\"}",
        "prefix: /header-regex/, regex_headers: {x-tier: \"g.*d\"}",
        "prefix: /query/, query_parameters: {tier: gold}",
        "prefix: /query-regex/, regex_query_parameters: {tier: \"g.*d\"}",
        "prefix: /add/, add_request_headers: {x-added: {value: ours, append: false}, \
            x-more: {value: ours}, x-said: {value: \"%REQ(x-in)%\"}}",
        "prefix: /remove/, remove_request_headers: [x-secret]",
        "prefix: /add-back/, add_response_headers: {x-added: {value: ours, append: false}, \
            x-more: {value: ours}}",
        "prefix: /remove-back/, remove_response_headers: [x-internal]",
        "prefix: /slow/, timeout_ms: 300",
        "prefix: /unhurried/, timeout_ms: 0",
        "prefix: /idle/, timeout_ms: 0, idle_timeout_ms: 300",
        "prefix: /weight/, weight: 30",
        "prefix: /shadowed/",
        "prefix: /linked/, add_linkerd_headers: true",
        "prefix: /underscore/",
        "prefix: /chat/, allow_upgrade: [websocket]",
    ] {
        all += &route(&a, spec);
    }
    for spec in [
        "prefix: /weight/",
        "prefix: /shadowed/, shadow: true",
        "prefix: /prefix/first/, precedence: 1",
        "prefix: /header/, headers: {x-tier: gold, x-canary: \"1\"}",
    ] {
        all += &route(&b, spec);
    }
    for spec in [
        "prefix: /to-host/, host_redirect: true",
        "prefix: /to-path/, host_redirect: true, path_redirect: /new",
        "prefix: /to-prefix/, host_redirect: true, prefix_redirect: /new/",
        "prefix: /to-number/, host_redirect: true, regex_redirect: {pattern: \
            \"/to-number/([0-9]+)\", substitution: \"/number/\\\\1\"}",
        "prefix: /with-308/, host_redirect: true, redirect_response_code: 308",
    ] {
        all += &route("new.example", spec);
    }
    // Nobody listens there.
    all += &route("127.0.0.1:9", "prefix: /down/");
    all += &format!(
        "---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {{name: of-a-host}}
spec: {{hostname: b.example, prefix: /, service: \"{b}\"{grpc}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {{name: secure}}
spec: {{hostname: secure.example, requestPolicy: {{insecure: {{action: Redirect}}}}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {{name: others}}
spec: {{hostname: \"*\", requestPolicy: {{insecure: {{action: Route}}}}}}
"
    );
    all
}

type Feature = (&'static str, fn(&Cell));

/// Answers that have their length in HTTP/1.1 and their bytes in both.
const LARGE: usize = 8 << 20;

/// There are at least so many: none goes missing unnoticed.
const FEATURES_MIN: usize = 60;

const FEATURES: &[Feature] = &[
    ("a prefix is replaced", |cell| {
        let seen = cell.seen(&get("/prefix/x?y=1"));
        assert_eq!((seen.text("method"), seen.text("target")), ("GET", "/x?y=1"));
        assert_eq!(seen.text("version"), if cell.upstream == H1 { "HTTP/1.1" } else { "HTTP/2" });
        assert_eq!(seen.header("x-envoy-original-path").as_deref(), Some("/prefix/x?y=1"));
    }),
    ("a path is normalised", |cell| {
        assert_eq!(cell.seen(&get("/prefix/a/../b/%7Ec/./d")).text("target"), "/b/~c/d");
        assert_eq!(cell.status(&get("/prefix/%00")), 400);
    }),
    ("an exact path", |cell| {
        assert_eq!(cell.status(&get("/exact")), 200);
        assert_eq!(cell.status(&get("/exact?x")), 200);
        assert_eq!(cell.status(&get("/exact/x")), 404);
    }),
    ("a regular expression", |cell| {
        assert_eq!(cell.seen(&get("/regex/42?x")).text("target"), "/regex/42?x");
        assert_eq!(cell.status(&get("/regex/x")), 404);
    }),
    ("a prefix without regard to case", |cell| {
        assert_eq!(cell.seen(&get("/CaseLess/x")).text("target"), "/CaseLess/x");
        assert_eq!(cell.status(&get("/PREFIX/")), 404);
    }),
    ("a rewritten prefix", |cell| {
        assert_eq!(cell.seen(&get("/rewritten/x?y")).text("target"), "/new/x?y");
    }),
    ("a path that is kept", |cell| {
        let seen = cell.seen(&get("/kept/x"));
        assert_eq!(seen.text("target"), "/kept/x");
        assert_eq!(seen.header("x-envoy-original-path"), None);
    }),
    ("a rewrite by a regular expression", |cell| {
        assert_eq!(cell.seen(&get("/user/alice/42?x")).text("target"), "/id/42/name/alice?x");
    }),
    ("the host is kept", |cell| {
        assert_eq!(cell.seen(&get("/prefix/")).host(), "a.example");
        assert_eq!(cell.seen(&get("/prefix/").host("a.example:8080")).host(), "a.example:8080");
    }),
    ("a rewritten host", |cell| {
        assert_eq!(cell.seen(&get("/host/")).host(), "inside.example");
    }),
    ("a Mapping of one host", |cell| {
        assert_eq!(cell.seen(&get("/x").host("b.example")).text("backend"), "b");
        assert_eq!(cell.seen(&get("/x").host("B.example")).text("backend"), "b");
        assert_eq!(cell.status(&get("/x").host("c.example")), 404);
    }),
    ("a redirect to a host", |cell| {
        let response = cell.ask(&get("/to-host/x?y"));
        assert_eq!(response.status, 301);
        assert_eq!(header(&response, "location").unwrap(), "http://new.example/to-host/x?y");
    }),
    ("a redirect to a path", |cell| {
        let location = |target| header(&cell.ask(&get(target)), "location").unwrap();
        assert_eq!(location("/to-path/x?y"), "http://new.example/new?y");
        assert_eq!(location("/to-prefix/x?y"), "http://new.example/new/x?y");
        assert_eq!(location("/to-number/42"), "http://new.example/number/42");
    }),
    ("a redirect's status", |cell| {
        assert_eq!(cell.status(&get("/with-308/")), 308);
        assert_eq!(cell.status(&get("/with-308/").post("hello")), 308);
    }),
    ("a redirect to https", |cell| {
        let response = cell.ask(&get("/prefix/x?y").host("secure.example"));
        assert_eq!(response.status, 301);
        assert_eq!(header(&response, "location").unwrap(), "https://secure.example/prefix/x?y");
    }),
    ("a method", |cell| {
        assert_eq!(cell.seen(&get("/put/").method("PUT")).text("method"), "PUT");
        assert_eq!(cell.status(&get("/put/")), 404);
    }),
    ("a method of one's own", |cell| {
        assert_eq!(cell.seen(&get("/prefix/").method("PROPFIND")).text("method"), "PROPFIND");
    }),
    ("a header's value", |cell| {
        assert_eq!(cell.status(&get("/header/").field("x-tier", "gold")), 200);
        assert_eq!(cell.status(&get("/header/").field("x-tier", "tin")), 404);
        assert_eq!(cell.status(&get("/header/")), 404);
        let canary = get("/header/").field("x-tier", "gold").field("x-canary", "1");
        assert_eq!(cell.seen(&canary).text("backend"), "b");
    }),
    ("a header's presence and pattern", |cell| {
        assert_eq!(cell.status(&get("/presence/").field("x-any", "1")), 200);
        assert_eq!(cell.status(&get("/presence/")), 404);
        assert_eq!(cell.status(&get("/header-regex/").field("x-tier", "good")), 200);
        assert_eq!(cell.status(&get("/header-regex/").field("x-tier", "goods")), 404);
    }),
    ("a parameter of the query", |cell| {
        assert_eq!(cell.status(&get("/query/?tier=gold")), 200);
        assert_eq!(cell.status(&get("/query/?tier=tin")), 404);
        assert_eq!(cell.status(&get("/query-regex/?tier=good")), 200);
        assert_eq!(cell.status(&get("/query-regex/")), 404);
    }),
    ("precedence", |cell| {
        assert_eq!(cell.seen(&get("/prefix/first/")).text("backend"), "b");
    }),
    ("weights", |cell| {
        let answers = cell.conversation(&vec![get("/weight/"); 400]);
        let of_a = answers.iter().filter(|answer| answer.seen().unwrap()["backend"] == "a");
        // 30 % of 400, and more than five standard deviations to each side.
        assert!((70..170).contains(&of_a.count()));
    }),
    ("a shadow", |cell| {
        let token = format!("h2-{:?}-{:?}-{}", cell.client, cell.upstream, cell.gateway.pid());
        let seen = cell.seen(&get("/shadowed/x").field("x-backend-tell", &token).post("hello"));
        assert_eq!(seen.text("backend"), "a");
        let copy = || told(&token).into_iter().find(|seen| seen["backend"] == "b");
        wait_until("the copy", PATIENCE, || copy().is_some());
        assert_eq!((&copy().unwrap()["body"], &seen.0["body"]), (&"hello".into(), &"hello".into()));
    }),
    ("request headers are added", |cell| {
        let ask =
            get("/add/").fields_of([("x-added", "theirs"), ("x-more", "theirs"), ("x-in", "i")]);
        let seen = cell.seen(&ask);
        assert_eq!(seen.header("x-added").as_deref(), Some("ours"));
        assert_eq!(seen.header("x-more").as_deref(), Some("theirs,ours"));
        assert_eq!(seen.header("x-said").as_deref(), Some("i"));
    }),
    ("request headers are removed", |cell| {
        let seen = cell.seen(&get("/remove/").field("x-secret", "1").field("x-open", "2"));
        assert_eq!(seen.header("x-secret"), None);
        assert_eq!(seen.header("x-open").as_deref(), Some("2"));
    }),
    ("answer headers are added", |cell| {
        let ask = get("/add-back/").fields_of([
            ("x-backend-header", "x-added=theirs"),
            ("x-backend-header", "x-more=theirs"),
        ]);
        let response = cell.ask(&ask);
        assert_eq!(header(&response, "x-added").as_deref(), Some("ours"));
        assert_eq!(header(&response, "x-more").as_deref(), Some("theirs,ours"));
    }),
    ("answer headers are removed", |cell| {
        let ask = get("/remove-back/").field("x-backend-header", "x-internal=1");
        assert_eq!(header(&cell.ask(&ask), "x-internal"), None);
    }),
    ("linkerd's header", |cell| {
        let to = cell.back_ends[0].address().to_string();
        assert_eq!(cell.seen(&get("/linked/")).header("l5d-dst-override"), Some(to));
    }),
    ("fields of a connection go no further", |cell| {
        let mut ask = get("/prefix/").field("te", "trailers");
        if cell.client == H1 {
            ask = ask.fields_of([
                ("connection", "keep-alive, x-private"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("x-private", "1"),
            ]);
        }
        if cell.upstream == H1 {
            ask = ask.field("x-backend-header", "keep-alive=timeout=9");
        }
        let response = cell.ask(&ask);
        let seen = Seen(response.seen().unwrap());
        for name in ["keep-alive", "proxy-connection", "x-private", "upgrade", "http2-settings"] {
            assert_eq!((seen.header(name), header(&response, name)), (None, None), "{name}");
        }
        assert_eq!(seen.header("te").as_deref(), Some("trailers"));
    }),
    ("what is known of the client", |cell| {
        let seen = cell.seen(&get("/prefix/").field("x-forwarded-for", "203.0.113.7"));
        assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("203.0.113.7,127.0.0.1"));
        assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("http"));
        assert!(seen.header("x-request-id").is_some_and(|id| id.len() == 36));
        assert_eq!(seen.header("x-envoy-expected-rq-timeout-ms").as_deref(), Some("3000"));
    }),
    ("what the gateway says of itself", |cell| {
        let response = cell.ask(&get("/prefix/").field("x-backend-header", "server=nginx"));
        assert_eq!(header(&response, "server").as_deref(), Some("envoy"));
        assert!(header(&response, "date").is_some());
        assert!(header(&response, "x-envoy-upstream-service-time").is_some());
    }),
    ("cookies come whole, and go each alone", |cell| {
        let mut ask = get("/prefix/");
        match cell.client {
            H1 => ask = ask.field("cookie", "a=1; b=2"),
            // RFC 9113 §8.2.3: crumbs are put together for whom does not know them.
            H2 => ask = ask.fields_of([("cookie", "a=1"), ("cookie", "b=2")]),
        }
        let ask = ask.fields_of([
            ("x-backend-header", "set-cookie=c=3"),
            ("x-backend-header", "set-cookie=d=4"),
        ]);
        let response = cell.ask(&ask);
        let set = response.fields.iter().filter(|(name, _)| name == "set-cookie");
        assert_eq!(set.map(|(_, value)| &value[..]).collect::<Vec<_>>(), ["c=3", "d=4"]);
        let seen = Seen(response.seen().unwrap());
        let lines = seen.lines("fields");
        let cookies = lines.iter().filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
        let cookies: Vec<&str> = cookies.map(|(_, value)| &value[..]).collect();
        assert_eq!(cookies.join("; "), "a=1; b=2");
        assert!(cell.upstream == H2 || cookies.len() == 1, "{cookies:?}");
    }),
    ("names with underscores", |cell| {
        let seen = cell.seen(&get("/underscore/").field("x_under", "1"));
        assert_eq!(seen.header("x_under").as_deref(), Some("1"));
    }),
    ("lines of one name keep their order", |cell| {
        let seen =
            cell.seen(&get("/prefix/").fields_of([("x-n", "1"), ("x-n", "2"), ("x-n", "3")]));
        assert_eq!(seen.header("x-n").as_deref(), Some("1,2,3"));
    }),
    ("large heads both ways", |cell| {
        let value = "v".repeat(20_000);
        let ask = get("/prefix/")
            .field("x-large", &value)
            .field("x-backend-header", &format!("x-back={value}"));
        let response = cell.ask(&ask);
        assert_eq!(header(&response, "x-back"), Some(value.clone()));
        assert_eq!(Seen(response.seen().unwrap()).header("x-large"), Some(value));
    }),
    ("a head too large", |cell| {
        let status = match cell.client {
            H1 => cell.status(&get("/prefix/").field("x-large", &"v".repeat(70_000))),
            H2 => {
                let mut peer = Peer::connect(cell.gateway.address(8080)).unwrap();
                let head =
                    headers(1).request("GET", "/prefix/").field("x-large", "v".repeat(70_000));
                peer.send(head.end_stream()).unwrap();
                use ringway_tests::h2::Outcome::{Answered, Closed, GoneAway, Reset};
                match peer.outcome(1).unwrap() {
                    Answered(status) => status,
                    // RFC 9113 §10.5.1: 431, or the stream or connection ends.
                    Reset(_) | GoneAway(_) => 431,
                    Closed => 0,
                }
            }
        };
        assert_eq!(status, 431);
    }),
    ("a body", |cell| {
        let seen = cell.seen(&get("/prefix/").post("hello"));
        assert_eq!((seen.text("method"), seen.text("body")), ("POST", "hello"));
        assert_eq!(seen.header("content-length").as_deref(), Some("5"));
    }),
    ("an empty body", |cell| {
        let seen = cell.seen(&get("/prefix/").post(""));
        assert_eq!((seen.text("method"), seen.text("body")), ("POST", ""));
        assert_eq!(seen.header("transfer-encoding"), None);
    }),
    ("a body whose length is not said", |cell| {
        let seen = cell.seen(&get("/prefix/").post("hello").without_length());
        assert_eq!(seen.text("body"), "hello");
        assert_eq!(seen.header("content-length"), None);
        let response = cell.ask(
            &get("/prefix/").fields_of([("x-backend-unsized", "1"), ("x-backend-length", "30000")]),
        );
        assert_eq!(response.body, pattern(30_000));
        assert_eq!(header(&response, "content-length"), None);
    }),
    ("a large body up", |cell| {
        let body = pattern(LARGE);
        for ask in
            [get("/prefix/").post(&body[..]), get("/prefix/").post(&body[..]).without_length()]
        {
            assert_eq!(cell.seen(&ask).text("body"), digest(&body));
        }
    }),
    ("a large body down", |cell| {
        let ask = get("/unhurried/").field("x-backend-length", &LARGE.to_string());
        for ask in [ask.clone(), ask.field("x-backend-unsized", "1")] {
            let response = cell.ask(&ask);
            assert_eq!((response.status, response.broken), (200, None));
            assert_eq!(digest(&response.body), digest(&pattern(LARGE)));
        }
    }),
    ("trailers up", |cell| {
        let seen = cell.seen(&get("/prefix/").post("hello").trailer("x-sum", "42"));
        assert_eq!(seen.text("body"), "hello");
        assert_eq!(joined(&seen.lines("trailers"), "x-sum").as_deref(), Some("42"));
    }),
    ("trailers down", |cell| {
        let ask = get("/prefix/").field("te", "trailers").field("x-backend-trailer", "x-sum=42");
        let response = cell.ask(&ask);
        assert!(response.seen().is_some() && response.broken.is_none(), "{response:?}");
        assert_eq!(joined(&response.trailers, "x-sum").as_deref(), Some("42"));
    }),
    ("interim answers", |cell| {
        let response = cell.ask(&get("/prefix/").field("x-backend-interim", "103"));
        assert_eq!((response.status, &response.interim[..]), (200, &[103][..]));
    }),
    ("100-continue", |cell| {
        let begin = Instant::now();
        let head = get("/prefix/").field("expect", "100-continue");
        let response = match cell.client {
            H1 => {
                let mut client = cell.gateway.client(8080).unwrap();
                let head = "POST /prefix/ HTTP/1.1\r\nhost: a.example\r\nexpect: 100-continue\r\n\
                     content-length: 5\r\n\r\n";
                client.send(head.as_bytes()).unwrap();
                let (line, _) = client.reader().head().unwrap().unwrap();
                assert!(line.starts_with("HTTP/1.1 100 "), "{line}");
                client.send(b"hello").unwrap();
                client.response("POST").unwrap()
            }
            H2 => {
                let mut peer = Peer::connect(cell.gateway.address(8080)).unwrap();
                let request = headers(1).request("POST", "/prefix/");
                let expect = ("expect", "100-continue");
                peer.send(request.fields([expect, ("content-length", "5")])).unwrap();
                let event = peer.event_of(1).unwrap();
                let Event::Headers { fields, end: false, .. } = event else { panic!("{event:?}") };
                assert_eq!(joined(&fields, ":status").as_deref(), Some("100"));
                peer.send(data(1, "hello").end_stream()).unwrap();
                peer.response(1).unwrap()
            }
        };
        assert_eq!(response.seen().unwrap()["body"], "hello");
        assert!(begin.elapsed() < Duration::from_secs(2));
        assert_eq!(cell.seen(&head.post("hello")).text("body"), "hello");
    }),
    ("another expectation", |cell| {
        assert_eq!(cell.status(&get("/prefix/").field("expect", "a-miracle")), 417);
    }),
    ("HEAD", |cell| {
        let ask = get("/prefix/").field("x-backend-length", "1000").method("HEAD");
        let answers = cell.conversation(&[ask, get("/prefix/")]);
        assert_eq!((answers[0].status, &answers[0].body[..]), (200, &b""[..]));
        assert_eq!(header(&answers[0], "content-length").as_deref(), Some("1000"));
        assert!(answers[1].seen().is_some());
    }),
    ("answers without a body", |cell| {
        for status in ["204", "304"] {
            let ask = get("/prefix/").field("x-backend-status", status);
            let answers = cell.conversation(&[ask, get("/prefix/")]);
            assert_eq!(
                (answers[0].status.to_string(), &answers[0].body[..]),
                (status.into(), &b""[..])
            );
            assert!(answers[1].seen().is_some());
        }
    }),
    ("any status", |cell| {
        for status in ["201", "206", "418", "429", "500", "503", "599"] {
            let response = cell.ask(&get("/prefix/").field("x-backend-status", status));
            assert_eq!(response.status.to_string(), status);
            assert!(response.seen().is_some());
        }
    }),
    ("another protocol", |cell| {
        let accepted: &[_] = match cell.upstream {
            H1 => &[
                ("x-backend-status", "101"),
                ("x-backend-header", "connection=upgrade"),
                ("x-backend-header", "upgrade=websocket"),
            ],
            H2 => &[],
        };
        for (path, fine) in [("/chat/", true), ("/prefix/", false)] {
            let status = match cell.client {
                H1 => {
                    let ask = get(path).fields_of([("connection", "upgrade")]);
                    let ask = ask.field("upgrade", "websocket").fields_of(accepted.iter().copied());
                    let mut client = cell.gateway.client(8080).unwrap();
                    let response = ask.over_h1(&mut client).unwrap();
                    let upgrade = header(&response, "upgrade");
                    assert_eq!(upgrade.as_deref(), fine.then_some("websocket"));
                    if response.status == 101 { 200 } else { response.status }
                }
                H2 => {
                    let mut peer = Peer::connect(cell.gateway.address(8080)).unwrap();
                    let head = headers(1).fields([
                        (":method", "CONNECT"),
                        (":protocol", "websocket"),
                        (":scheme", "http"),
                        (":authority", "a.example"),
                        (":path", path),
                    ]);
                    peer.send(head.fields(accepted.iter().copied())).unwrap();
                    let event = peer.event_of(1).unwrap();
                    let Event::Headers { fields, .. } = event else { panic!("{event:?}") };
                    joined(&fields, ":status").unwrap().parse().unwrap()
                }
            };
            assert_eq!(status, if fine { 200 } else { 403 }, "{path}");
        }
    }),
    ("no route", |cell| {
        assert_eq!(cell.status(&get("/nowhere")), 404);
        assert_eq!(cell.status(&get("/nowhere").post("hello")), 404);
    }),
    ("nobody listens", |cell| {
        let response = cell.ask(&get("/down/"));
        assert_eq!(response.status, 503);
        assert!(response.text().starts_with("upstream connect error"), "{}", response.text());
    }),
    ("a back end that hangs up", |cell| {
        let status = cell.status(&get("/prefix/").field("x-backend-hangs-up", "a").post("x"));
        assert!(matches!(status, 502 | 503), "{status}");
        assert_eq!(cell.status(&get("/prefix/")), 200);
    }),
    ("a back end that ends its connection", |cell| {
        let answers = cell.conversation(&vec![get("/prefix/").field("x-backend-close", "1"); 20]);
        assert!(answers.iter().all(|answer| answer.status == 200));
    }),
    ("the time is over", |cell| {
        let begin = Instant::now();
        let response = cell.ask(&get("/slow/").field("x-backend-never", "1"));
        assert_eq!((response.status, &response.text()[..]), (504, "upstream request timeout"));
        assert!(begin.elapsed() < Duration::from_secs(3));
        assert_eq!(cell.status(&get("/slow/")), 200);
    }),
    ("the time is over within a body", |cell| {
        let response = cell.ask(&get("/slow/").field("x-backend-stall", "1"));
        assert!(response.status == 200 && response.broken.is_some(), "{response:?}");
    }),
    ("nothing happens for too long", |cell| {
        let begin = Instant::now();
        assert_eq!(cell.status(&get("/idle/").field("x-backend-never", "1")), 504);
        assert!(begin.elapsed() < Duration::from_secs(3));
    }),
    ("an answer that takes its time", |cell| {
        let delayed = get("/unhurried/").field("x-backend-delay-ms", "100");
        assert_eq!(cell.status(&delayed), 200);
    }),
    ("connections are kept", |cell| {
        let before = cell.back_ends[0].connections();
        let answers = cell.conversation(&vec![get("/prefix/"); 50]);
        assert!(answers.iter().all(|answer| answer.status == 200));
        assert!(cell.back_ends[0].connections() - before <= 2);
    }),
    ("the access log's protocol", |cell| {
        let target = format!("/prefix/logged-{:?}", cell.client);
        cell.seen(&get(&target));
        let protocol = if cell.client == H1 { "HTTP/1.1" } else { "HTTP/2" };
        let line = format!("\"GET {target} {protocol}\" 200 ");
        wait_until("the line", PATIENCE, || cell.gateway.stdout().contains(&line));
    }),
];

#[test]
fn every_feature_works_over_every_pair_of_protocols() {
    let mut wrong = Vec::new();
    let mut cells = 0;
    for driver in DRIVERS {
        for pair in PAIRS {
            let cell = Cell::start(driver, pair);
            for (name, feature) in FEATURES {
                cells += 1;
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| feature(&cell))) {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
                    wrong.push(format!("{driver} {pair:?} {name}: {}", text.unwrap_or_default()));
                }
            }
        }
    }
    assert_eq!(cells, DRIVERS.len() * PAIRS.len() * FEATURES.len());
    assert!(FEATURES.len() >= FEATURES_MIN, "{} features", FEATURES.len());
    assert!(wrong.is_empty(), "{} of {cells} cells fail:\n{}", wrong.len(), wrong.join("\n"));
    println!(
        "{cells} cells: {} features over {} pairs on {} drivers",
        FEATURES.len(),
        PAIRS.len(),
        DRIVERS.len()
    );
}
