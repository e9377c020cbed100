// SPDX-License-Identifier: Apache-2.0
//! Connections that TCPMappings take, and the PROXY header in front of everything, against the
//! running gateway.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::tls::{self, ClientOptions};
use ringway_tests::upstream::{Upstream, echo, echo_tls, lines};
use ringway_tests::{Client, PATIENCE, pki, proxy_protocol, wait_until};

use super::{DRIVERS, heavy, median, p99, raise_descriptors};

/// A TCPMapping; `spec` is the inside of a flow mapping.
fn tcp(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: TCPMapping\nmetadata: {{name: {name}}}\n\
         spec: {{{spec}}}\n"
    )
}

/// A Listener for all Hosts.
fn stack(name: &str, port: u16, protocol: &str) -> String {
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {{name: {name}}}\n\
         spec: {{port: {port}, {protocol}, securityModel: XFP, hostBinding: {{namespace: {{from: ALL}}}}}}\n"
    )
}

fn start(manifests: &str, driver: &'static str, args: &[&str]) -> Gateway {
    let args = args.iter().map(ToString::to_string).collect();
    let gateway = Gateway::start(manifests, &Options { args, ..Options::driver(driver) }).unwrap();
    gateway.assert_driver(driver).unwrap();
    gateway
}

fn connect(gateway: &Gateway, port: u16) -> TcpStream {
    let stream = TcpStream::connect(gateway.address(port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn read_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 {
        line.push(byte[0]);
        if byte[0] == b'\n' {
            break;
        }
    }
    String::from_utf8(line).unwrap()
}

/// Whether the other side closes, by an end or a reset, without another byte.
fn closes(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// The sum of a metric over its labels.
fn metric(gateway: &Gateway, name: &str) -> u64 {
    let page = gateway.admin("/metrics").unwrap().text();
    let samples = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest.rsplit_once(' ')?.1;
        (rest.starts_with('{') || rest.starts_with(' ')).then(|| value.parse::<u64>().unwrap())
    });
    samples.sum()
}

fn lines_at(name: &'static str) -> Upstream {
    Upstream::custom(move |stream| lines(name, stream)).unwrap()
}

#[test]
fn tls_passes_untouched() {
    let leaf = pki::server("foo.com").unwrap();
    let config = tls::server(&leaf, None).unwrap();
    let upstream = Upstream::custom(move |stream| echo_tls("a", stream, config.clone())).unwrap();
    for driver in DRIVERS {
        let manifests = tcp("all", &format!("port: 8443, service: '{}'", upstream.address()));
        let gateway = start(&manifests, driver, &[]);
        let options =
            ClientOptions { trust: Some("test".to_owned()), ..ClientOptions::name("foo.com") };
        let config = options.config().unwrap();
        let to = gateway.address(8443);
        let mut client = Client::connect_tls(to, PATIENCE, b"", config, Some("foo.com")).unwrap();
        let seen = client.get("/x", "foo.com").unwrap().seen().unwrap();
        assert_eq!(seen["tls"]["server_name"], "foo.com");
        // Nothing is added to what is not looked into.
        assert_eq!(seen["fields"].as_array().unwrap().len(), 1, "{seen}");
        drop(client);
        wait_until("it is counted as over", PATIENCE, || {
            metric(&gateway, "envoy_tcp_downstream_cx_active") == 0
        });
        assert_eq!(metric(&gateway, "envoy_tcp_downstream_cx_total"), 1);
        assert!(metric(&gateway, "envoy_tcp_downstream_cx_tx_bytes_total") > 1000);
        assert_eq!(metric(&gateway, "envoy_cluster_upstream_cx_active"), 0);
    }
}

#[test]
fn either_side_may_end_first() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keep = heard.clone();
    let ends_first = Upstream::custom(move |mut stream| {
        stream.write_all(b"bye\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        keep.lock().unwrap().push(rest);
    })
    .unwrap();
    let answers_last = lines_at("a");
    for (n, driver) in DRIVERS.into_iter().enumerate() {
        let manifests = tcp("a", &format!("port: 7001, service: '{}'", answers_last.address()))
            + &tcp("b", &format!("port: 7002, service: '{}'", ends_first.address()));
        let gateway = start(&manifests, driver, &[]);

        let mut client = connect(&gateway, 7001);
        client.write_all(b"one\n").unwrap();
        assert_eq!(read_line(&mut client), "a: one\n");
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_line(&mut client), "a: end\n");
        assert!(closes(&mut client));

        let mut client = connect(&gateway, 7002);
        assert_eq!(read_line(&mut client), "bye\n");
        assert!(closes(&mut client));
        let long = vec![b'x'; 3 << 20];
        client.write_all(&long).unwrap();
        drop(client);
        wait_until("the upstream hears all of it", PATIENCE, || {
            heard.lock().unwrap().len() == n + 1
        });
        assert!(heard.lock().unwrap()[n] == long, "on {driver}");
    }
}

#[test]
fn a_server_may_speak_first() {
    let banner = Upstream::custom(|mut stream| {
        stream.write_all(b"220 ready\n").unwrap();
        let _ = stream.read(&mut [0]);
    })
    .unwrap();
    for driver in DRIVERS {
        let service = banner.address();
        // A Listener that could see TLS looks for none where nothing is terminated.
        let manifests = tcp("smtp", &format!("port: 2525, service: '{service}'"))
            + &tcp("other", &format!("port: 2526, service: '{service}'"))
            + &stack("other", 2526, "protocol: TLS");
        let gateway = start(&manifests, driver, &[]);
        for port in [2525, 2526] {
            assert_eq!(read_line(&mut connect(&gateway, port)), "220 ready\n", "on {driver}");
        }
    }
}

#[test]
fn rest_ends_a_tunnel_after_its_idle_timeout() {
    let upstream = lines_at("a");
    for driver in DRIVERS {
        let service = upstream.address();
        let manifests =
            tcp("a", &format!("port: 7001, service: '{service}', idle_timeout_ms: '400'"))
                + &tcp("b", &format!("port: 7002, service: '{service}', idle_timeout_ms: 0"));
        let gateway = start(&manifests, driver, &[]);
        let mut never = connect(&gateway, 7002);
        let mut client = connect(&gateway, 7001);
        // Either side's bytes put it off.
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1000) {
            client.write_all(b"x\n").unwrap();
            assert_eq!(read_line(&mut client), "a: x\n");
            std::thread::sleep(Duration::from_millis(100));
        }
        let rest = Instant::now();
        assert!(closes(&mut client));
        assert!(rest.elapsed() >= Duration::from_millis(250), "{:?}", rest.elapsed());
        // The end may overtake its counting.
        wait_until("it is counted", PATIENCE, || metric(&gateway, "envoy_tcp_idle_timeout") > 0);
        assert_eq!(metric(&gateway, "envoy_tcp_idle_timeout"), 1);
        never.write_all(b"y\n").unwrap();
        assert_eq!(read_line(&mut never), "a: y\n");
    }
}

#[test]
fn weights_are_shares_of_connections() {
    const N: usize = 800;
    let (a, b) = (lines_at("a"), lines_at("b"));
    for driver in DRIVERS {
        let manifests = tcp("a", &format!("port: 7001, service: '{}', weight: 30", a.address()))
            + &tcp("b", &format!("port: 7001, service: '{}', weight: 70", b.address()));
        let gateway = start(&manifests, driver, &[]);
        let mut of_a = 0;
        for _ in 0..N {
            let mut client = connect(&gateway, 7001);
            client.write_all(b"x\n").unwrap();
            of_a += usize::from(read_line(&mut client) == "a: x\n");
        }
        let share = of_a as f64 * 100.0 / N as f64;
        println!("{driver}: {share} % of 30 %");
        // Five standard deviations; 23 %, which Emissary gives, is outside.
        assert!((share - 30.0).abs() < 7.0 + 1.1, "{share} % on {driver}");
        assert!(share > 24.0, "{share} % on {driver}");
    }
}

#[test]
fn an_upstream_that_cannot_be_had_closes_the_connection() {
    // An address that nobody listens on.
    let gone = SocketAddr::from((ringway_tests::address::fresh(), 8000));
    for driver in DRIVERS {
        let manifests = tcp("refused", &format!("port: 7001, service: '{gone}'"))
            + &tcp("empty", "port: 7002, service: 'redis:6379'")
            + "---\napiVersion: v1\nkind: Service\nmetadata: {name: redis}\nspec: {ports: [{port: 6379}]}\n";
        let gateway = start(&manifests, driver, &[]);
        for port in [7001, 7002] {
            assert!(closes(&mut connect(&gateway, port)), "port {port} on {driver}");
        }
        wait_until("both are logged", PATIENCE, || gateway.stdout().lines().count() == 2);
        let log = gateway.stdout();
        assert!(log.contains("\"- - -\" 0 UF 0 0 "), "{log}");
        assert!(log.contains("\"- - -\" 0 UH 0 0 "), "{log}");
        assert_eq!(metric(&gateway, "envoy_cluster_upstream_cx_connect_fail"), 3, "it tries again");
        assert_eq!(metric(&gateway, "envoy_cluster_upstream_cx_none_healthy"), 1);
    }
}

#[test]
fn a_change_leaves_open_tunnels_alone() {
    const DRAIN: Duration = Duration::from_secs(3);
    let (a, b) = (lines_at("a"), lines_at("b"));
    let all = |service: SocketAddr| tcp("t", &format!("port: 7001, service: '{service}'"));
    let ask = |client: &mut TcpStream| {
        client.write_all(b"x\n").unwrap();
        read_line(client)
    };
    for driver in DRIVERS {
        let mut gateway = start(&all(a.address()), driver, &["--drain-time=3s"]);
        let mut old = connect(&gateway, 7001);
        assert_eq!(ask(&mut old), "a: x\n");

        let before = gateway.generation().unwrap();
        gateway.write("all.yaml", &all(b.address())).unwrap();
        wait_until("the change is served", PATIENCE, || gateway.generation().unwrap() > before);
        let mut new = connect(&gateway, 7001);
        assert_eq!(ask(&mut new), "b: x\n");
        assert_eq!(ask(&mut old), "a: x\n", "on {driver}");

        let begin = Instant::now();
        gateway.write("all.yaml", &listener(8080)).unwrap();
        wait_until("the port is closed", PATIENCE, || {
            TcpStream::connect(gateway.address(7001)).is_err()
        });
        // What is gone drains: tunnels go on until the deadline, and no longer.
        assert_eq!(ask(&mut old), "a: x\n");
        assert_eq!(ask(&mut new), "b: x\n");
        assert!(closes(&mut old));
        assert!(closes(&mut new));
        assert!(begin.elapsed() >= DRAIN, "{:?}", begin.elapsed());

        // The process as a whole does the same.
        gateway.write("all.yaml", &all(a.address())).unwrap();
        wait_until("the port is there again", PATIENCE, || {
            TcpStream::connect(gateway.address(7001)).is_ok()
        });
        let mut last = connect(&gateway, 7001);
        assert_eq!(ask(&mut last), "a: x\n");
        gateway.signal(libc::SIGTERM);
        let begin = Instant::now();
        assert_eq!(ask(&mut last), "a: x\n");
        assert!(closes(&mut last));
        assert!(begin.elapsed() >= DRAIN - Duration::from_millis(100), "{:?}", begin.elapsed());
        assert!(gateway.wait().success(), "on {driver}");
    }
}

/// Sends bytes one at a time, each on its way before the next is written.
fn trickle(stream: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        stream.write_all(std::slice::from_ref(byte)).unwrap();
        std::thread::sleep(Duration::from_micros(300));
    }
}

#[test]
fn a_proxy_header_is_required_and_names_the_client() {
    let http = Upstream::echo("a").unwrap();
    let raw = lines_at("l");
    let source: SocketAddr = "203.0.113.7:5000".parse().unwrap();
    let source6: SocketAddr = "[2001:db8::7]:5000".parse().unwrap();
    let to: SocketAddr = "198.51.100.1:443".parse().unwrap();
    let to6: SocketAddr = "[2001:db8::1]:443".parse().unwrap();
    let crc = {
        // The CRC-32c of a header with zeroes in its place, bit by bit.
        let tlvs = |sum: u32| [&[3, 0, 4][..], &sum.to_be_bytes(), &[4, 0, 1, 0]].concat();
        let zeroed = proxy_protocol::v2(source, to, &tlvs(0));
        let sum = !zeroed.iter().fold(!0_u32, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 }
            })
        });
        move |flip: u32| proxy_protocol::v2(source, to, &tlvs(sum ^ flip))
    };
    for driver in DRIVERS {
        let manifests = stack("http", 8080, "protocol: HTTPPROXY")
            + &stack("raw", 7001, "protocolStack: [PROXY, TCP]")
            + &listener(8081)
            + &mapping("all", &format!("prefix: /, service: '{}'", http.address()))
            + &tcp("raw", &format!("port: 7001, service: '{}'", raw.address()));
        let gateway = start(&manifests, driver, &[]);
        let client_seen = |header: &[u8], bytewise: bool| {
            let mut client = Client::connect(gateway.address(8080), PATIENCE).unwrap();
            let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
            if bytewise {
                trickle(&mut client.stream().try_clone().unwrap(), &[header, request].concat());
            } else {
                client.send(&[header, request].concat()).unwrap();
            }
            let first = client.response("GET").unwrap().seen().unwrap();
            // The connection keeps what its header said.
            let second = client.get("/", "a").unwrap().seen().unwrap();
            let address = |seen: &serde_json::Value| {
                let fields = seen["fields"].as_array().unwrap();
                let found = fields.iter().find(|f| f[0] == "x-forwarded-for").unwrap();
                found[1].as_str().unwrap().to_owned()
            };
            assert_eq!(address(&first), address(&second));
            address(&first)
        };
        for bytewise in [false, true] {
            for (header, expected) in [
                (proxy_protocol::v1(source, to), "203.0.113.7"),
                (proxy_protocol::v2(source, to, b""), "203.0.113.7"),
                (proxy_protocol::v2(source, to, b"\x01\x00\x02h2"), "203.0.113.7"),
                (proxy_protocol::v1(source6, to6), "2001:db8::7"),
                (proxy_protocol::v2(source6, to6, b""), "2001:db8::7"),
                (crc(0), "203.0.113.7"),
                (proxy_protocol::v2_local(), "127.0.0.1"),
                (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
            ] {
                assert_eq!(client_seen(&header, bytewise), expected, "on {driver}");
            }
        }

        // A tunnel's log line has the client too; the upstream gets the client's bytes alone.
        let mut client = connect(&gateway, 7001);
        client.write_all(&proxy_protocol::v1(source, to)).unwrap();
        client.write_all(b"hi\n").unwrap();
        assert_eq!(read_line(&mut client), "l: hi\n");
        drop(client);

        assert_eq!(metric(&gateway, "envoy_listener_downstream_cx_proxy_proto_error"), 0);
        // A balancer that looks whether somebody listens.
        drop(connect(&gateway, 8080));
        let bad: [&[u8]; 5] = [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            b"\x16\x03\x01\x00",
            &crc(1),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        ];
        for bytes in bad {
            for port in [8080, 7001] {
                let mut client = connect(&gateway, port);
                client.write_all(bytes).unwrap();
                assert!(closes(&mut client), "{bytes:?} on {driver}");
            }
        }
        assert_eq!(metric(&gateway, "envoy_listener_downstream_cx_proxy_proto_error"), 10);

        // Who does not declare it believes nobody.
        let mut client = gateway.client(8081).unwrap();
        client.send(&proxy_protocol::v1(source, to)).unwrap();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(client.response("GET").unwrap().status, 400);
    }
}

/// A port that nobody listens on, whatever the address.
fn free_port() -> u16 {
    TcpListener::bind(("0.0.0.0", 0)).unwrap().local_addr().unwrap().port()
}

/// What cannot be bound hurts nobody else, is told of, and is bound once it can be.
#[test]
fn an_address_that_somebody_has_is_waited_for() {
    let (http, raw) = (Upstream::echo("a").unwrap(), lines_at("l"));
    for driver in DRIVERS {
        let taken = TcpListener::bind((ringway_tests::address::fresh(), 9000)).unwrap();
        let at = taken.local_addr().unwrap();
        let spec = format!("address: {}, port: 9000, service: '{}'", at.ip(), raw.address());
        let manifests = listener(8080)
            + &mapping("all", &format!("prefix: /, service: '{}'", http.address()))
            + &tcp("one", &spec);
        let gateway = start(&manifests, driver, &[]);
        assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200, "on {driver}");
        let problems = || gateway.admin("/api/v1/problems?format=text").unwrap().text();
        let said = format!("cannot listen on {at}: Address already in use");
        assert!(problems().contains(&said), "on {driver}: {}", problems());
        assert!(problems().contains("TCPMapping default/one"), "on {driver}: {}", problems());
        drop(taken);
        let mut client = None;
        wait_until("it is bound", PATIENCE, || {
            client = TcpStream::connect(at).ok();
            client.is_some()
        });
        let mut client = client.unwrap();
        client.write_all(b"x\n").unwrap();
        assert_eq!(read_line(&mut client), "l: x\n", "on {driver}");
        wait_until("it is no problem any more", PATIENCE, || !problems().contains(&said));
        assert_eq!(gateway.log().matches(&said).count(), 1, "on {driver}: {}", gateway.log());
    }
}

#[test]
fn the_wildcard_and_one_address_share_a_port() {
    let (http, raw) = (Upstream::echo("a").unwrap(), lines_at("l"));
    for driver in DRIVERS {
        let port = free_port();
        let options = Options {
            env: vec![("AMBASSADOR_ENVOY_BIND_ADDRESS".to_owned(), "0.0.0.0".to_owned())],
            workers: 2,
            ..Options::driver(driver)
        };
        let all = stack("all", port, "protocol: HTTP")
            + &mapping("all", &format!("prefix: /, service: '{}'", http.address()));
        let gateway = Gateway::start(&all, &options).unwrap();
        gateway.assert_driver(driver).unwrap();
        let special = gateway.address(port);
        let general = SocketAddr::from((ringway_tests::address::fresh(), port));
        let is_http = |to| {
            // Lines would be answered with lines for ever.
            let mut client = Client::connect(to, Duration::from_millis(500)).unwrap();
            client.get("/", "a").is_ok_and(|response| response.status == 200)
        };
        let is_raw = |to| {
            let mut client = TcpStream::connect(to).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(b"x\n").unwrap();
            read_line(&mut client) == "l: x\n"
        };
        assert!(is_http(special) && is_http(general), "on {driver}");
        // The special one comes later, goes, and comes first.
        let one = tcp(
            "one",
            &format!("address: {}, port: {port}, service: '{}'", special.ip(), raw.address()),
        );
        gateway.write("one.yaml", &one).unwrap();
        wait_until("it has its address", PATIENCE, || is_raw(special));
        assert!((0..20).all(|_| is_raw(special) && is_http(general)), "on {driver}");
        std::fs::remove_file(gateway.folder().join("one.yaml")).unwrap();
        wait_until("the general one has it", PATIENCE, || is_http(special));
        assert!(is_http(general), "on {driver}");
        let no_listener = mapping("all", &format!("prefix: /, service: '{}'", http.address()));
        gateway.write("all.yaml", &(no_listener + &one)).unwrap();
        wait_until("the special one alone", PATIENCE, || {
            TcpStream::connect(general).is_err() && is_raw(special)
        });
        gateway.write("all.yaml", &(all + &one)).unwrap();
        wait_until("the general one is there", PATIENCE, || {
            TcpStream::connect(general).is_ok() && is_http(general)
        });
        assert!(is_raw(special), "on {driver}");
        assert!(!gateway.log().contains("cannot listen"), "on {driver}: {}", gateway.log());
    }
}

/// A Host with this certificate, which is for its name.
fn tls_host(name: &str) -> String {
    let hostname = format!("{name}.com");
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {{name: {name}}}\n\
         spec: {{hostname: {hostname}, tlsSecret: {{name: {name}}}}}\n"
    ) + &pki::server(&hostname).unwrap().secret(name)
}

/// Connects with TLS for this name and believes a certificate for it alone.
fn connect_tls(gateway: &Gateway, port: u16, before: &[u8], name: &str) -> anyhow::Result<Client> {
    let options = ClientOptions { trust: Some("test".to_owned()), ..ClientOptions::name(name) };
    Client::connect_tls(gateway.address(port), PATIENCE, before, options.config()?, Some(name))
}

/// The next eight bytes.
fn eight(client: &mut Client) -> String {
    let mut bytes = Vec::new();
    client.reader().exactly(8, &mut |piece| bytes.extend_from_slice(piece)).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_server_name_decides_who_gets_a_connection() {
    let http = Upstream::echo("http").unwrap();
    let db = lines_at("db");
    let config = tls::server(&pki::server("other.com").unwrap(), None).unwrap();
    let other = Upstream::custom(move |stream| echo_tls("other", stream, config.clone())).unwrap();
    for driver in DRIVERS {
        let manifests = stack("https", 8443, "protocol: HTTPS")
            + &stack("tls", 7443, "protocol: TLS")
            + &tls_host("foo")
            + &tls_host("db")
            + &mapping("all", &format!("prefix: /, service: '{}'", http.address()))
            + &tcp("db", &format!("port: 8443, host: db.com, service: '{}'", db.address()))
            + &tcp("other", &format!("port: 8443, service: '{}'", other.address()))
            + &tcp("alone", &format!("port: 7443, host: DB.com, service: '{}'", db.address()));
        let gateway = start(&manifests, driver, &[]);

        let mut client = connect_tls(&gateway, 8443, b"", "foo.com").unwrap();
        let seen = client.get("/", "foo.com").unwrap().seen().unwrap();
        assert_eq!(seen["backend"], "http");

        // Terminated with the certificate of its Host, and either side may end first.
        for port in [8443, 7443] {
            let mut client = connect_tls(&gateway, port, b"", "db.com").unwrap();
            client.send(b"one\n").unwrap();
            assert_eq!(eight(&mut client), "db: one\n");
            client.finish().unwrap();
            assert_eq!(eight(&mut client), "db: end\n");
            assert_eq!(client.reader().fill().unwrap(), 0, "the end is said");
        }

        // What nobody else is for goes through as it is.
        let mut client = connect_tls(&gateway, 8443, b"", "other.com").unwrap();
        let seen = client.get("/", "other.com").unwrap().seen().unwrap();
        assert_eq!(
            (&seen["backend"], &seen["tls"]["server_name"]),
            (&"other".into(), &"other.com".into())
        );

        // A Listener without HTTP speaks none, whatever Hosts there are.
        let error = connect_tls(&gateway, 7443, b"", "foo.com").unwrap_err();
        assert_eq!(tls::alert(&error), "unrecognised_name", "{error:#}");
        let mut plain = connect(&gateway, 7443);
        plain.write_all(b"GET / HTTP/1.1\r\nHost: foo.com\r\n\r\n").unwrap();
        assert!(closes(&mut plain));
        assert_eq!(metric(&gateway, "envoy_listener_no_filter_chain_match"), 1);
    }
}

#[test]
fn the_stack_runs_in_its_order() {
    let http = Upstream::echo("a").unwrap();
    let db = lines_at("db");
    let source: SocketAddr = "203.0.113.7:5000".parse().unwrap();
    let to: SocketAddr = "198.51.100.1:443".parse().unwrap();
    let headers = [proxy_protocol::v1(source, to), proxy_protocol::v2(source, to, b"")];
    for driver in DRIVERS {
        let manifests = stack("outside", 8443, "protocol: HTTPSPROXY")
            + &stack("inside", 8444, "protocolStack: [TLS, PROXY, HTTP, TCP]")
            + &tls_host("foo")
            + &tls_host("db")
            + &mapping("all", &format!("prefix: /, service: '{}'", http.address()))
            + &tcp("db", &format!("port: 8443, host: db.com, service: '{}'", db.address()));
        let gateway = start(&manifests, driver, &[]);
        let check = |client: &mut Client| {
            let seen = client.response("GET").unwrap().seen().unwrap();
            let fields = seen["fields"].as_array().unwrap();
            let value = |name: &str| fields.iter().find(|f| f[0] == name).unwrap()[1].clone();
            assert_eq!(value("x-forwarded-for"), "203.0.113.7");
            assert_eq!(value("x-forwarded-proto"), "https");
        };
        let request = b"GET / HTTP/1.1\r\nHost: foo.com\r\n\r\n";
        for header in &headers {
            let mut client = connect_tls(&gateway, 8443, header, "foo.com").unwrap();
            client.send(request).unwrap();
            check(&mut client);

            let mut client = connect_tls(&gateway, 8444, b"", "foo.com").unwrap();
            client.send(&[&header[..], request].concat()).unwrap();
            check(&mut client);

            let mut client = connect_tls(&gateway, 8443, header, "db.com").unwrap();
            client.send(b"one\n").unwrap();
            assert_eq!(eight(&mut client), "db: one\n");
        }
        // Each where the other is declared.
        assert!(connect_tls(&gateway, 8443, b"", "foo.com").is_err());
        let mut client = connect(&gateway, 8444);
        client.write_all(&[&headers[0][..], b"\x16\x03\x01"].concat()).unwrap();
        assert!(connect_tls(&gateway, 8444, &headers[0], "foo.com").is_err());
    }
}

#[test]
fn nine_thousand_tunnels_at_rest() {
    const N: usize = 9_000;
    let _alone = heavy();
    raise_descriptors();
    for driver in DRIVERS {
        // One thread that keeps what it accepts.
        let held = Arc::new(AtomicU64::new(0));
        let sink = TcpListener::bind((ringway_tests::address::fresh(), 8000)).unwrap();
        let service = sink.local_addr().unwrap();
        let (kept, counted) = (Arc::new(Mutex::new(Vec::new())), held.clone());
        let keep = kept.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = sink.accept() {
                keep.lock().unwrap().push(stream);
                counted.fetch_add(1, Relaxed);
            }
        });
        let http = Upstream::custom(|stream| echo("a", stream)).unwrap();
        let manifests = listener(8080)
            + &mapping("all", &format!("prefix: /, service: '{}'", http.address()))
            + &tcp("sink", &format!("port: 7001, service: '{service}'"));
        let args = ["--access-log=off", "--max-listener-connections=9500"];
        let gateway = start(&manifests, driver, &args);
        let slowest = || {
            let mut client = gateway.client(8080).unwrap();
            let once = |_| {
                let begin = Instant::now();
                assert_eq!(client.get("/", "a").unwrap().status, 200);
                begin.elapsed()
            };
            p99((0..300).map(once).collect())
        };
        // The median of a few: the machine may have other work, too.
        let usual = || median((0..5).map(|_| slowest()).collect());
        let (before, alone) = (gateway.anonymous().unwrap(), usual());
        let mut clients = Vec::with_capacity(N);
        while clients.len() < N {
            clients.push(connect(&gateway, 7001));
            // Room in both queues of connections that wait to be accepted: the kernel forgets some
            // of those beyond the 128 of std's listener.
            let ahead = clients.len() as u64;
            wait_until("tunnels are open", PATIENCE, || held.load(Relaxed) + 100 > ahead);
        }
        wait_until("all tunnels are open", PATIENCE, || held.load(Relaxed) == N as u64);
        let per_tunnel = (gateway.anonymous().unwrap() - before) / N as u64;
        let among = usual();
        println!("{driver}: {per_tunnel} B a tunnel; p99 alone {alone:?}, among them {among:?}");
        assert!(per_tunnel < 12_000, "{per_tunnel} B a tunnel on {driver}");
        assert!(among <= alone * 2 + Duration::from_millis(5), "{alone:?} → {among:?}");

        // They live.
        for at in [0, N / 2, N - 1] {
            clients[at].write_all(b"x").unwrap();
        }
        let sum = || metric(&gateway, "envoy_tcp_downstream_cx_rx_bytes_total");
        wait_until("their bytes go through", PATIENCE, || sum() == 3);
        drop(clients);
        kept.lock().unwrap().clear();
        wait_until("all are over", PATIENCE, || {
            metric(&gateway, "envoy_tcp_downstream_cx_active") == 0
        });
    }
}
