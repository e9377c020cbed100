// SPDX-License-Identifier: Apache-2.0
//! What the user typed, and what the environment says: flag over `RINGWAY_<FLAG>` over Emissary's
//! variable over default.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use ringway_core::limits;
use ringway_core::snapshot::{ServiceResolution, Settings};
use ringway_sync::admin;
use ringway_sync::log::{Level, Style};
use ringway_sync::watch::kube;
use ringway_sync::webhook::Webhook;

/// An API gateway that serves Emissary-ingress manifests with a data plane of its own.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Serve the objects of a cluster, or a folder of manifests; changes are served as they happen
    Run(Box<Run>),
    /// Serve sample manifests in front of built-in back ends, to try things out
    Demo(Demo),
    /// Say what is wrong with a folder of manifests (exit status 0: nothing, 1: something is
    /// refused, 2: it cannot be read)
    Check(Check),
    /// Say which route a request would take, and why not the others
    Explain(Explain),
    /// Say how a running gateway is
    Status(Ask),
    /// List what a running gateway serves
    Get(Get),
    /// Make a running gateway drain: it is not ready any more, goes on accepting for its shutdown
    /// delay, finishes what is under way, and waits for SIGTERM. For a preStop hook; waits until it
    /// is done
    Drain(Drain),
    /// Say whether this node, and the cluster if there is one, give a gateway what it needs (exit
    /// status 1: something is missing)
    Doctor(Doctor),
    /// Print the CustomResourceDefinitions of all kinds that are read, for `kubectl apply
    /// --server-side -f -`
    Crds(Crds),
}

/// What a listing is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    Routes,
    Hosts,
    Listeners,
    Clusters,
    Endpoints,
    Problems,
}

/// Whom to ask, and how to say it.
#[derive(Debug, clap::Args)]
pub(crate) struct Ask {
    /// Admin port of the running gateway
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8877",
        env = "RINGWAY_ADMIN"
    )]
    pub(crate) admin: String,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    #[arg(value_enum)]
    pub(crate) what: What,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Kubeconfig of the cluster, best with the gateway's own rights [default: as `ringway run`
    /// finds it]
    #[arg(long, value_name = "FILE", env = "RINGWAY_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", env = "RINGWAY_CONTEXT")]
    pub(crate) context: Option<String>,
    #[command(flatten)]
    pub(crate) published: Published,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    /// Admin port of the running gateway [default: that of the gateway in this container]
    #[arg(long, value_name = "URL", env = "RINGWAY_ADMIN")]
    pub(crate) admin: Option<String>,
    /// Begin it, and do not wait
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Folder of manifests (.yaml, .yml, .json; subfolders included), or a single file [default:
    /// the cluster that it runs in, or that the kubeconfig names]
    #[arg(short, long = "file", value_name = "DIR", env = "RINGWAY_FILE")]
    pub(crate) folder: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) meaning: Meaning,
    #[command(flatten)]
    pub(crate) process: Process,
    /// Take the listening sockets over from the process that waits at this unix socket, which
    /// drains once this one serves; then wait there for a successor
    #[arg(long, value_name = "PATH", env = "RINGWAY_HANDOVER")]
    pub(crate) handover: Option<PathBuf>,
    /// Once a successor serves and what was under way is done, wait for SIGTERM instead of ending:
    /// for whoever would start an ended process again
    #[arg(long, env = "RINGWAY_STAY", value_parser = BoolishValueParser::new(),
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", action = clap::ArgAction::Set, hide_possible_values = true)]
    pub(crate) stay: bool,
    #[command(flatten)]
    pub(crate) sides: Sides,
    #[command(flatten)]
    pub(crate) conversion: Conversion,
    /// Listen beside whoever listens on the same ports already; needs net.ipv4.tcp_migrate_req=1
    #[arg(long, env = "RINGWAY_SHARE_PORTS", value_parser = BoolishValueParser::new(),
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", action = clap::ArgAction::Set, hide_possible_values = true)]
    pub(crate) share_ports: bool,
    /// Say in the body of a 404 that no route took the request, and how to find out why
    #[arg(long, env = "RINGWAY_HELPFUL_404", value_parser = BoolishValueParser::new(),
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", action = clap::ArgAction::Set, hide_possible_values = true)]
    pub(crate) helpful_404: bool,
}

/// Emissary's other ports. As a rule they are where the admin port is: the second and third on
/// loopback in any case.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Sides {
    /// Address for `/snapshot-external`: all objects, without secrets; or off [default: port 8005
    /// beside the admin port, unless AMBASSADOR_DISABLE_SNAPSHOT_SERVER is set]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = side, env = "RINGWAY_SNAPSHOT_ADDR")]
    pub(crate) snapshot_addr: Option<Side>,
    /// Address for `/ready` alone; or off [default: port 8006 of loopback, or as
    /// AMBASSADOR_READY_PORT says]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = side, env = "RINGWAY_READY_ADDR")]
    pub(crate) ready_addr: Option<Side>,
    /// Address for scripts that ask Envoy's admin port for statistics or to drain; only loopback is
    /// answered; or off [default: port 8001 of loopback]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = side, env = "RINGWAY_ENVOY_ADMIN_ADDR")]
    pub(crate) envoy_admin_addr: Option<Side>,
}

/// An address, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Side(pub(crate) Option<SocketAddr>);

fn side(text: &str) -> Result<Side, String> {
    match text {
        "off" => Ok(Side(None)),
        _ => text
            .parse()
            .map(|at| Side(Some(at)))
            .map_err(|_| "write it as 127.0.0.1:8001, or off".into()),
    }
}

impl Sides {
    /// Where they are beside this admin port.
    pub(crate) fn beside(&self, admin: SocketAddr, environment: &Environment) -> admin::Sides {
        // An admin port that others are to reach is no reason to let them reach these.
        let loopback =
            if admin.ip().is_loopback() { admin.ip() } else { Ipv4Addr::LOCALHOST.into() };
        let or = |side: Option<Side>, otherwise: Option<SocketAddr>| {
            side.map_or(otherwise, |Side(address)| address)
        };
        let snapshot = environment.snapshot.then(|| SocketAddr::new(admin.ip(), 8005));
        let ready = SocketAddr::new(loopback, environment.ready_port);
        let envoy = SocketAddr::new(loopback, 8001);
        admin::Sides {
            snapshot: or(self.snapshot_addr, snapshot),
            ready: or(self.ready_addr, Some(ready)),
            envoy: or(self.envoy_admin_addr, Some(envoy)),
        }
    }
}

/// The webhook that converts objects between versions of getambassador.io, where definitions ask for
/// one, as Emissary's do.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Conversion {
    /// Convert objects for the API server, with the certificate in this folder: tls.crt and tls.key,
    /// which may be renewed at any time [default: nothing is converted]
    #[arg(long, value_name = "FOLDER", env = "RINGWAY_CONVERSION_CERTIFICATE")]
    conversion_certificate: Option<PathBuf>,
    /// Address where the API server asks for it
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:9443",
        env = "RINGWAY_CONVERSION_ADDR"
    )]
    conversion_addr: SocketAddr,
}

impl Conversion {
    pub(crate) fn webhook(self) -> Option<Webhook> {
        let address = self.conversion_addr;
        self.conversion_certificate.map(|certificate| Webhook { address, certificate })
    }
}

/// Which cluster.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Cluster {
    /// Kubeconfig of the cluster [default: $KUBECONFIG, else the cluster that it runs in, else
    /// ~/.kube/config]
    #[arg(long, value_name = "FILE", conflicts_with = "folder", env = "RINGWAY_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", conflicts_with = "folder", env = "RINGWAY_CONTEXT")]
    pub(crate) context: Option<String>,
    /// Write statuses and events, by one of the gateways with this AMBASSADOR_ID [default: true,
    /// or as AMBASSADOR_UPDATE_MAPPING_STATUS says]
    #[arg(long, env = "RINGWAY_UPDATE_STATUS", value_parser = BoolishValueParser::new(),
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          action = clap::ArgAction::Set, hide_possible_values = true)]
    pub(crate) update_status: Option<bool>,
    /// Folder for the last good version of every object, keys included: a restart while the API
    /// server is away serves from it
    #[arg(long, value_name = "DIR", conflicts_with = "folder", env = "RINGWAY_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) published: Published,
}

/// Which addresses are published.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Published {
    /// Service whose addresses Ingresses' statuses name [default: the one in the gateway's
    /// namespace with the label app.kubernetes.io/component: ambassador-service]
    #[arg(long, value_name = "NAMESPACE/NAME", env = "RINGWAY_PUBLISH_SERVICE")]
    pub(crate) publish_service: Option<String>,
    /// The addresses themselves, IP or host name, separated by commas
    #[arg(
        long,
        value_name = "ADDRESS",
        value_delimiter = ',',
        env = "RINGWAY_PUBLISH_STATUS_ADDRESS",
        conflicts_with = "publish_service"
    )]
    pub(crate) publish_status_address: Vec<String>,
    /// Those of the nodes that the ready Pods with these labels run on, in the gateway's namespace
    #[arg(
        long,
        value_name = "LABELS",
        env = "RINGWAY_PUBLISH_NODES_OF",
        conflicts_with_all = ["publish_service", "publish_status_address"]
    )]
    pub(crate) publish_nodes_of: Option<String>,
}

impl From<Published> for kube::Publish {
    fn from(published: Published) -> Self {
        Self {
            addresses: published.publish_status_address,
            service: published.publish_service,
            nodes_of: published.publish_nodes_of,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Folder to write the sample manifests to; files that are there already are left alone
    #[arg(long, value_name = "DIR", default_value = "ringway-demo", env = "RINGWAY_DIR")]
    pub(crate) dir: PathBuf,
    /// Port that the gateway listens on
    #[arg(long, value_name = "PORT", default_value_t = 8080, env = "RINGWAY_PORT")]
    pub(crate) port: u16,
    /// First of two ports on loopback for the sample back ends
    #[arg(long, value_name = "PORT", default_value_t = 8091, env = "RINGWAY_BACKEND_PORT",
          value_parser = clap::value_parser!(u16).range(1..65535))]
    pub(crate) backend_port: u16,
    #[command(flatten)]
    pub(crate) process: Process,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Folder of manifests (.yaml, .yml, .json; subfolders included), or a single file
    #[arg(short, long = "file", value_name = "DIR", env = "RINGWAY_FILE")]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) meaning: Meaning,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Exit with 1 for warnings too
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// Method of the request; `TCP` or `TLS` asks about a connection alone
    pub(crate) method: String,
    /// URL of the request, as `http://shop.example/cart?x=1`; of a connection `db.example:5432`
    pub(crate) url: String,
    /// A header of the request, as `x-user: a`; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Compile this folder and ask it, instead of a running gateway
    #[arg(short, long = "file", value_name = "DIR", conflicts_with = "admin")]
    pub(crate) folder: Option<PathBuf>,
    /// Port of the listener that takes the request (default: the URL's port if a listener has it,
    /// else the first listener)
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    #[command(flatten)]
    pub(crate) meaning: Meaning,
    #[command(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Crds {
    /// Print commands instead that free installed definitions from a conversion webhook that is
    /// gone, for `sh`
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print commands instead that make the API server ask this Service to convert objects: a
    /// gateway with --conversion-certificate
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = service, requires = "ca",
          conflicts_with = "repair")]
    pub(crate) webhook: Option<(String, String)>,
    /// Who signed the certificate that the Service shows, in PEM
    #[arg(long, value_name = "FILE", requires = "webhook")]
    pub(crate) ca: Option<PathBuf>,
}

fn service(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("write it as namespace/name".into()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

/// What changes the meaning of manifests.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Meaning {
    /// Without any Listener: listen on 8080 (and 8443) as Emissary's quick start does
    #[arg(long, env = "RINGWAY_DEFAULT_LISTENERS", value_parser = BoolishValueParser::new(),
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", action = clap::ArgAction::Set, hide_possible_values = true)]
    pub(crate) default_listeners: bool,
    /// How a Service is reached that no resolver is named for: its endpoints directly, or its
    /// name by DNS (Emissary's way)
    #[arg(long, value_enum, default_value_t = Resolution::Endpoints,
          env = "RINGWAY_SERVICE_RESOLUTION")]
    pub(crate) service_resolution: Resolution,
    /// Zone that the gateway runs in: `least_request` prefers endpoints of it where all else is
    /// equal
    #[arg(long, value_name = "ZONE", env = "NODE_ZONE")]
    pub(crate) zone: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resolution {
    Endpoints,
    Dns,
}

/// How the process runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Process {
    /// Address of the admin port: health, metrics, diagnostics [default: 127.0.0.1:8877]
    #[arg(long, value_name = "ADDRESS:PORT", env = "RINGWAY_ADMIN_ADDR")]
    pub(crate) admin_addr: Option<SocketAddr>,
    /// Worker threads [default: one per CPU that the process may use]
    #[arg(long, value_name = "N", env = "RINGWAY_WORKERS")]
    pub(crate) workers: Option<usize>,
    /// I/O driver of the workers; auto is io_uring where the kernel allows it
    #[arg(long, value_enum, default_value_t = IoBackend::Auto, env = "RINGWAY_IO_BACKEND")]
    pub(crate) io_backend: IoBackend,
    /// Access log on standard output [default: text, or as the Module says]
    #[arg(long, value_enum, value_name = "FORM", env = "RINGWAY_ACCESS_LOG")]
    pub(crate) access_log: Option<AccessLog>,
    /// Requests in flight may take this long to finish after SIGTERM, as 90s, 10m [default: 600s]
    #[arg(long, value_name = "TIME", value_parser = duration, env = "RINGWAY_DRAIN_TIME")]
    pub(crate) drain_time: Option<Duration>,
    /// Go on accepting for this long after SIGTERM, while load balancers take notice
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s",
          env = "RINGWAY_SHUTDOWN_DELAY")]
    pub(crate) shutdown_delay: Duration,
    /// Clients' connections at a time [default: as the limit of file descriptors allows]
    #[arg(long, value_name = "N", env = "RINGWAY_MAX_CONNECTIONS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: Option<u32>,
    /// Clients' connections at a time per Listener [default: 80 % of --max-connections]
    #[arg(long, value_name = "N", env = "RINGWAY_MAX_LISTENER_CONNECTIONS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_listener_connections: Option<u32>,
    /// Resident memory that must not be exceeded, as 512Mi, 2G, or off [default: the control
    /// group's limit, if there is one]
    #[arg(long, value_name = "BYTES", value_parser = bytes, env = "RINGWAY_MEMORY_LIMIT")]
    pub(crate) memory_limit: Option<u64>,
    /// Pin each worker to a CPU (--pin=false does not)
    #[arg(long, env = "RINGWAY_PIN", value_parser = BoolishValueParser::new(),
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", action = clap::ArgAction::Set, hide_possible_values = true,
          overrides_with = "no_pin")]
    pub(crate) pin: bool,
    /// Leave it to the kernel which CPU a worker runs on
    #[arg(long)]
    pub(crate) no_pin: bool,
    /// Name servers and search domains, in the form of /etc/resolv.conf
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/etc/resolv.conf",
        env = "RINGWAY_RESOLV_CONF"
    )]
    pub(crate) resolv_conf: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IoBackend {
    Auto,
    #[value(name = "io_uring", alias = "io-uring")]
    IoUring,
    Epoll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccessLog {
    Off,
    Text,
    Json,
}

/// Emissary's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) settings: Settings,
    /// `AMBASSADOR_LABEL_SELECTOR` and `AMBASSADOR_FIELD_SELECTOR`.
    pub(crate) selectors: (Option<String>, Option<String>),
    /// `AMBASSADOR_UPDATE_MAPPING_STATUS`; Emissary's default is not to.
    pub(crate) update_status: bool,
    pub(crate) admin: SocketAddr,
    /// Not with `AMBASSADOR_DISABLE_SNAPSHOT_SERVER`.
    pub(crate) snapshot: bool,
    pub(crate) ready_port: u16,
    pub(crate) workers: Option<usize>,
    pub(crate) drain_time: Duration,
    pub(crate) log: (Style, Level),
    /// What was set but has no effect, or could not be read: one line each.
    pub(crate) remarks: Vec<String>,
}

/// Variables of Emissary that need nothing here.
const WITHOUT_EFFECT: [&str; 13] = [
    "AGENT_CONFIG_RESOURCE_NAME",
    "AMBASSADOR_AMBEX_NO_RATELIMIT",
    "AMBASSADOR_AMBEX_SNAPSHOT_COUNT",
    "AMBASSADOR_CONFIG_BASE_DIR",
    "AMBASSADOR_DIAGD_BIND_PORT",
    "AMBASSADOR_EDS_BYPASS",
    "AMBASSADOR_ENVOY_BASE_ID",
    "AMBASSADOR_FAST_RECONFIGURE",
    "AMBASSADOR_FORCE_SECRET_VALIDATION",
    "AMBASSADOR_READY_LOG",
    "AMBASSADOR_RECONFIG_MAX_DELAY",
    "AMBASSADOR_SNAPSHOT_COUNT",
    "SCOUT_DISABLE",
];

/// The admin port of a standalone gateway.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8877);

impl Environment {
    /// Reads the variables through `get`.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let mut remarks = Vec::new();
        for name in WITHOUT_EFFECT {
            if get(name).is_some() {
                remarks.push(format!("{name} has no effect: nothing here needs it"));
            }
        }
        let mut settings = Settings::default();
        if let Some(id) = get("AMBASSADOR_ID") {
            settings.ambassador_id = id.into();
        }
        if let Some(namespace) = get("AMBASSADOR_NAMESPACE") {
            settings.namespace = namespace.into();
        }
        settings.single_namespace = get("AMBASSADOR_SINGLE_NAMESPACE").is_some_and(truthy);
        settings.strict_selectors = !get("DISABLE_STRICT_LABEL_SELECTORS").is_some_and(truthy);
        let bind = "AMBASSADOR_ENVOY_BIND_ADDRESS";
        if let Some(address) = parsed(bind, get(bind), "0.0.0.0", &mut remarks) {
            settings.bind_address = address;
        }
        let name = "AMBASSADOR_HEALTHCHECK_BIND_ADDRESS";
        let admin_ip = parsed(name, get(name), "127.0.0.1", &mut remarks);
        let name = "AMBASSADOR_HEALTHCHECK_BIND_PORT";
        let admin_port = parsed(name, get(name), "8877", &mut remarks);
        let name = "AMBASSADOR_READY_PORT";
        let ready_port = parsed(name, get(name), "8006", &mut remarks);
        let name = "ENVOY_CONCURRENCY";
        let workers = parsed(name, get(name), "one per CPU", &mut remarks);
        let name = "AMBASSADOR_DRAIN_TIME";
        let drain_s = parsed(name, get(name), "600", &mut remarks);
        let level = get("AES_LOG_LEVEL").map(|name| (Level::parse(&name), name));
        if let Some((None, name)) = &level {
            remarks.push(format!("AES_LOG_LEVEL={name} is not a log level: using info"));
        }
        let json = get("AMBASSADOR_JSON_LOGGING").is_some_and(truthy);
        let debug = get("AMBASSADOR_DEBUG").is_some();
        let default_level = if debug { Level::Debug } else { Level::Info };
        Self {
            settings,
            update_status: get("AMBASSADOR_UPDATE_MAPPING_STATUS").is_none_or(truthy),
            selectors: (get("AMBASSADOR_LABEL_SELECTOR"), get("AMBASSADOR_FIELD_SELECTOR")),
            admin: SocketAddr::new(
                admin_ip.unwrap_or(ADMIN.ip()),
                admin_port.unwrap_or(ADMIN.port()),
            ),
            snapshot: !get("AMBASSADOR_DISABLE_SNAPSHOT_SERVER").is_some_and(truthy),
            ready_port: ready_port.unwrap_or(8006),
            workers,
            drain_time: drain_s.map_or(limits::DRAIN_TIME, Duration::from_secs),
            log: (
                if json { Style::Json } else { Style::Text },
                level.and_then(|(level, _)| level).unwrap_or(default_level),
            ),
            remarks,
        }
    }
}

/// A variable's value; what cannot be read is remarked on.
fn parsed<T: std::str::FromStr>(
    name: &str,
    text: Option<String>,
    default: &str,
    remarks: &mut Vec<String>,
) -> Option<T> {
    let text = text?;
    let value = text.trim().parse().ok();
    if value.is_none() {
        remarks.push(format!("{name}={text} cannot be read: using {default}"));
    }
    value
}

fn truthy(text: String) -> bool {
    !matches!(text.to_ascii_lowercase().as_str(), "0" | "f" | "false" | "n" | "no" | "off")
}

impl Meaning {
    /// What the manifests mean under these flags and that environment.
    pub(crate) fn settings(&self, environment: &Environment) -> Settings {
        let mut settings = environment.settings.clone();
        settings.default_listeners = self.default_listeners;
        settings.service_resolution = match self.service_resolution {
            Resolution::Endpoints => ServiceResolution::Endpoints,
            Resolution::Dns => ServiceResolution::Dns,
        };
        settings.zone = self.zone.as_deref().filter(|zone| !zone.is_empty()).map(Into::into);
        settings
    }
}

/// `500ms`, `10s`, `5m`, `1h`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "write it as 500ms, 10s, 5m or 1h".to_owned())?;
    let ms = match &text[digits.len()..] {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        unit => return Err(format!("unknown unit `{unit}`: use ms, s, m or h")),
    };
    ms.map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}

/// `512Mi`, `2G`: a whole number with a suffix of Kubernetes quantities, or without; `off` is 0.
fn bytes(text: &str) -> Result<u64, String> {
    if text == "off" {
        return Ok(0);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let how = || "write it as 512Mi, 2G, 1000000 or off".to_owned();
    let number: u64 = digits.parse().map_err(|_| how())?;
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "k" => 1000,
        "M" => 1000 * 1000,
        "G" => 1000 * 1000 * 1000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        unit => return Err(format!("unknown suffix `{unit}`: use k, M, G, Ki, Mi or Gi")),
    };
    number.checked_mul(unit).filter(|n| *n > 0).ok_or_else(how)
}

#[cfg(test)]
mod tests;
