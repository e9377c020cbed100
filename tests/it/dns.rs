// SPDX-License-Identifier: Apache-2.0
//! Upstreams by name: a name server of our own on loopback says what the names are, and changes
//! its mind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::upstream::Upstream;
use ringway_tests::{PATIENCE, address, wait_until};

use super::DRIVERS;

#[derive(Clone)]
enum Answer {
    Addresses {
        ttl: u32,
        addresses: Vec<IpAddr>,
    },
    /// SERVFAIL.
    Failure,
}

/// What is said about names, NXDOMAIN of others, and how often each was asked for.
#[derive(Default)]
struct Zone {
    answers: BTreeMap<String, Answer>,
    asked: BTreeMap<String, u64>,
}

/// A name server for A records (RFC 1035), on port 53 of a loopback address of its own, since
/// resolv.conf knows no other port. That takes root, or a low `ip_unprivileged_port_start`.
struct NameServer {
    ip: Ipv4Addr,
    zone: Arc<Mutex<Zone>>,
}

impl NameServer {
    fn start() -> Self {
        let ip = address::fresh();
        let socket = UdpSocket::bind((ip, 53)).expect("port 53 on loopback: run tests as root");
        let zone = Arc::new(Mutex::new(Zone::default()));
        let shared = Arc::clone(&zone);
        // Ends with the process, as its socket does.
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((_, peer)) = socket.recv_from(&mut query) {
                let _ = socket.send_to(&reply(&query, &mut shared.lock().unwrap()), peer);
            }
        });
        Self { ip, zone }
    }

    fn say(&self, name: &str, ttl: u32, upstreams: &[&Upstream]) {
        let addresses = upstreams.iter().map(|u| u.address().ip()).collect();
        self.set(name, Some(Answer::Addresses { ttl, addresses }));
    }

    fn set(&self, name: &str, answer: Option<Answer>) {
        let mut zone = self.zone.lock().unwrap();
        match answer {
            Some(answer) => zone.answers.insert(name.into(), answer),
            None => zone.answers.remove(name),
        };
    }

    fn asked(&self, name: &str) -> u64 {
        self.zone.lock().unwrap().asked.get(name).copied().unwrap_or(0)
    }

    /// Waits until a name was asked for again, after now.
    fn wait_asked(&self, name: &str, times: u64) {
        let before = self.asked(name);
        wait_until("the name is asked for", PATIENCE, || self.asked(name) >= before + times);
    }

    /// A gateway that asks here.
    fn gateway(&self, mappings: &[(&str, &str)], driver: &'static str) -> Gateway {
        let file = std::env::temp_dir().join(format!("ringway-resolv-{}", self.ip));
        let text = format!("nameserver {}\noptions timeout:1 attempts:1\n", self.ip);
        std::fs::write(&file, text).unwrap();
        let path = file.to_str().unwrap().to_owned();
        let args = vec!["--access-log=off".into(), format!("--resolv-conf={path}")];
        let mut manifests = listener(8080);
        for (name, spec) in mappings {
            manifests += &mapping(name, &format!("prefix: /{name}/, {spec}"));
        }
        let gateway =
            Gateway::start(&manifests, &Options { args, ..Options::driver(driver) }).unwrap();
        gateway.assert_driver(driver).unwrap();
        let _ = std::fs::remove_file(file);
        gateway
    }
}

/// RFC 1035 §4: the question back, with its answers.
fn reply(query: &[u8], zone: &mut Zone) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let name = labels.join(".");
    *zone.asked.entry(name.clone()).or_default() += 1;
    let (code, ttl, addresses) = match zone.answers.get(&name) {
        Some(Answer::Addresses { ttl, addresses }) => (0u16, *ttl, addresses.clone()),
        Some(Answer::Failure) => (2, 0, Vec::new()),
        None => (3, 0, Vec::new()),
    };
    let mut out = query[..2].to_vec();
    for field in [0x8180 | code, 1, addresses.len() as u16, 0, 0] {
        out.extend(field.to_be_bytes());
    }
    out.extend(&query[12..at + 5]);
    for address in addresses {
        let IpAddr::V4(address) = address else { panic!("A records only") };
        out.extend([0xc0, 12, 0, 1, 0, 1]);
        out.extend(ttl.to_be_bytes());
        out.extend([0, 4]);
        out.extend(address.octets());
    }
    out
}

/// Who answers, or the status if nobody does.
fn who(gateway: &Gateway, name: &str) -> String {
    let response = gateway.get(8080, &format!("/{name}/"), "a").unwrap();
    match response.seen().filter(|_| response.status == 200) {
        Some(seen) => seen["backend"].as_str().unwrap().to_owned(),
        None => response.status.to_string(),
    }
}

#[test]
fn names_change_fail_and_come_back() {
    for driver in DRIVERS {
        let (a, b) = (Upstream::echo("a").unwrap(), Upstream::echo("b").unwrap());
        let names = NameServer::start();
        names.say("quote.test", 1, &[&a]);
        let fresh = "service: \"quote.test:8000\", respect_dns_ttl: true";
        let late = "service: \"late.test:8000\"";
        let gateway = names.gateway(&[("quote", fresh), ("late", late)], driver);
        assert_eq!(who(&gateway, "quote"), "a");
        assert_eq!(who(&gateway, "late"), "503", "a name that does not exist");

        names.say("quote.test", 1, &[&b]);
        wait_until("the new address is used", PATIENCE, || who(&gateway, "quote") == "b");
        names.say("late.test", 60, &[&a]);
        wait_until("a name that was missing serves", PATIENCE, || who(&gateway, "late") == "a");

        // Neither a server in trouble nor a name that is gone stops what serves.
        for trouble in [Some(Answer::Failure), None] {
            names.set("quote.test", trouble);
            names.wait_asked("quote.test", 2);
            assert_eq!(who(&gateway, "quote"), "b", "the old address stays");
        }
        names.say("quote.test", 1, &[&a]);
        wait_until("it recovers", PATIENCE, || who(&gateway, "quote") == "a");
    }
}

#[test]
fn a_ttl_is_respected_where_it_is_asked_for() {
    let a = Upstream::echo("a").unwrap();
    let names = NameServer::start();
    names.say("short.test", 1, &[&a]);
    names.say("long.test", 300, &[&a]);
    let spec = |name: &str| format!("service: \"{name}.test:8000\", respect_dns_ttl: true");
    let (short, long) = (spec("short"), spec("long"));
    let gateway = names.gateway(&[("short", &short), ("long", &long)], "io_uring");
    assert_eq!((who(&gateway, "short"), who(&gateway, "long")), ("a".into(), "a".into()));
    names.wait_asked("short.test", 3);
    assert_eq!(names.asked("long.test"), 1);
}

#[test]
fn strict_names_use_all_addresses_and_logical_ones_the_first() {
    for driver in DRIVERS {
        let (a, b) = (Upstream::echo("a").unwrap(), Upstream::echo("b").unwrap());
        let names = NameServer::start();
        // In this order, whatever the addresses are.
        names.say("both.test", 1, &[&b, &a]);
        let strict = "service: \"both.test:8000\", respect_dns_ttl: true";
        let logical = format!("{strict}, dns_type: logical_dns");
        let gateway = names.gateway(&[("strict", strict), ("logical", &logical)], driver);
        let seen = |name| (0..20).map(|_| who(&gateway, name)).collect::<BTreeSet<String>>();
        assert_eq!(seen("strict"), BTreeSet::from(["a".into(), "b".into()]));
        assert_eq!(seen("logical"), BTreeSet::from(["b".into()]));
        names.say("both.test", 1, &[&a, &b]);
        wait_until("the first address is another", PATIENCE, || who(&gateway, "logical") == "a");
        assert_eq!(seen("strict"), BTreeSet::from(["a".into(), "b".into()]));
    }
}
