// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

fn diagnostic(severity: Severity, reason: &'static str) -> Diagnostic {
    Diagnostic {
        severity,
        reason,
        object: None,
        path: "".into(),
        message: "".into(),
        help: None,
        location: None,
    }
}

#[track_caller]
fn check_status(found: &[(Severity, &'static str)], expected: u8, strict: u8) {
    let all: Vec<Diagnostic> = found.iter().map(|(s, reason)| diagnostic(*s, reason)).collect();
    assert_eq!(status(&all, false), expected, "{found:?}");
    assert_eq!(status(&all, true), strict, "{found:?}, strictly");
}

#[test]
fn the_exit_status_says_how_bad_it_is() {
    check_status(&[], 0, 0);
    check_status(&[(Severity::Notice, "X")], 0, 0);
    check_status(&[(Severity::Warning, "X")], 0, 1);
    check_status(&[(Severity::Warning, "X"), (Severity::Error, "X")], 1, 1);
    check_status(&[(Severity::FailsClosed, "X")], 1, 1);
    check_status(&[(Severity::Error, "X"), (Severity::Error, "Unreadable")], 2, 2);
}

/// A folder for one test.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("ringway-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("a.yaml"), text).unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn checked(name: &str, text: &str) -> Loaded {
    let scratch = Scratch::new(name, text);
    load(&scratch.0, Default::default(), Default::default()).unwrap()
}

#[test]
fn a_mistake_has_its_line_and_caret() {
    let manifest = "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata:\n  name: one\n\
                    spec:\n  hostname: '*'\n  prefix: [1]\n  service: s\n";
    let loaded = checked("caret", manifest);
    let said = text(&loaded, Style::Plain);
    assert!(said.contains("a.yaml:7:3"), "{said}");
    assert!(said.contains("  prefix: [1]\n"), "{said}");
    assert!(said.contains("  ^^^^^^"), "{said}");
    assert!(said.contains("1 error, "), "{said}");
    let value: serde_json::Value = serde_json::from_str(&json(&loaded)).unwrap();
    assert_eq!(value["errors"], 1);
    let problem = value["problems"].as_array().unwrap().iter().find(|p| p["severity"] == "error");
    assert_eq!(problem.unwrap()["line"], 7);
}

#[test]
fn a_folder_that_is_not_there_cannot_be_read() {
    assert!(
        load(std::path::Path::new("/nonexistent"), Default::default(), Default::default()).is_err()
    );
}

const TCP: &str = "
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: https}
spec: {port: 8443, protocol: HTTPS, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: shop}
spec:
  hostname: shop.example
  tlsSecret: {name: gone}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: shop}
spec: {hostname: shop.example, prefix: /, service: 127.0.0.1:9}
---
apiVersion: getambassador.io/v3alpha1
kind: TCPMapping
metadata: {name: db}
spec: {port: 5432, service: 127.0.0.1:9}
---
apiVersion: getambassador.io/v3alpha1
kind: TCPMapping
metadata: {name: broken}
spec: {port: 5433, service: 'a b'}
";

#[test]
fn what_would_be_served_is_counted_and_tls_mistakes_have_their_line() {
    let loaded = checked("check-tls", TCP);
    let text = text(&loaded, Style::Plain);
    assert!(
        text.contains(
            "listeners: 2, TLS chains: 1 (1 refusing every handshake), TCP routes: 1, HTTP routes: 1"
        ),
        "{text}"
    );
    // The Secret that is not there, where it is named; the service that is none.
    for (line, told) in [(12, "a.yaml:12:"), (27, "a.yaml:27:")] {
        assert!(text.contains(told), "line {line}: {text}");
    }
    assert!(text.contains("gone"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&json(&loaded)).unwrap();
    assert_eq!(json["serves"]["listeners"], 2);
    assert_eq!(json["serves"]["tls_chains_refusing"], 1);
}
