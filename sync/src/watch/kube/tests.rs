// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
//! Against an API server that says what a test has written down.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use super::*;

/// One answer, to the first request whose target has this in it.
struct Answer {
    target: &'static str,
    status: u16,
    body: String,
}

fn answer(target: &'static str, status: u16, body: impl Into<String>) -> Answer {
    Answer { target, status, body: body.into() }
}

/// An API server; what is not written down is answered with 503.
struct Fake {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (answers, heard) = (Arc::clone(&answers), Arc::clone(&heard));
                std::thread::spawn(move || serve(stream, &answers, &heard));
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Answers one request, and closes; nobody minds.
fn serve(mut stream: TcpStream, answers: &Mutex<VecDeque<Answer>>, asked: &Mutex<Vec<String>>) {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    reader.read_line(&mut line).unwrap();
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap() <= 2 {
            break;
        }
    }
    let mut answers = answers.lock().unwrap();
    let found = answers.iter().position(|answer| target.contains(answer.target));
    let found = found.and_then(|at| answers.remove(at));
    drop(answers);
    asked.lock().unwrap().push(target);
    let (status, body) = found.map_or((503, String::new()), |answer| (answer.status, answer.body));
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all((head + &body).as_bytes());
}

/// What a sink is told, in order.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Sink for Heard {
    fn set(&mut self, head: &Head<'_>, _: &str, api_version: &'static str) {
        let version = api_version.rsplit('/').next().unwrap();
        self.note(format!("{} {version}", head.metadata.name));
    }

    fn remove(&mut self, _: &str, name: &str) {
        self.note(format!("-{name}"));
    }

    fn listed(&mut self) {
        self.note("listed".into());
    }

    fn given_up(&mut self) {
        self.note("given up".into());
    }

    fn failed(&mut self, failure: &Failure) {
        self.note(format!("failed: {failure}"));
    }
}

fn object(name: &str, version: u32) -> String {
    format!(
        r#"{{"metadata": {{"name": "{name}", "namespace": "n", "resourceVersion": "{version}"}}}}"#
    )
}

fn list(version: u32, next: &str, items: &[String]) -> String {
    let items = items.join(", ");
    format!(
        r#"{{"metadata": {{"resourceVersion": "{version}", "continue": "{next}"}}, "items": [{items}]}}"#
    )
}

fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\": \"{kind}\", \"object\": {object}}}\n")
}

/// Follows Mappings until a sink has heard this much.
fn follow_until(
    fake: &Fake,
    installed: Installed,
    is_enough: impl Fn(&[String]) -> bool,
) -> Vec<String> {
    let mut config = Config::new(format!("http://{}", fake.address).parse().unwrap());
    config.default_retry = false;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let heard = Heard::default();
    let all = heard.clone();
    runtime.block_on(async {
        let api = Api::new(Client::try_from(config).unwrap());
        let targets = resource::targets(&Scope::default());
        let (_, target) = targets.into_iter().find(|(kind, _)| *kind == Kind::Mapping).unwrap();
        tokio::spawn(follow::follow(api, target, heard, installed, Vec::new()));
        let patience = tokio::time::Instant::now() + Duration::from_secs(10);
        while !is_enough(&all.all()) {
            assert!(tokio::time::Instant::now() < patience, "{:?} {:?}", all.all(), fake.asked());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    all.all()
}

#[test]
fn a_list_in_pages_then_a_watch_that_goes_on_where_it_ended() {
    let fake = Fake::start(vec![
        answer("limit=500&continue=p%2F2", 200, list(7, "", &[object("b", 2)])),
        answer("v3alpha1/mappings?limit=500", 200, list(7, "p/2", &[object("a", 1)])),
        answer(
            "resourceVersion=7",
            200,
            event("MODIFIED", &object("a", 8))
                + &event("DELETED", &object("b", 9))
                + &event("BOOKMARK", r#"{"metadata": {"resourceVersion": "12"}}"#)
                + r#"{"type": "ADDED", "object": {"metadata": {"name": "cut"#,
        ),
        answer("resourceVersion=12", 200, event("ADDED", &object("c", 13))),
    ]);
    let (installed, _definitions, _) = Installed::new();
    let heard = follow_until(&fake, installed, |heard| heard.contains(&"c v3alpha1".into()));
    let heard: Vec<&str> =
        heard.iter().map(String::as_str).filter(|h| !h.contains("failed")).collect();
    let expected = ["a v3alpha1", "b v3alpha1", "listed", "a v3alpha1", "-b", "c v3alpha1"];
    assert_eq!(heard, expected);
}

#[test]
fn what_is_too_old_is_listed_anew_and_only_differences_are_told() {
    let gone = r#"{"kind": "Status", "code": 410, "message": "too old resource version"}"#;
    let fake = Fake::start(vec![
        answer("limit=", 200, list(5, "", &[object("a", 1), object("b", 2), object("c", 3)])),
        answer("watch=1", 200, event("ERROR", gone)),
        answer("limit=", 200, list(9, "", &[object("a", 1), object("c", 8)])),
    ]);
    let (installed, _definitions, _) = Installed::new();
    let heard = follow_until(&fake, installed, |heard| {
        heard.iter().filter(|h| *h == "listed").count() == 2
    });
    let expected =
        ["a v3alpha1", "b v3alpha1", "c v3alpha1", "listed", "c v3alpha1", "-b", "listed"];
    assert_eq!(heard[..7], expected);
}

/// 404 in every version while the definition is known to be there: it is the API server that is
/// not ready. Once it is known to be gone, so are its objects.
#[test]
fn objects_stay_until_their_definition_is_gone() {
    let answers = [
        answer("v3alpha1/mappings?limit=", 200, list(5, "", &[object("a", 1)])),
        answer("watch=1", 404, ""),
    ]
    .into_iter()
    // As often as it is asked until the definition is known to be gone.
    .chain((0..1_000).map(|_| answer("mappings?limit=", 404, "")));
    let fake = Fake::start(answers.collect());
    let (installed, mut definitions, _) = Installed::new();
    let name = r#"{"metadata": {"name": "mappings.getambassador.io"}}"#;
    definitions.set(&serde_json::from_str(name).unwrap(), name, "v1");
    definitions.listed();
    let definitions = Mutex::new(definitions);
    let heard = follow_until(&fake, installed, |heard| {
        if heard.contains(&"given up".into()) {
            definitions.lock().unwrap().remove("", "mappings.getambassador.io");
        }
        heard.contains(&"-a".into())
    });
    assert_eq!(heard[..3], ["a v3alpha1", "listed", "given up"]);
}

#[test]
fn an_older_version_serves_where_nobody_converts_to_the_newest() {
    let dead = r#"{"kind": "Status", "status": "Failure", "code": 500, "message": "conversion webhook for getambassador.io/v2, Kind=Mapping failed: no endpoints"}"#;
    let fake = Fake::start(vec![
        answer("v3alpha1/mappings?limit=", 500, dead),
        answer("v2/mappings?limit=", 200, list(5, "", &[object("a", 1)])),
    ]);
    let (installed, _definitions, _) = Installed::new();
    let heard = follow_until(&fake, installed, |heard| heard.contains(&"listed".into()));
    assert_eq!(heard[..2], ["a v2", "listed"]);
}

#[test]
fn failures_take_nothing_away_and_are_tried_again() {
    let status = |code: u16| {
        format!(r#"{{"kind": "Status", "status": "Failure", "code": {code}, "message": "no"}}"#)
    };
    let fake = Fake::start(vec![
        answer("limit=", 429, status(429)),
        answer("limit=", 500, status(500)),
        answer("limit=", 401, status(401)),
        answer("limit=", 403, status(403)),
        answer("limit=", 200, list(5, "", &[object("a", 1)])),
        answer("watch=1", 500, status(500)),
        answer("resourceVersion=5", 200, event("MODIFIED", &object("a", 6))),
    ]);
    let (installed, _definitions, _) = Installed::new();
    let heard = follow_until(&fake, installed, |heard| {
        heard.iter().filter(|h| *h == "a v3alpha1").count() == 2
    });
    assert!(!heard.contains(&"-a".into()), "{heard:?}");
    // Whoever may not read does not keep the others waiting.
    assert_eq!(heard[3..5], ["given up", "failed: no"]);
}
