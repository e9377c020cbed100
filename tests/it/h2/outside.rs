// SPDX-License-Identifier: Apache-2.0
//! Clients that are not ours, over cleartext and TLS: h2spec with all its cases, curl with nghttp2,
//! h2load.

use std::fs;
use std::time::Duration;

use ringway_tests::Gateway;
use ringway_tests::go::Program;
use ringway_tests::outside::{Folder, Output, curl, packaged, run_within};
use ringway_tests::upstream::{Upstream, digest, pattern};

use super::super::{DRIVERS, heavy};
use super::{CLEARTEXT, HOST, TLS, manifests, manifests_to, start};

/// Cases that are not asked for on a port, each with the reason. RFC 9113 made none obsolete: what
/// it deprecates, a server still tolerates.
const EXCEPT: [(u16, &str, &str); 1] = [(
    CLEARTEXT,
    "http2/3.5: Sends invalid connection preface",
    "the port serves HTTP/1.1, too, and what is no preface is a request there: it gets 400 and the \
     connection closes, where the case wants it closed without a word. Over TLS, where the protocol \
     is chosen before the first byte, the case is asked for.",
)];

/// h2spec 2.2.1 has so many, the strict ones included.
const CASES: usize = 146;

#[derive(Debug)]
struct Case {
    name: String,
    failure: Option<String>,
    skipped: bool,
}

/// The cases of a JUnit report.
fn report(text: &str) -> Vec<Case> {
    let attribute = |text: &str, name: &str| {
        let (_, rest) = text.split_once(&format!(" {name}=\"")).unwrap();
        rest.split_once('"').unwrap().0.replace("&#39;", "'").replace("&#34;", "\"")
    };
    let cases = text.split("<testcase").skip(1).map(|text| {
        let (head, rest) = text.split_once('>').unwrap();
        let rest = rest.split_once("</testcase>").map_or("", |(inside, _)| inside);
        let failure = ["<failure>", "<error>"].into_iter().find_map(|tag| rest.split_once(tag));
        Case {
            name: format!("{}: {}", attribute(head, "package"), attribute(head, "classname")),
            failure: failure.map(|(_, text)| text.split("</").next().unwrap().trim().to_owned()),
            skipped: rest.contains("<skipped"),
        }
    });
    cases.collect()
}

/// Runs h2spec; what fails.
fn h2spec(program: &str, gateway: &Gateway, port: u16) -> Vec<String> {
    let folder = Folder::new().unwrap();
    let file = folder.path().join("report.xml");
    let (host, port_text) = (gateway.address(port).ip().to_string(), port.to_string());
    // A case has 2 s without `-o`, which other tests beside it may use up.
    let mut arguments =
        vec!["--strict", "-o", "20", "-h", &host, "-p", &port_text, "-j", file.to_str().unwrap()];
    if port == TLS {
        arguments.extend(["--tls", "--insecure"]);
    }
    let output = run_within(Duration::from_secs(300), program, &arguments, "").unwrap();
    let text = fs::read_to_string(&file).unwrap_or_else(|_| panic!("no report: {output:?}"));
    let cases = report(&text);
    let skipped = cases.iter().filter(|case| case.skipped).count();
    println!("h2spec on {port}: {} cases, {skipped} skipped", cases.len());
    assert!(cases.len() >= CASES, "only {} cases", cases.len());
    let excepted = |case: &Case| {
        let reason = EXCEPT.iter().find(|(on, name, _)| *on == port && case.name == *name);
        reason.inspect(|(.., why)| println!("not asked for: {}: {why}", case.name)).is_some()
    };
    let skipped = cases.iter().filter(|case| case.skipped);
    let skipped = skipped.map(|case| format!("{}: skipped", case.name));
    let failed = cases
        .iter()
        .filter(|case| !excepted(case))
        .filter_map(|case| case.failure.as_ref().map(|why| format!("{}: {why}", case.name)));
    failed.chain(skipped).collect()
}

#[test]
fn h2spec_passes_whole() {
    let Some(program) = Program::H2spec.find().unwrap() else { return };
    let program = program.to_str().unwrap();
    let back_end = Upstream::echo("a").unwrap();
    let mut failed = Vec::new();
    for driver in DRIVERS {
        let gateway = start(&manifests(&back_end, ""), driver, &["--access-log=off"]);
        for port in [CLEARTEXT, TLS] {
            let cases = h2spec(program, &gateway, port).into_iter();
            failed.extend(cases.map(|case| format!("{driver}, port {port}: {case}")));
        }
    }
    assert!(failed.is_empty(), "{}:\n{}", failed.len(), failed.join("\n"));
}

/// Arguments that make curl speak HTTP/2 with a port, and the URL of a path there.
fn of(gateway: &Gateway, port: u16, path: &str) -> Vec<String> {
    let address = gateway.address(port);
    let resolve = format!("{HOST}:{port}:{}", address.ip());
    let (how, scheme) = match port {
        TLS => (["--http2", "--insecure"], "https"),
        _ => (["--http2-prior-knowledge", "--no-alpn"], "http"),
    };
    let url = format!("{scheme}://{HOST}:{port}{path}");
    [&how[..], &["--resolve", &resolve, &url]].concat().into_iter().map(str::to_owned).collect()
}

#[test]
fn curl_uploads_and_downloads() {
    let folder = Folder::new().unwrap();
    let file = folder.path().join("body");
    let body = pattern(4 << 20);
    fs::write(&file, &body).unwrap();
    let (upload, down) = (file.to_str().unwrap().to_owned(), folder.path().join("down"));
    let down = down.to_str().unwrap();
    let back_end = Upstream::echo("a").unwrap();
    for driver in DRIVERS {
        let gateway = start(&manifests(&back_end, ""), driver, &[]);
        for port in [CLEARTEXT, TLS] {
            let fetch = |more: &[&str]| {
                let of = of(&gateway, port, "/x?y");
                let of: Vec<&str> = of.iter().map(|text| &text[..]).collect();
                let fetched = curl(&[more, &of].concat()).unwrap();
                assert_eq!(fetched.facts["http_version"], "2", "{fetched:?}");
                assert_eq!(fetched.status, 200, "{fetched:?}");
                fetched.body
            };
            let seen = |body: &str| serde_json::from_str::<serde_json::Value>(body).unwrap();
            assert_eq!(seen(&fetch(&[]))["target"], "/x?y");
            assert_eq!(seen(&fetch(&["--data", "hello"]))["body"], "hello");
            assert_eq!(seen(&fetch(&["--upload-file", &upload]))["body"], digest(&body));
            let chunked = ["--upload-file", &upload, "-H", "transfer-encoding: chunked"];
            assert_eq!(seen(&fetch(&chunked))["body"], digest(&body), "{driver}");
            let length = format!("x-backend-length: {}", body.len());
            fetch(&["-H", &length, "--output", down]);
            assert_eq!(digest(&fs::read(down).unwrap()), digest(&body), "{driver}");
        }
    }
}

/// The number that h2load says behind a word.
fn said(output: &Output, word: &str) -> u64 {
    let requests = output.stdout.lines().find(|line| line.starts_with("requests: "));
    let counts = requests.unwrap_or_else(|| panic!("{output:?}"));
    let part = counts.split(',').find(|part| part.ends_with(word));
    part.and_then(|part| part.split_whitespace().rev().nth(1)?.parse().ok()).expect(word)
}

#[test]
fn h2load_gets_every_answer() {
    let Some(program) = packaged("h2load", "nghttp2-client") else { return };
    let _alone = heavy();
    let back_end = ringway_tests::load::Backend::start().unwrap();
    for driver in DRIVERS {
        let manifests = manifests_to(back_end.address(), "");
        let gateway = start(&manifests, driver, &["--access-log=off"]);
        for port in [CLEARTEXT, TLS] {
            let scheme = if port == TLS { "https" } else { "http" };
            let url = format!("{scheme}://{}/", gateway.address(port));
            let arguments = ["-n", "20000", "-c", "20", "-m", "50", "-t", "1", &url];
            let patience = Duration::from_secs(60);
            let output = run_within(patience, program.to_str().unwrap(), &arguments, "").unwrap();
            let counts = ["succeeded", "failed", "errored", "timeout"].map(|w| said(&output, w));
            assert_eq!(counts, [20_000, 0, 0, 0], "{driver}: {}", output.stdout);
            let summary = output.stdout.lines().find(|line| line.starts_with("finished in"));
            println!("{driver}, {scheme}: {}", summary.unwrap_or_default());
        }
    }
}
