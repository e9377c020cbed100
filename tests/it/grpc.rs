// SPDX-License-Identifier: Apache-2.0
//! gRPC through the running gateway: the official Python library on both sides, and the official
//! interop client against its server.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ringway_tests::gateway::Gateway;
use ringway_tests::go::Program;
use ringway_tests::h2::frame::{data, headers};
use ringway_tests::h2::{Peer, echo};
use ringway_tests::manifest::mapping;
use ringway_tests::outside::{Folder, run_within};
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
