// SPDX-License-Identifier: Apache-2.0
//! A real API server, with etcd and the controllers that fill EndpointSlices, in a network namespace
//! of its own: `tests/kube-rig` builds and starts it, once per test process.
//!
//! The kinds are those of `deploy/crds`. A test works in a Kubernetes namespace of its own, with a
//! gateway that sees no other, as the ServiceAccount that the chart makes and with the rights that the
//! chart gives it, and no more.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::{Context as _, Result, ensure};
use ringway_core::crd::schema::DEFINITIONS;
use serde_json::{Value, json};

use crate::client::{Client, Response};
use crate::gateway::{self, Gateway, Options, repository};
use crate::outside::{on_path, run_within};
use crate::tls::ClientOptions;
use crate::{PATIENCE, helm, python, wait_until};

/// The control plane. Ends with the process: its standard input is what keeps it up.
#[derive(Debug)]
pub struct Rig {
    state: PathBuf,
    namespace: String,
    script: Script,
    _child: Child,
    _stdin: ChildStdin,
}

/// `rig.sh`, with what it has to be told.
#[derive(Clone, Debug)]
struct Script {
    folder: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Script {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(rig_folder().join("rig.sh"));
        command.args(arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

fn rig_folder() -> PathBuf {
    repository().join("tests/kube-rig")
}

/// API without TLS, as an administrator.
pub const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8001);

impl Rig {
    /// The one of this process, started by whoever asks first; `None`, and a line that says why,
    /// on a machine where it cannot be had.
    pub fn shared() -> Option<&'static Self> {
        static RIG: OnceLock<Option<Rig>> = OnceLock::new();
        RIG.get_or_init(|| {
            let missing = ["go", "ip", "nsenter", "openssl", "curl", "python3"]
                .into_iter()
                .find(|tool| on_path(tool).is_none());
            // SAFETY: asks for a number.
            let is_root = unsafe { libc::geteuid() } == 0;
            if let Some(tool) = missing {
                eprintln!("left out: tests with an API server, because there is no {tool} on PATH");
                return None;
            }
            if !is_root {
                eprintln!(
                    "left out: tests with an API server, because network namespaces need root"
                );
                return None;
            }
            Some(Self::start().unwrap_or_else(|error| panic!("the API server: {error:#}")))
        })
        .as_ref()
    }

    fn start() -> Result<Self> {
        // From the network that tests enter nothing can be fetched.
        python::interpreter()?;
        let built = Command::new(rig_folder().join("build.sh")).output().context("build.sh")?;
        ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let bin = String::from_utf8(built.stdout)?.trim().to_owned();
        let namespace = format!("rw{}", std::process::id());
        let folder = std::env::temp_dir().join(format!("ringway-{namespace}"));
        fs::create_dir_all(&folder)?;
        let variables = vec![
            ("BIN", bin),
            ("DIR", folder.to_string_lossy().into_owned()),
            ("NS", namespace.clone()),
        ];
        let script = Script { folder, variables };
        let mut child = script
            .command(&["run"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("rig.sh")?;
        let stdin = child.stdin.take().context("it is piped")?;
        let mut said = String::new();
        BufReader::new(child.stdout.take().context("it is piped")?).read_line(&mut said)?;
        ensure!(said.trim() == "up", "rig.sh says {said:?}");
        let state = script.folder.join(&namespace);
        let rig = Self { state, namespace, script, _child: child, _stdin: stdin };
        rig.install()?;
        Ok(rig)
    }

    /// Installs the kinds, as users do, and waits for them.
    pub fn install(&self) -> Result<()> {
        let crds = repository().join("deploy/crds");
        self.kubectl(&["apply", "--server-side", "-f", &crds.to_string_lossy()], "")?;
        self.await_definitions()
    }

    /// Applies definitions, whoever wrote what is there, and waits for them.
    pub fn define(&self, manifests: &str) -> Result<()> {
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], manifests)?;
        self.await_definitions()
    }

    fn await_definitions(&self) -> Result<()> {
        self.kubectl(&["wait", "--for=condition=Established", "crd", "--all"], "")?;
        Ok(())
    }

    /// Takes the calling thread, and what it starts, into the rig's network.
    pub fn enter(&self) -> Result<()> {
        let namespace = fs::File::open(format!("/run/netns/{}", self.namespace))?;
        // SAFETY: a descriptor that is open during the call, and a flag.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()).context("entering the rig's network"),
        }
    }

    /// Runs `kubectl` as an administrator.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        self.exec(&[&["kubectl"], arguments].concat(), input)
    }

    /// Runs a line of a shell as an administrator, in the repository's root, with what users have:
    /// `kubectl`, `helm` and `ringway`.
    pub fn shell(&self, line: &str) -> Result<String> {
        let helm = python::program("helm")?;
        let programs = [&*helm, gateway::binary()?].map(|program| {
            let folder = program.parent().unwrap_or(program);
            folder.to_string_lossy().into_owned()
        });
        let root = repository().to_string_lossy();
        let script = format!("cd '{root}'; PATH=\"$PATH:{}\"; {line}", programs.join(":"));
        self.exec(&["bash", "-euo", "pipefail", "-c", &script], "")
    }

    fn exec(&self, command: &[&str], input: &str) -> Result<String> {
        let variable = |(name, value): &(&str, String)| format!("{name}={value}");
        let mut all: Vec<String> = self.script.variables.iter().map(variable).collect();
        let script = rig_folder().join("rig.sh").to_string_lossy().into_owned();
        all.extend([script, "exec".into()]);
        all.extend(command.iter().map(ToString::to_string));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let output = run_within(PATIENCE, "env", &all, input)?;
        ensure!(output.status.success(), "{command:?}: {}", output.stderr);
        Ok(output.stdout)
    }

    /// Kills a part of the control plane: `api`, `etcd`.
    pub fn stop(&self, part: &str) -> Result<()> {
        ensure!(self.script.command(&["stop", part]).status()?.success(), "stopping {part}");
        Ok(())
    }

    /// Starts it again and waits for it.
    pub fn start_again(&self, part: &str) -> Result<()> {
        ensure!(self.script.command(&["start", part]).status()?.success(), "starting {part}");
        Ok(())
    }
}

/// Tests that take the API server away exclude all others.
static IN_USE: RwLock<()> = RwLock::new(());

#[derive(Debug)]
enum Use {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// A Kubernetes namespace of one test.
#[derive(Debug)]
pub struct Cluster {
    rig: &'static Rig,
    pub namespace: String,
    /// Of the ServiceAccount that gateways are.
    kubeconfig: PathBuf,
    _use: Use,
}

impl Cluster {
    /// Begins a test: in the rig's network from now on.
    pub fn begin(name: &str) -> Option<Self> {
        let rig = Rig::shared()?;
        let guard = IN_USE.read().unwrap_or_else(PoisonError::into_inner);
        Some(Self::new(rig, name, Use::Shared { _guard: guard }))
    }

    /// The same with the API server for oneself.
    pub fn alone(name: &str) -> Option<Self> {
        let rig = Rig::shared()?;
        let guard = IN_USE.write().unwrap_or_else(PoisonError::into_inner);
        Some(Self::new(rig, name, Use::Alone { _guard: guard }))
    }

    fn new(rig: &'static Rig, name: &str, r#use: Use) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        rig.enter().expect("the rig has a network");
        let namespace = format!("{name}-{}", NUMBER.fetch_add(1, Relaxed));
        let kubeconfig = rig.state.join(format!("{namespace}.kubeconfig"));
        let cluster = Self { rig, namespace, kubeconfig, _use: r#use };
        let namespace = json!({"metadata": {"name": cluster.namespace}});
        cluster.create("/api/v1/namespaces", &namespace);
        cluster.grant("scope: {singleNamespace: true}");
        cluster.write_kubeconfig(&cluster.kubeconfig, &cluster.token()).expect("the rig has one");
        cluster
    }

    /// Gives gateways the rights that the chart gives them with these values.
    pub fn grant(&self, values: &str) {
        let files = ["templates/serviceaccount.yaml", "templates/rbac.yaml"];
        let only = files.map(|file| ["--show-only", file]).concat();
        let rights = helm::render(&self.namespace, values, &only);
        self.apply(&rights.unwrap_or_else(|error| panic!("{error}")));
    }

    /// With a token of a ServiceAccount, in a file beside it as Pods have it.
    fn write_kubeconfig(&self, path: &Path, token: &str) -> Result<()> {
        let file = PathBuf::from(format!("{}.token", path.display()));
        fs::write(&file, token)?;
        let admin = fs::read_to_string(self.rig.state.join("kubeconfig"))?;
        let admin_token = format!("token: {ADMIN_TOKEN}");
        let user = admin.replace(&admin_token, &format!("tokenFile: {file:?}"));
        Ok(fs::write(path, user)?)
    }

    /// A new token of the ServiceAccount that gateways are.
    pub fn token(&self) -> String {
        self.token_of(&self.namespace, &format!("{}-ringway", self.namespace))
    }

    /// Puts a new one where gateways read theirs.
    pub fn renew_token(&self) {
        let file = format!("{}.token", self.kubeconfig.display());
        fs::write(file, self.token()).expect("the rig has a folder");
    }

    fn token_of(&self, namespace: &str, account: &str) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let token = self.create(&path, &json!({"spec": {"expirationSeconds": 3600}}));
        token["status"]["token"].as_str().expect("a token").to_owned()
    }

    pub fn rig(&self) -> &'static Rig {
        self.rig
    }

    /// How a gateway is started that sees this namespace only.
    pub fn options(&self) -> Options {
        let env = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Options {
            kubeconfig: Some(self.kubeconfig.clone()),
            env: vec![
                env("AMBASSADOR_NAMESPACE", &self.namespace),
                env("AMBASSADOR_SINGLE_NAMESPACE", "true"),
            ],
            args: vec!["--access-log=off".into()],
            ..Options::default()
        }
    }

    /// A folder of this name, for files of a test.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.rig.state.join(format!("{}-{name}", self.namespace));
        fs::create_dir_all(&folder).expect("the rig has a folder");
        folder
    }

    /// The same where the API server is asked without TLS, at this address.
    pub fn options_at(&self, server: SocketAddr) -> Options {
        let kubeconfig = fs::read_to_string(&self.kubeconfig).expect("it was written");
        let there = kubeconfig.replace("https://127.0.0.1:6443", &format!("http://{server}"));
        let path = self.rig.state.join(format!("{}-{}", self.namespace, server.ip()));
        fs::write(&path, there).expect("the rig has a folder");
        Options { kubeconfig: Some(path), ..self.options() }
    }

    /// How one is started that sees all namespaces, and of them what has this namespace's name as
    /// its `ambassador_id`: from now on gateways have the rights for that, instead.
    pub fn options_for_all(&self) -> Options {
        self.grant("{}");
        let mut options = self.options();
        options.env.retain(|(name, _)| name != "AMBASSADOR_SINGLE_NAMESPACE");
        options.env.push(("AMBASSADOR_ID".into(), self.namespace.clone()));
        options
    }

    /// How one is started that an installed release has made the ServiceAccount for: it sees all
    /// namespaces, and what every one of them has for the default `ambassador_id`.
    pub fn options_of_release(&self, namespace: &str, account: &str) -> Options {
        let kubeconfig = self.kubeconfig.with_extension(account);
        self.write_kubeconfig(&kubeconfig, &self.token_of(namespace, account)).expect("a folder");
        let env = vec![("AMBASSADOR_NAMESPACE".to_owned(), namespace.to_owned())];
        Options { kubeconfig: Some(kubeconfig), env, ..self.options() }
    }

    /// Starts such a gateway and waits until it is ready.
    pub fn gateway(&self) -> Gateway {
        Gateway::start("", &self.options()).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Applies manifests.
    #[track_caller]
    pub fn apply(&self, manifests: &str) {
        let arguments =
            ["-n", &self.namespace, "apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.rig.kubectl(&arguments, manifests).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Deletes what manifests name.
    #[track_caller]
    pub fn delete(&self, manifests: &str) {
        let arguments = ["-n", &self.namespace, "delete", "--wait=false", "-f", "-"];
        self.rig.kubectl(&arguments, manifests).unwrap_or_else(|error| panic!("{error:#}"));
    }

    #[track_caller]
    fn ask(&self, request: &str, method: &str) -> Response {
        let mut client = Client::connect(PROXY, PATIENCE).expect("the proxy is there");
        client.send(request.as_bytes()).expect("it reads");
        client.response(method).expect("it answers")
    }

    /// Deletes all objects of Emissary's kinds, in every namespace: for who has the API server alone.
    #[track_caller]
    pub fn clear(&self) {
        let namespaces = self.get("/api/v1/namespaces").unwrap_or_default();
        for namespace in namespaces["items"].as_array().into_iter().flatten() {
            let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
            for definition in DEFINITIONS {
                let kinds = definition.plural;
                let path = format!("/apis/getambassador.io/v3alpha1/namespaces/{name}/{kinds}");
                let answer = self.ask(&request("DELETE", &path, "application/json", ""), "DELETE");
                assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            }
        }
    }

    /// Creates an object; the path is its collection's.
    #[track_caller]
    pub fn create(&self, path: &str, object: &Value) -> Value {
        let answer =
            self.ask(&request("POST", path, "application/json", &object.to_string()), "POST");
        assert_eq!(answer.status, 201, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// An object, if it is there.
    #[track_caller]
    pub fn get(&self, path: &str) -> Option<Value> {
        let answer = self.ask(&request("GET", path, "application/json", ""), "GET");
        match answer.status {
            404 => None,
            200 => Some(serde_json::from_slice(&answer.body).expect("JSON")),
            status => panic!("{path}: {status} {}", answer.text()),
        }
    }

    /// Merges into an object.
    #[track_caller]
    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        let kind = "application/merge-patch+json";
        let answer = self.ask(&request("PATCH", path, kind, &patch.to_string()), "PATCH");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// The path of one of this namespace's objects of a kind of Emissary's.
    pub fn path(&self, plural: &str, name: &str) -> String {
        self.path_in("v3alpha1", plural, name)
    }

    /// The same in another version.
    pub fn path_in(&self, version: &str, plural: &str, name: &str) -> String {
        let namespace = &self.namespace;
        format!("/apis/getambassador.io/{version}/namespaces/{namespace}/{plural}/{name}")
    }
}

/// The administrator's, as `rig.sh` has it.
pub const ADMIN_TOKEN: &str = "admintoken";

/// A request to the API, for a connection that is kept.
pub fn request(method: &str, path: &str, content_type: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
         Accept: application/json\r\n\
         Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A connection to the API as an administrator.
pub fn api() -> Client {
    Client::connect(PROXY, PATIENCE).expect("the proxy is there")
}

/// The same without the proxy, which takes its time, too.
pub fn api_itself() -> Client {
    let config = ClientOptions::default().config().expect("a configuration");
    let to = SocketAddr::from(([127, 0, 0, 1], 6443));
    Client::connect_tls(to, PATIENCE, b"", config, None).expect("the API server is there")
}

/// An address that an EndpointSlice may have, which loopback is not.
pub fn pod_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    Ipv4Addr::new(10, 200, 0, NEXT.fetch_add(1, Relaxed))
}

/// Waits until a gateway answers a path with this status.
#[track_caller]
pub fn await_status(gateway: &Gateway, port: u16, path: &str, status: u16) {
    let what = format!("{path} is answered with {status}");
    wait_until(&what, PATIENCE, || {
        gateway.get(port, path, "a").is_ok_and(|answer| answer.status == status)
    });
}
