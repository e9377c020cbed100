// SPDX-License-Identifier: Apache-2.0
//! HTTP/2 on both sides of the running gateway: h2spec and curl, every feature over every pair of
//! protocols, frames written out both ways, hostile peers and what floods cost others.

mod floods;
mod hostile;
mod matrix;
mod outside;
mod protocol;
mod upstream;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::head::Reader;
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::pki;
use ringway_tests::upstream::{Upstream, request};

/// Over cleartext and TLS.
pub(crate) const CLEARTEXT: u16 = 8080;
pub(crate) const TLS: u16 = 8443;
pub(crate) const HOST: &str = "a.example";

/// What a gateway needs, and a Mapping of everything to one address; `spec` is more of it.
fn manifests(to: &Upstream, spec: &str) -> String {
    manifests_to(to.address(), spec)
}

fn manifests_to(to: SocketAddr, spec: &str) -> String {
    let patience = if spec.contains("timeout_ms") { "" } else { ", timeout_ms: 15000" };
    let spec = format!("prefix: /, service: \"{to}\"{patience}{spec}");
    listeners_and_host() + &mapping("all", &spec)
}

/// Listeners on both ports, and a Host with `h2` in its protocols.
pub(crate) fn listeners_and_host() -> String {
    let https =
        listener(TLS).replace("http-", "https-").replace("protocol: HTTP,", "protocol: HTTPS,");
    let secret = pki::server(HOST).unwrap().secret("a");
    let host = "---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: a}
spec: {hostname: \"*\", tlsSecret: {name: a}, tls: {alpn_protocols: \"h2,http/1.1\"}, \
         requestPolicy: {insecure: {action: Route}}}
";
    listener(CLEARTEXT) + &https + &secret + host
}

pub(crate) fn start(manifests: &str, driver: &'static str, args: &[&str]) -> Gateway {
    let args = args.iter().map(ToString::to_string).collect();
    let gateway = Gateway::start(manifests, &Options { args, ..Options::driver(driver) }).unwrap();
    gateway.assert_driver(driver).unwrap();
    gateway
}

/// A back end over HTTP/1.1 that counts the requests that reached it whole, and those that did not
/// read strictly.
struct Counting {
    upstream: Upstream,
    whole: Arc<AtomicU64>,
    malformed: Arc<AtomicU64>,
}

impl Counting {
    fn start() -> Self {
        let [whole, malformed] = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
        let counters = (whole.clone(), malformed.clone());
        let upstream = Upstream::custom(move |socket| {
            let mut reader = Reader::new(socket);
            loop {
                match request(&mut reader) {
                    Ok(Some(_)) => counters.0.fetch_add(1, Relaxed),
                    Ok(None) => return,
                    // Cut short is what a refused request may be, too.
                    Err(error) if error.kind() != std::io::ErrorKind::InvalidData => return,
                    Err(_) => {
                        counters.1.fetch_add(1, Relaxed);
                        return;
                    }
                };
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if reader.stream.write_all(answer).is_err() {
                    return;
                }
            }
        });
        Self { upstream: upstream.unwrap(), whole, malformed }
    }

    /// Requests that came whole since the last look, and those that were malformed.
    fn seen(&self) -> (u64, u64) {
        (self.whole.swap(0, Relaxed), self.malformed.swap(0, Relaxed))
    }
}
