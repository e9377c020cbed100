// SPDX-License-Identifier: Apache-2.0
//! Clients that are not ours: `openssl s_client` and `curl`, run with exact arguments. What they
//! print is read back into the few facts that tests ask for.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::PATIENCE;

/// What a program said until it ended.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program to its end; it is killed, and that is an error, where it takes longer than
/// [`PATIENCE`].
pub fn run(program: &str, arguments: &[&str], input: &str) -> Result<Output> {
    run_within(PATIENCE, program, arguments, input)
}

/// The same with a time of its own.
pub fn run_within(
    patience: Duration,
    program: &str,
    arguments: &[&str],
    input: &str,
) -> Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = (stdout.context("piped")?, stderr.context("piped")?);
    std::thread::scope(|scope| {
        // One that has ended already does not read.
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        let stdout = scope.spawn(move || everything(stdout));
        let stderr = scope.spawn(move || everything(stderr));
        let end = Instant::now() + patience;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > end {
                child.kill()?;
                child.wait()?;
                bail!("{program} {arguments:?} does not end");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let text = |reader: std::thread::ScopedJoinHandle<'_, String>| {
            reader.join().expect("reading does not panic")
        };
        Ok(Output { status, stdout: text(stdout), stderr: text(stderr) })
    })
}

/// The first program of that name on PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A program that is on PATH, or that a package of the distribution brings; `None`, and one line
/// that says so, where it cannot be had.
pub fn packaged(name: &str, package: &str) -> Option<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    };
    let install = ["install", "-y", "--no-install-recommends", package];
    // SAFETY: a plain system call without arguments.
    let may = || unsafe { libc::geteuid() } == 0;
    if on_path(name).is_none() && may() && !apt(&install) && apt(&["update"]) {
        apt(&install);
    }
    let found = on_path(name);
    if found.is_none() {
        eprintln!("left out: {name}, because the package {package} is not there");
    }
    found
}

fn everything(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A folder for keys and certificates that those programs read; gone when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let path = format!("ringway-outside-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(path);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, and gives its path as an argument.
    pub fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.0.join(name);
        fs::write(&path, text)?;
        Ok(path.to_str().context("a path in UTF-8")?.to_owned())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `openssl s_client` came to.
#[derive(Debug)]
pub struct Session {
    /// `TLSv1.2`, `TLSv1.3`; empty without a handshake.
    pub version: String,
    /// OpenSSL's name.
    pub suite: String,
    pub resumed: bool,
    pub alpn: Option<String>,
    /// The common name of the server's certificate.
    pub subject: Option<String>,
    /// `0` where the certificate is believed.
    pub verify_code: Option<u32>,
    /// The number of the alert that the server sent, RFC 8446 §6.
    pub alert: Option<u32>,
    pub output: Output,
}

/// `openssl s_client -connect TO …`; `input` is sent, and without any it ends with the handshake.
pub fn s_client(to: SocketAddr, arguments: &[&str], input: &str) -> Result<Session> {
    let to = to.to_string();
    let mut all = vec!["s_client", "-connect", &to];
    all.extend_from_slice(arguments);
    if !input.is_empty() {
        // Until the server closes.
        all.push("-ign_eof");
    }
    let output = run("openssl", &all, input)?;
    let lines = || output.stdout.lines().chain(output.stderr.lines()).map(str::trim);
    let after = |key: &str| lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    // "New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384"
    let summary = lines().find(|line| line.starts_with("New, ") || line.starts_with("Reused, "));
    let words: Vec<&str> = summary.unwrap_or_default().split(", ").collect();
    let none = |text: &str| if text == "(NONE)" { String::new() } else { text.to_owned() };
    let suite = words.get(2).and_then(|text| text.strip_prefix("Cipher is ")).unwrap_or_default();
    let alert = lines().find_map(|line| line.split_once("SSL alert number ")?.1.parse().ok());
    let code = after("Verify return code:").and_then(|text| text.split(' ').next()?.parse().ok());
    let subject = after("subject=").and_then(|text| text.split_once("CN = "));
    Ok(Session {
        version: words.get(1).map(|text| none(text)).unwrap_or_default(),
        suite: none(suite),
        resumed: words.first() == Some(&"Reused"),
        alpn: after("ALPN protocol:").map(str::to_owned),
        subject: subject.map(|(_, name)| name.to_owned()),
        verify_code: code,
        alert,
        output,
    })
}

/// What `curl` came to.
#[derive(Debug)]
pub struct Fetched {
    /// 0 where there is no answer.
    pub status: u64,
    pub body: String,
    /// Everything that `--write-out '%{json}'` knows.
    pub facts: Value,
    pub output: Output,
}

/// `curl` with these arguments, at best an URL and `--resolve` among them.
pub fn curl(arguments: &[&str]) -> Result<Fetched> {
    let mut all = vec!["--silent", "--show-error", "--write-out", "\n%{json}"];
    all.extend_from_slice(arguments);
    let output = run("curl", &all, "")?;
    let (body, facts) = output.stdout.rsplit_once('\n').context("curl says no facts")?;
    let (body, facts) = (body.to_owned(), serde_json::from_str::<Value>(facts)?);
    Ok(Fetched { status: facts["http_code"].as_u64().unwrap_or(0), body, facts, output })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use super::*;
    use crate::{pki, tls, upstream};

    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = tls::server(&pki::server("outside.example").unwrap(), None).unwrap();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, config) = (socket.unwrap(), config.clone());
                std::thread::spawn(move || upstream::echo_tls("a", socket, config));
            }
        });
        address
    }

    #[test]
    fn openssl_is_understood() {
        let session = s_client(server(), &["-tls1_2", "-alpn", "h2,http/1.1"], "").unwrap();
        assert_eq!(session.version, "TLSv1.2", "{session:?}");
        assert_eq!(session.suite, "ECDHE-ECDSA-AES256-GCM-SHA384");
        assert_eq!(session.alpn.as_deref(), Some("http/1.1"));
        assert_eq!(session.subject.as_deref(), Some("outside.example"));
        assert!(!session.resumed && session.alert.is_none());
        assert_ne!(session.verify_code, Some(0));
        let refused = s_client(server(), &["-tls1_2", "-cipher", "AES128-SHA"], "").unwrap();
        assert_eq!((refused.version.as_str(), refused.alert), ("", Some(40)), "{refused:?}");
    }

    #[test]
    fn curl_is_understood() {
        let folder = Folder::new().unwrap();
        let ca = folder.file("ca.pem", &pki::authority("test").unwrap().pem()).unwrap();
        let address = server();
        let port = address.port();
        let resolve = format!("outside.example:{port}:{}", address.ip());
        let url = format!("https://outside.example:{port}/x");
        let close = "x-backend-close: 1";
        let fetched = curl(&["--cacert", &ca, "--resolve", &resolve, "-H", close, &url]).unwrap();
        assert_eq!(fetched.status, 200, "{fetched:?}");
        assert_eq!(fetched.facts["ssl_verify_result"], 0);
        assert!(fetched.body.contains("\"backend\":\"a\""));
        let refused = curl(&["--resolve", &resolve, &url]).unwrap();
        assert_eq!((refused.status, refused.output.status.code()), (0, Some(60)), "{refused:?}");
    }
}
