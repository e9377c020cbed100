// SPDX-License-Identifier: Apache-2.0
//! Upgraded connections end to end: a WebSocket client and server of others, curl through
//! CONNECT, what ends a tunnel, and what one costs.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::h2::Peer;
use ringway_tests::h2::frame::headers;
use ringway_tests::head::Reader;
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::upstream::{Upstream, echo, request_to};
use ringway_tests::{Client, PATIENCE, address, outside, pki, python, tls, wait_until};

use super::{DRIVERS, heavy};

const UPGRADE: &[u8] = b"GET /chat?x=1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\n\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\n\r\n";

/// `chat.example` over TLS on port 8443, and whatever comes in the clear on 8080.
const TLS: &str = "---
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: https}
spec: {port: 8443, protocol: HTTPS, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: chat}
spec:
  hostname: chat.example
  tlsSecret: {name: chat}
  requestPolicy: {insecure: {action: Route}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: all}
spec: {hostname: \"*\", requestPolicy: {insecure: {action: Route}}}
";

/// A gateway whose one Mapping goes to `upstream` and allows WebSockets and CONNECT.
fn gateway(upstream: SocketAddr, spec: &str, options: &Options) -> Gateway {
    let spec = format!(
        "prefix: /, service: \"{upstream}\", allow_upgrade: [websocket, CONNECT], \
         timeout_ms: 1000{spec}"
    );
    let manifests = [
        listener(8080),
        TLS.to_owned(),
        pki::server("chat.example").unwrap().secret("chat"),
        mapping("all", &spec),
    ];
    let gateway = Gateway::start(&manifests.concat(), options).unwrap();
    gateway.assert_driver(options.io_backend).unwrap();
    gateway
}

/// A back end that switches, then sends back what comes.
fn switching() -> Upstream {
    Upstream::custom(|stream| switch(Reader::new(stream))).unwrap()
}

/// The same over TLS, with a certificate for `chat.upstream`.
fn switching_tls() -> Upstream {
    let config = tls::server(&pki::server("chat.upstream").unwrap(), None).unwrap();
    let serve = move |stream| {
        if let Ok(stream) = tls::accept(stream, config.clone()) {
            switch(Reader::new(stream));
        }
    };
    Upstream::custom(serve).unwrap()
}

fn switch(mut reader: Reader) {
    if let Ok(Some(_)) = request_to(&mut reader, &mut |_| {}) {
        reader.stream.write_all(SWITCH).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(n) = reader.stream.read(&mut buffer) {
            if n == 0 {
                let _ = reader.stream.finish();
                return;
            }
            if reader.stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    }
}

/// A client in its tunnel.
fn switched(gateway: &Gateway) -> Client {
    let mut client = gateway.client(8080).unwrap();
    client.send(UPGRADE).unwrap();
    assert_eq!(client.response_head().unwrap().status, 101);
    client
}

fn metric(gateway: &Gateway, name: &str) -> u64 {
    let page = gateway.admin("/metrics").unwrap().text();
    let values = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

#[test]
fn websockets_of_others_work() {
    let at = address::fresh();
    let _server =
        python::Server::start("websocket.py", &["serve", &at.to_string(), "8000"]).unwrap();
    wait_until("the WebSocket server listens", PATIENCE, || TcpStream::connect((at, 8000)).is_ok());
    let folder = outside::Folder::new().unwrap();
    let authority = folder.file("ca.pem", &pki::authority("test").unwrap().pem()).unwrap();
    for driver in DRIVERS {
        let gateway = gateway((at, 8000).into(), "", &Options::driver(driver));
        let ip = gateway.address(8080).ip().to_string();
        for talk in [
            ["talk", "ws://chat.example/chat", &ip, "8080"].as_slice(),
            ["talk", "wss://chat.example/chat", &ip, "8443", &authority].as_slice(),
        ] {
            let said = python::script("websocket.py", talk).unwrap();
            assert_eq!(said.trim(), "all well", "on {driver}");
        }
        wait_until("all tunnels are over", PATIENCE, || {
            metric(&gateway, "envoy_http_downstream_cx_upgrades_active") == 0
        });
        assert_eq!(metric(&gateway, "envoy_http_downstream_cx_upgrades_total"), 4, "on {driver}");
    }
}

#[test]
fn websockets_go_to_tls_upstreams() {
    let folder = outside::Folder::new().unwrap();
    let at = address::fresh();
    let leaf = pki::server("chat.upstream").unwrap();
    let chain = folder.file("chain.pem", &leaf.chain_pem).unwrap();
    let key = folder.file("key.pem", &leaf.key_pem()).unwrap();
    let serve = ["serve", &at.to_string(), "8443", &chain, &key];
    let _server = python::Server::start("websocket.py", &serve).unwrap();
    wait_until("the server listens", PATIENCE, || TcpStream::connect((at, 8443)).is_ok());
    let authority = folder.file("ca.pem", &pki::authority("test").unwrap().pem()).unwrap();
    let context = "---
apiVersion: getambassador.io/v3alpha1
kind: TLSContext
metadata: {name: upstream}
spec: {ca_secret: test, sni: chat.upstream}
---
apiVersion: v1
kind: Secret
metadata: {name: test}
stringData: {tls.crt: {{ca test}}}
";
    for driver in DRIVERS {
        let with_context = |upstream: SocketAddr| {
            let gateway = gateway(upstream, ", tls: upstream", &Options::driver(driver));
            gateway.write("context.yaml", &pki::expand(context).unwrap()).unwrap();
            wait_until("the upstream is believed", PATIENCE, || {
                !matches!(gateway.get(8080, "/", "a").unwrap().status, 404 | 503)
            });
            gateway
        };
        // In the clear and over TLS to a client and server of others.
        let talked = with_context((at, 8443).into());
        let ip = talked.address(8080).ip().to_string();
        for talk in [
            ["talk", "ws://chat.example/chat", &ip, "8080"].as_slice(),
            ["talk", "wss://chat.example/chat", &ip, "8443", &authority].as_slice(),
        ] {
            let said = python::script("websocket.py", talk).unwrap();
            assert_eq!(said.trim(), "all well", "on {driver}");
        }
        // Either end is an end in order, close_notify included.
        let upstream = switching_tls();
        let switched_to = with_context(upstream.address());
        let mut client = switched(&switched_to);
        client.send(b"hello").unwrap();
        client.reader().exactly(5, &mut |_| {}).unwrap();
        client.finish().unwrap();
        assert_eq!(client.reader().fill().unwrap(), 0, "on {driver}");
        wait_until("the tunnel is over", PATIENCE, || {
            metric(&switched_to, "envoy_http_downstream_cx_upgrades_active") == 0
        });
    }
}

/// From HTTP/1.1 to HTTP/2, from there to HTTP/2, and back: each hop says what the next one knows
/// (RFC 8441), and the client hears of the key that it sent.
#[test]
fn websockets_go_over_http_2() {
    let at = address::fresh();
    let _server =
        python::Server::start("websocket.py", &["serve", &at.to_string(), "8000"]).unwrap();
    wait_until("the WebSocket server listens", PATIENCE, || TcpStream::connect((at, 8000)).is_ok());
    for driver in DRIVERS {
        let last = gateway((at, 8000).into(), "", &Options::driver(driver));
        let middle = gateway(last.address(8080), ", grpc: true", &Options::driver(driver));
        let first = gateway(middle.address(8080), ", grpc: true", &Options::driver(driver));
        let ip = first.address(8080).ip().to_string();
        let talk = ["talk", "ws://chat.example/chat", &ip, "8080"];
        let said = python::script("websocket.py", &talk).unwrap();
        assert_eq!(said.trim(), "all well", "on {driver}");
        for gateway in [&first, &middle, &last] {
            wait_until("all tunnels are over", PATIENCE, || {
                metric(gateway, "envoy_http_downstream_cx_upgrades_active") == 0
            });
            assert_eq!(metric(gateway, "envoy_http_downstream_cx_upgrades_total"), 2, "{driver}");
        }
    }
}

/// RFC 8441 §3: an upstream is asked for no protocol before it has said that it may be.
#[test]
fn an_http_2_upstream_without_extended_connect_is_asked_for_no_upgrade() {
    for driver in DRIVERS {
        let upstream = Upstream::custom(|socket| {
            let Ok(mut peer) = Peer::server(socket, &[]) else { return };
            while let Ok(Some((stream, request))) = peer.request(Instant::now() + PATIENCE) {
                assert_ne!(request.method, "CONNECT");
                let _ = peer.send(headers(stream).status(204).end_stream());
            }
        })
        .unwrap();
        let gateway = gateway(upstream.address(), ", grpc: true", &Options::driver(driver));
        for _ in 0..3 {
            let mut client = gateway.client(8080).unwrap();
            client.send(UPGRADE).unwrap();
            let answer = client.response("GET").unwrap();
            assert_eq!(answer.status, 503, "{answer:?} on {driver}");
            assert!(answer.text().contains("takes no upgrade"), "{answer:?} on {driver}");
            assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 204, "on {driver}");
        }
        assert_eq!(upstream.connections(), 1, "on {driver}");
    }
}

#[test]
fn a_client_that_ends_without_close_notify_hears_the_last_words() {
    let upstream = Upstream::custom(|stream| {
        let mut reader = Reader::new(stream);
        if let Ok(Some(_)) = request_to(&mut reader, &mut |_| {}) {
            reader.stream.write_all(SWITCH).unwrap();
            // Only the client's end is answered.
            assert_eq!(reader.stream.read(&mut [0; 64]).unwrap(), 0);
            reader.stream.write_all(b"last words").unwrap();
        }
    })
    .unwrap();
    for driver in DRIVERS {
        let gateway = gateway(upstream.address(), "", &Options::driver(driver));
        let (to, name) = (gateway.address(8443), "chat.example");
        let config = tls::ClientOptions::name(name).config().unwrap();
        let mut client = Client::connect_tls(to, PATIENCE, b"", config, Some(name)).unwrap();
        let upgrade = String::from_utf8_lossy(UPGRADE).replace("Host: a", "Host: chat.example");
        client.send(upgrade.as_bytes()).unwrap();
        assert_eq!(client.response_head().unwrap().status, 101);
        client.stream().shutdown(Shutdown::Write).unwrap();
        let mut said = Vec::new();
        client.reader().exactly(10, &mut |bytes| said.extend_from_slice(bytes)).unwrap();
        assert_eq!(said, b"last words", "on {driver}");
    }
}

#[test]
fn curl_tunnels_through_connect() {
    for driver in DRIVERS {
        let proxy = Upstream::custom(|stream| {
            let mut reader = Reader::new(stream);
            let (line, _) = reader.head().unwrap().unwrap();
            assert_eq!(line, "CONNECT inside.example:80 HTTP/1.1");
            reader.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            echo("inside", reader.stream);
        })
        .unwrap();
        let gateway = gateway(proxy.address(), "", &Options::driver(driver));
        let through = format!("http://{}", gateway.address(8080));
        let arguments = ["-sS", "-p", "-x", &through, "http://inside.example:80/a/b"];
        let output = outside::run("curl", &arguments, "").unwrap();
        assert!(output.status.success(), "on {driver}: {}", output.stderr);
        let seen: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!((&seen["backend"], &seen["target"]), (&"inside".into(), &"/a/b".into()));
    }
}

#[test]
fn a_tunnel_is_logged_when_it_ends() {
    for driver in DRIVERS {
        let upstream = switching();
        let gateway =
            gateway(upstream.address(), ", idle_timeout_ms: 1500", &Options::driver(driver));
        let mut client = switched(&gateway);
        client.send(b"hello").unwrap();
        client.reader().exactly(5, &mut |_| {}).unwrap();
        assert_eq!(metric(&gateway, "envoy_http_downstream_cx_upgrades_active"), 1);
        assert!(!gateway.stdout().contains("GET /chat"), "{}", gateway.stdout());
        // The time-out of requests has nothing to say here; that of idle streams does.
        assert!(client.is_closed().unwrap());
        wait_until("the access log's line", PATIENCE, || gateway.stdout().contains("GET /chat"));
        let log = gateway.stdout();
        let line = log.lines().find(|line| line.contains("GET /chat")).unwrap();
        // Status, flags, bytes both ways, then the duration.
        let (_, rest) = line.split_once("\"GET /chat?x=1 HTTP/1.1\" 101 SI 5 5 ").expect(line);
        let duration: u64 = rest.split(' ').next().unwrap().parse().unwrap();
        assert!((1500..10_000).contains(&duration), "{line}");
        assert!(line.contains(&upstream.address().to_string()), "{line}");
    }
}

#[test]
fn draining_cuts_a_tunnel_only_at_its_end() {
    for driver in DRIVERS {
        let upstream = switching();
        let options =
            Options { args: vec!["--drain-time=4s".to_owned()], ..Options::driver(driver) };
        let mut gateway = gateway(upstream.address(), "", &options);
        let mut client = switched(&gateway);
        gateway.signal(libc::SIGTERM);
        wait_until("draining began", PATIENCE, || {
            TcpStream::connect(gateway.address(8080)).is_err()
        });
        // Longer than what is idle is kept.
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(2500) {
            client.send(b"ping").unwrap();
            client.reader().exactly(4, &mut |_| {}).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(client.is_closed().unwrap(), "cut at the deadline");
        assert!(gateway.wait().success());
    }
}

/// Bytes of the gateway's memory per idle tunnel: 4.2 KB were seen.
const IDLE_TUNNEL_BYTES_MAX: u64 = 6 * 1024;

#[test]
fn idle_tunnels_are_cheap() {
    let _alone = heavy();
    let n: usize = std::env::var("RINGWAY_TUNNELS").map_or(2000, |n| n.parse().unwrap());
    for driver in DRIVERS {
        let held = Arc::new(Mutex::new(Vec::new()));
        let upstream = Upstream::custom({
            let held = held.clone();
            move |stream| {
                let mut reader = Reader::new(stream);
                if let Ok(Some(_)) = request_to(&mut reader, &mut |_| {}) {
                    reader.stream.write_all(SWITCH).unwrap();
                    held.lock().unwrap().push(reader);
                }
            }
        })
        .unwrap();
        let gateway = gateway(upstream.address(), "", &Options::driver(driver));
        let mut clients: Vec<Client> = (0..50).map(|_| switched(&gateway)).collect();
        let before = gateway.anonymous().unwrap();
        clients.extend((0..n).map(|_| switched(&gateway)));
        let each = (gateway.anonymous().unwrap().saturating_sub(before)) / n as u64;
        println!("{driver}: {each} B for each of {n} idle tunnels");
        assert!(each <= IDLE_TUNNEL_BYTES_MAX, "{each} B per tunnel on {driver}");
        // The last one may have its answer a moment before it is held.
        wait_until("all are held", PATIENCE, || held.lock().unwrap().len() == clients.len());
    }
}
