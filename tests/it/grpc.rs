// SPDX-License-Identifier: Apache-2.0
//! gRPC through the running gateway: the official Python library on both sides, and the official
//! interop client against its server.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringway_tests::gateway::Gateway;
use ringway_tests::go::Program;
use ringway_tests::h2::frame::{Frame, data, headers};
use ringway_tests::h2::{Peer, echo};
use ringway_tests::manifest::{mapping, module};
use ringway_tests::outside::{Folder, run_within};
use ringway_tests::upstream::Hole;
use ringway_tests::{PATIENCE, pki, python, wait_until};

use super::DRIVERS;
use super::h2::{self, CLEARTEXT, HOST, TLS, listeners_and_host};

/// What a gateway needs, and Mappings of gRPC services.
fn manifests(mappings: &[(&str, &str)]) -> String {
    let mappings = mappings.iter().enumerate().map(|(n, (service, spec))| {
        mapping(&format!("m{n}"), &format!("service: \"{service}\", grpc: true, {spec}"))
    });
    listeners_and_host() + &mappings.collect::<String>()
}

/// A message in gRPC's frame.
pub(crate) fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// The official library's server, and its address.
pub(crate) fn grpcio() -> (python::Server, SocketAddr) {
    let address = SocketAddr::from((ringway_tests::address::fresh(), 50_051));
    let arguments = ["serve", &address.to_string()];
    let server = python::Server::start("grpcio_peer.py", &arguments).unwrap();
    wait_until("grpcio serves", PATIENCE, || TcpStream::connect(address).is_ok());
    (server, address)
}

fn start(manifests: &str, driver: &'static str) -> Gateway {
    h2::start(manifests, driver, &["--access-log=off"])
}

const CASES: [&str; 13] = [
    "unary",
    "client_streaming",
    "server_streaming",
    "bidirectional",
    "deadline",
    "cancellation",
    "metadata",
    "large",
    "errors",
    "a_thousand_streams",
    "no_route",
    "down",
    "too_slow",
];

#[test]
fn the_official_library_on_both_sides() {
    super::raise_descriptors();
    let folder = Folder::new().unwrap();
    let leaf = pki::server("up.example").unwrap();
    let chain = folder.file("chain.pem", &leaf.chain_pem).unwrap();
    let key = folder.file("key.pem", &leaf.key_pem()).unwrap();
    let authority = folder.file("ca.pem", &pki::authority("test").unwrap().pem()).unwrap();
    let ip = ringway_tests::address::fresh();
    let [clear, secure] = [50_051, 50_052].map(|port| SocketAddr::from((ip, port)));
    let script = "grpcio_peer.py";
    let _clear = python::Server::start(script, &["serve", &clear.to_string()]).unwrap();
    let _secure =
        python::Server::start(script, &["serve", &secure.to_string(), &chain, &key]).unwrap();
    for address in [clear, secure] {
        wait_until("grpcio serves", PATIENCE, || TcpStream::connect(address).is_ok());
    }
    let mut wrong = Vec::new();
    for driver in DRIVERS {
        for server in [clear.to_string(), format!("https://{secure}")] {
            let path = |service: &str, more: &str| {
                format!("prefix: /test.{service}/, rewrite: /test.Echo/, {more}")
            };
            let gateway = start(
                &manifests(&[
                    (&server, &path("Echo", "timeout_ms: 0")),
                    (&server, &path("Slow", "timeout_ms: 300")),
                    ("127.0.0.1:9", &path("Down", "timeout_ms: 3000")),
                ]),
                driver,
            );
            for (port, authority) in [(CLEARTEXT, "-"), (TLS, &authority)] {
                let address = gateway.address(port).to_string();
                let ask = [&["ask", &address, authority][..], &CASES].concat();
                let output = python::output(script, &ask).unwrap();
                if !output.status.success() {
                    let said = output.stdout + &output.stderr;
                    wrong.push(format!("port {port} to {server} on {driver}:\n{said}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The interop server, until it is dropped.
struct Interop(Child, SocketAddr);

impl Interop {
    fn start() -> Option<Self> {
        let program = Program::InteropServer.find().unwrap()?;
        // It listens on every address, so the port must be nobody's.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(program);
        command.arg(format!("--port={}", address.port())).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self(child, address);
        wait_until("interop serves", PATIENCE, || TcpStream::connect(address).is_ok());
        Some(server)
    }
}

impl Drop for Interop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All cases of the interop client but those that need a cloud's credentials (`compute_engine_…`,
/// `…_creds`, `…_token`, `google_default_credentials`), and three that fail against this server
/// without a gateway, too: `pick_first_unary`, `orca_per_rpc`, `orca_oob`.
const INTEROP: [&str; 16] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "rpc_soak",
    "channel_soak",
];

#[test]
fn the_interop_client_passes() {
    let Some(server) = Interop::start() else { return };
    let Some(client) = Program::InteropClient.find().unwrap() else { return };
    let client = client.to_str().unwrap();
    let folder = Folder::new().unwrap();
    let authority = folder.file("ca.pem", &pki::authority("test").unwrap().pem()).unwrap();
    let service = server.1.to_string();
    let mut wrong = Vec::new();
    for driver in DRIVERS {
        let spec = "prefix: /, rewrite: \"\", timeout_ms: 0";
        let gateway = start(&manifests(&[(&service, spec)]), driver);
        for port in [CLEARTEXT, TLS] {
            for case in INTEROP {
                let host = format!("--server_host={}", gateway.address(port).ip());
                let (port_text, case_text) =
                    (format!("--server_port={port}"), format!("--test_case={case}"));
                let ca = format!("--ca_file={authority}");
                let name = format!("--server_host_override={HOST}");
                let mut arguments = vec![host.as_str(), &port_text, &case_text];
                if port == TLS {
                    arguments.extend(["--use_tls", "--use_test_ca", &ca, &name]);
                }
                let patience = Duration::from_secs(30);
                match run_within(patience, client, &arguments, "") {
                    Ok(output) if output.status.success() => {}
                    Ok(output) => {
                        let last = output.stderr.lines().last().unwrap_or_default().to_owned();
                        wrong.push(format!("{case} on port {port}, {driver}: {last}"));
                    }
                    Err(error) => wrong.push(format!("{case} on port {port}, {driver}: {error:#}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// What the gateway answers itself, frame by frame: trailers only, as gRPC's HTTP/2 protocol has
/// them; and as HTTP to everybody else.
#[test]
fn failures_of_the_gateway_are_trailers_only() {
    for driver in DRIVERS {
        let back_end = echo::upstream("a").unwrap();
        let service = back_end.address().to_string();
        let gateway = start(
            &manifests(&[
                (&service, "prefix: /a/"),
                (&service, "prefix: /slow/, timeout_ms: 300"),
                ("127.0.0.1:9", "prefix: /down/"),
            ]),
            driver,
        );
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        let mut stream = 1;
        let mut ask = |path: &str, field: (&str, &str)| {
            let request = headers(stream)
                .request("POST", path)
                .fields([("te", "trailers"), field])
                .field("x-backend-status", path.rsplit('/').next().unwrap());
            peer.send([request, data(stream, [0; 5]).end_stream()]).unwrap();
            stream += 2;
            peer.response(stream - 2).unwrap()
        };
        let grpc = ("content-type", "application/grpc+proto");
        // https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
        for (path, code, message) in
            [("/nowhere/x", "12", ""), ("/down/x", "14", "upstream connect error")]
        {
            let response = ask(path, grpc);
            assert_eq!(response.status, 200, "{path} on {driver}");
            assert_eq!(response.header("grpc-status").as_deref(), Some(code), "{path}");
            assert_eq!(response.header("content-type").as_deref(), Some("application/grpc"));
            assert!(response.body.is_empty() && response.trailers.is_empty(), "{response:?}");
            let said = response.header("grpc-message").unwrap_or_default();
            assert!(said.starts_with(message), "{path}: {said}");
        }
        assert_eq!(ask("/nowhere/x", ("content-type", "text/plain")).status, 404);
        assert_eq!(ask("/down/x", ("content-type", "application/json")).status, 503);
    }
}

/// A call's head.
fn call(stream: u32, path: &str, fields: &[(&str, &str)]) -> Frame {
    let fields = [("te", "trailers"), ("content-type", "application/grpc")].iter().chain(fields);
    headers(stream).request("POST", path).fields(fields.copied())
}

/// `grpc-timeout` is a deadline of the gateway's, too: a client whose own clock fails is told, and
/// the server works for nobody.
#[test]
fn a_call_ends_with_its_deadline() {
    let (_server, address) = grpcio();
    let service = address.to_string();
    for driver in DRIVERS {
        // The server is not told the deadline: it would keep it itself, and might be the first.
        let to = |name: &str, ms: u32| {
            let spec = format!("prefix: /{name}/, rewrite: /test.Echo/, timeout_ms: {ms}");
            (name.to_owned(), format!("{spec}, remove_request_headers: [grpc-timeout]"))
        };
        let paths = [to("free", 0), to("short", 300), to("long", 60_000), to("test.Echo", 0)];
        let mappings: Vec<(&str, &str)> =
            paths.iter().map(|(_, spec)| (service.as_str(), spec.as_str())).collect();
        let gateway = start(&manifests(&mappings), driver);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        let mut stream = 1;
        let told = |peer: &mut Peer, stream: &mut u32| {
            let head = call(*stream, "/test.Echo/Cancelled", &[]);
            peer.send([head, data(*stream, message(b"")).end_stream()]).unwrap();
            let response = peer.response(*stream).unwrap();
            *stream += 2;
            String::from_utf8_lossy(&response.body[5..]).parse::<u64>().unwrap()
        };
        let before = told(&mut peer, &mut stream);
        // The request is whole, or the client may go on; nothing has been answered.
        for (path, timeout, whole, code, text) in [
            ("/free/Wait", "300m", true, "4", "upstream request timeout"),
            ("/free/Talk", "300000u", false, "4", "upstream request timeout"),
            ("/long/Wait", "300m", true, "4", "upstream request timeout"),
            ("/free/Wait", "0S", true, "4", "upstream request timeout"),
            // The Mapping's time-out is the shorter one.
            ("/short/Wait", "60S", true, "14", "upstream request timeout"),
        ] {
            let head = call(stream, path, &[("grpc-timeout", timeout)]);
            let begin = Instant::now();
            peer.send(head).unwrap();
            if whole {
                peer.send(data(stream, message(b"")).end_stream()).unwrap();
            }
            let response = peer.response(stream).unwrap();
            let taken = begin.elapsed();
            let place = format!("{path} {timeout} on {driver}: {response:?} after {taken:?}");
            assert_eq!(response.status, 200, "{place}");
            assert_eq!(response.header("grpc-status").as_deref(), Some(code), "{place}");
            let said = response.header("grpc-message").unwrap_or_default();
            assert!(said.starts_with(text), "{place}");
            assert!(response.body.is_empty() && response.trailers.is_empty(), "{place}");
            assert!(taken >= Duration::from_millis(300) || timeout == "0S", "{place}");
            assert!(taken < Duration::from_secs(10), "{place}");
            stream += 2;
        }
        // An answer that has begun is cut.
        peer.send(call(stream, "/free/WaitInStream", &[("grpc-timeout", "300m")])).unwrap();
        let response = peer.response(stream).unwrap();
        assert_eq!(response.body, message(b"go on"), "{driver}");
        assert!(response.broken.as_ref().is_some_and(|why| why.contains("Reset")), "{response:?}");
        stream += 2;
        wait_until("all of them are cancelled", PATIENCE, || {
            told(&mut peer, &mut stream) >= before + 4
        });
        // What is no call has no such field: the Mapping's time-out holds.
        let head = headers(stream).request("POST", "/short/Unary").field("grpc-timeout", "0S");
        let head = head.field("te", "trailers").field("content-type", "application/json");
        let begin = Instant::now();
        peer.send(head.end_stream()).unwrap();
        let response = peer.response(stream).unwrap();
        let taken = begin.elapsed();
        assert_eq!(response.status, 504, "{driver}: {response:?}");
        assert!(taken >= Duration::from_millis(300), "{driver}: {response:?} after {taken:?}");
    }
}

/// Connecting takes of a call's time like everything else. A call that may wait longer does, also
/// where it waits for the connection that another one was making.
#[test]
fn a_call_s_deadline_is_kept_while_connecting() {
    let hole = ringway_tests::address::fresh();
    let _hole = Hole::start(hole, 8000).unwrap();
    for driver in DRIVERS {
        let spec = format!("service: \"{hole}:8000\", timeout_ms: 0, connect_timeout_ms: 60000");
        let h2 = mapping("h2", &format!("prefix: /h2/, grpc: true, {spec}"));
        let h1 = mapping("h1", &format!("prefix: /h1/, {spec}"));
        let gateway = start(&(manifests(&[]) + &h2 + &h1), driver);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        let begin = Instant::now();
        let calls = [("/h2/x", 300), ("/h2/x", 900), ("/h1/x", 300)];
        for (n, (path, ms)) in calls.into_iter().enumerate() {
            let stream = 2 * n as u32 + 1;
            let head = call(stream, path, &[("grpc-timeout", &format!("{ms}m"))]);
            peer.send([head, data(stream, message(b"")).end_stream()]).unwrap();
        }
        for (stream, ms) in [(1, 300), (5, 300), (3, 900)] {
            let response = peer.response(stream).unwrap();
            let taken = begin.elapsed();
            let place = format!("{stream} on {driver}: {response:?} after {taken:?}");
            assert_eq!(response.header("grpc-status").as_deref(), Some("4"), "{place}");
            assert!(taken >= Duration::from_millis(ms), "{place}");
            assert!(taken < Duration::from_secs(10), "{place}");
        }
    }
}

/// Module `grpc_stats`: calls by method and status, messages, and the upstream's time.
#[test]
fn calls_are_counted_as_the_module_says() {
    let (_server, address) = grpcio();
    let service = address.to_string();
    let listed =
        "services: [{name: test.Echo, method_names: [Unary, Count]}], upstream_stats: true";
    for (driver, (stats, all)) in
        DRIVERS.into_iter().zip([(listed, false), ("all_methods: true", true)])
    {
        let spec = |prefix: &str| format!("prefix: /{prefix}/, rewrite: \"\", timeout_ms: 0");
        let (echo, down) = (spec("test.Echo"), spec("test.Down"));
        let manifests = manifests(&[(&service, &echo), ("127.0.0.1:9", &down)])
            + &module(&format!("enable_grpc_web: true, grpc_stats: {{{stats}}}"));
        let gateway = start(&manifests, driver);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        let mut stream = 1;
        let mut ask = |path: &str, fields: &[(&str, &str)], body: &[u8]| {
            peer.send([call(stream, path, fields), data(stream, body).end_stream()]).unwrap();
            stream += 2;
            peer.response(stream - 2).unwrap()
        };
        for _ in 0..3 {
            ask("/test.Echo/Unary", &[], &message(b"hello"));
        }
        ask("/test.Echo/Unary", &[("x-fail", "NOT_FOUND")], &message(b""));
        ask("/test.Echo/Count", &[], &message(b"50"));
        ask("/test.Echo/Collect", &[], &[message(b"a"), message(b"b")].concat());
        ask("/test.Echo/Nobody", &[], b"");
        ask("/test.Down/Unary", &[], &message(b""));
        // Neither a call nor a method.
        let json = headers(stream).request("POST", "/test.Echo/Unary");
        peer.ask(json.field("content-type", "application/json").end_stream()).unwrap();
        let mut browser = gateway.client(CLEARTEXT).unwrap();
        let head = "POST /test.Echo/Unary HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\
                    content-type: application/grpc-web\r\n\r\n";
        browser.send(&[head.as_bytes(), &message(b"")].concat()).unwrap();
        browser.response("POST").unwrap();

        let value = |what: &str, labels: &str| {
            gateway.metric(&format!("envoy_cluster_grpc_{what}"), labels).unwrap()
        };
        let unary = "envoy_grpc_bridge_service=\"test.Echo\",envoy_grpc_bridge_method=\"Unary\"";
        let count = "envoy_grpc_bridge_method=\"Count\"";
        wait_until("all calls are counted", PATIENCE, || value("total", "") == 9.0);
        for (what, labels, wanted) in [
            ("0", unary, 4.0),
            ("5", unary, 1.0),
            ("success", unary, 4.0),
            ("failure", unary, 1.0),
            ("total", unary, 5.0),
            ("request_message_count", unary, 5.0),
            ("response_message_count", unary, 4.0),
            ("request_message_count", count, 1.0),
            ("response_message_count", count, 50.0),
            ("12", "", 1.0),
            ("14", "", 1.0),
        ] {
            assert_eq!(value(what, labels), wanted, "{what} of {labels} on {driver}");
        }
        let named = if all { 9.0 } else { 6.0 };
        assert_eq!(value("total", "envoy_grpc_bridge_method"), named, "{driver}");
        assert_eq!(value("upstream_rq_time_count", unary), if all { 0.0 } else { 5.0 });
    }
}
