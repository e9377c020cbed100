// SPDX-License-Identifier: Apache-2.0
//! From a cluster to a connection: a pooled one, or a new one to the next endpoint.

pub(crate) mod h2;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use monoio::net::TcpStream;
use ringway_core::ir::{Transport, UpstreamProtocol};
use ringway_core::limits::{CONNECT_ATTEMPTS_MAX, CONNECT_TIMEOUT};
use ringway_core::observe::metric::ClusterCell;
use ringway_core::table::Cluster;
use ringway_core::tls;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConnection, Connection, Error, HandshakeKind};

use self::h2::{Found, Lease};
use crate::net::socket::Direction;
use crate::net::stream::Stream;
use crate::net::tls::Failure;
use crate::worker::Worker;
use crate::worker::state::{
    Chosen, ClusterState, Held, OpenUpstream, PoolLimits, Preference, Upstream,
};

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoUpstream {
    /// The cluster has no endpoint.
    NoEndpoint,
    Refused,
    TimedOut,
    /// So many connections are being made that this one was not begun.
    Overflow,
    /// The client's deadline passed before there was one.
    GivenUp,
    /// There is one, which can carry no other protocol.
    NoUpgrade,
    /// TLS came to nothing, for this reason in Envoy's words.
    Tls(&'static str),
}

impl NoUpstream {
    /// Whether another endpoint is worth a try: a time-out has used up the client's patience.
    fn is_quick(self) -> bool {
        !matches!(self, Self::TimedOut | Self::GivenUp | Self::Overflow)
    }
}

/// Which connection a request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Any: the request is repeated should its connection have ended.
    Any,
    /// A new one, or one of which a look says that it is open.
    Open,
    /// A new one.
    New,
    /// A new one, for bytes of whatever protocol.
    Tunnel,
}

/// A connection to one of the cluster's endpoints. Nothing has been written on it for this
/// request, so trying the next endpoint (or the same again) repeats nothing. Endpoints that do not
/// answer are noted in the preference. `deadline`: when the client gives up, in the worker's
/// milliseconds.
pub(crate) async fn acquire(
    worker: &Rc<Worker>,
    cluster: &Cluster,
    state: &ClusterState,
    preference: &mut Preference,
    wanted: Wanted,
    deadline: Option<u64>,
) -> Result<Upstream, NoUpstream> {
    state.set_limits(pool_limits(cluster));
    let mut failure = NoUpstream::NoEndpoint;
    for _ in 0..CONNECT_ATTEMPTS_MAX {
        let Some(mut endpoint) = state.pick(preference, worker.random()) else {
            worker.slab.cluster_add(cluster.slot, ClusterCell::NoEndpoint, 1);
            return Err(NoUpstream::NoEndpoint);
        };
        let address = endpoint.address;
        let protocol = match wanted {
            Wanted::Tunnel => UpstreamProtocol::Http1,
            _ => cluster.spec.protocol,
        };
        if protocol != UpstreamProtocol::Http2 && matches!(wanted, Wanted::Any | Wanted::Open) {
            let transport = &cluster.spec.transport;
            let look = wanted == Wanted::Open;
            // Old enough or not: what its request looked at will do.
            let now = worker.timers.recent();
            endpoint = match endpoint.take(now, state.limits(), transport, look) {
                Ok(upstream) => return Ok(upstream),
                Err(endpoint) => endpoint,
            };
        }
        let made = match protocol {
            UpstreamProtocol::Http1 => {
                let dialled = Box::pin(dial(worker, cluster, state, address, deadline)).await;
                dialled.map(|dialled| alone(worker, dialled))
            }
            UpstreamProtocol::Http2 | UpstreamProtocol::Negotiated => {
                share(worker, cluster, state, &endpoint, wanted, deadline).await
            }
        };
        match made {
            Ok((stream, reused, held)) => return Ok(Upstream { stream, endpoint, reused, held }),
            Err(error) => failure = error,
        }
        preference.tried.push(address);
        if !failure.is_quick() {
            break;
        }
    }
    Err(failure)
}

impl Upstream {
    /// The same for a request that asks for another protocol, if such can be had on it.
    pub(crate) async fn for_upgrade(self, cluster: &Cluster) -> Result<Self, NoUpstream> {
        let Held::Shared { stream } = &self.held else { return Ok(self) };
        match monoio::time::timeout(patience(cluster), stream.takes_tunnels()).await {
            Ok(true) => Ok(self),
            Ok(false) => Err(NoUpstream::NoUpgrade),
            Err(_) => Err(NoUpstream::TimedOut),
        }
    }
}

/// A connection, whether it has served a request before, and how a request has it.
type Made = (Stream, bool, Held);

fn alone(worker: &Worker, (stream, tls, open): Dialled) -> Made {
    (stream, false, Held::Alone { born: worker.timers.now(), open, tls })
}

/// A stream on a connection that others may use at the same time; where the endpoint chooses
/// HTTP/1.1, a connection.
async fn share(
    worker: &Rc<Worker>,
    cluster: &Cluster,
    state: &ClusterState,
    endpoint: &Chosen,
    wanted: Wanted,
    deadline: Option<u64>,
) -> Result<Made, NoUpstream> {
    let pool = &endpoint.shared;
    let tls = match &cluster.spec.transport {
        Transport::Tls(tls) => tls.as_ref(),
        Transport::Cleartext => None,
    };
    let now = worker.timers.now();
    let look = wanted == Wanted::Open;
    let found = pool.find(now, state.limits(), tls, look);
    let found = match deadline {
        None => found.await,
        // Whoever waits for a connection has nothing in flight.
        Some(at) => match monoio::time::timeout(left(at, now), found).await {
            Ok(found) => found,
            Err(_) => Err(NoUpstream::GivenUp),
        },
    };
    let shared = |lease: Lease| -> Made {
        (lease.stream(worker), lease.is_reused(), Held::Shared { stream: lease })
    };
    let connecting = match found? {
        Found::Place(lease) => return Ok(shared(lease)),
        Found::None(connecting) => connecting,
    };
    let dialled = Box::pin(dial(worker, cluster, state, endpoint.address, deadline)).await;
    let made = dialled.map(|(stream, tls, open)| {
        let chosen = cluster.spec.protocol != UpstreamProtocol::Negotiated;
        let is_h2 = chosen || stream.is_alpn(b"h2");
        pool.negotiated(is_h2);
        match is_h2 {
            true => shared(pool.add(worker, stream, tls, open)),
            false => alone(worker, (stream, tls, open)),
        }
    });
    if let Some(connecting) = connecting {
        connecting.end(made.as_ref().map(|_| ()).map_err(|error| *error));
    }
    made
}

/// What connecting comes to.
type Dialled = (Stream, Option<Arc<tls::Client>>, OpenUpstream);

fn left(until: u64, now: u64) -> Duration {
    Duration::from_millis(until.saturating_sub(now))
}

/// How long connecting may take.
fn patience(cluster: &Cluster) -> Duration {
    cluster.spec.connect_timeout.unwrap_or(CONNECT_TIMEOUT)
}

/// Makes a connection, with TLS where the cluster has it. Boxed where it is called: a request that
/// finds a connection has no room for making one.
async fn dial(
    worker: &Rc<Worker>,
    cluster: &Cluster,
    state: &ClusterState,
    address: SocketAddr,
    deadline: Option<u64>,
) -> Result<Dialled, NoUpstream> {
    let open = worker.slab.cluster(cluster.slot, ClusterCell::ConnectionsActive);
    let _making = state.make(open).ok_or(NoUpstream::Overflow)?;
    worker.turns.dial().await;
    let started = worker.timers.now();
    let patience = patience(cluster);
    let patience = deadline.map_or(patience, |at| patience.min(left(at, started)));
    let given_up = || deadline.is_some_and(|at| worker.timers.now() >= at);
    // A connect may be dropped: no bytes are on their way yet.
    let connected = monoio::time::timeout(patience, TcpStream::connect_addr(address)).await;
    let slab = &worker.slab;
    match connected {
        Ok(Ok(tcp)) => {
            if let Some(keepalive) = &cluster.spec.keepalive {
                let seconds = |s: Option<u32>| s.map(|s| Duration::from_secs(s.into()));
                let _ = tcp.set_tcp_keepalive(
                    seconds(keepalive.idle_s),
                    seconds(keepalive.interval_s),
                    keepalive.probes,
                );
            }
            let _ = tcp.set_nodelay(true);
            let mut stream = Stream::new(tcp, &worker.timers);
            let open = OpenUpstream::new(slab.clone(), cluster.slot);
            let tls = match &cluster.spec.transport {
                Transport::Tls(Some(client)) => {
                    worker.timers.arm(&stream.timer, started, patience, Direction::Both);
                    match handshake(worker, cluster, client, &mut stream, address).await {
                        Err(NoUpstream::TimedOut) if given_up() => return Err(NoUpstream::GivenUp),
                        shaken => shaken?,
                    }
                    stream.timer.disarm();
                    Some(client.clone())
                }
                _ => None,
            };
            Ok((stream, tls, open))
        }
        Ok(Err(_)) => {
            slab.cluster_add(cluster.slot, ClusterCell::ConnectFailures, 1);
            Err(NoUpstream::Refused)
        }
        Err(_) if given_up() => Err(NoUpstream::GivenUp),
        Err(_) => {
            slab.cluster_add(cluster.slot, ClusterCell::ConnectFailures, 1);
            slab.cluster_add(cluster.slot, ClusterCell::ConnectTimeouts, 1);
            Err(NoUpstream::TimedOut)
        }
    }
}

/// TLS on a connection to an upstream; its timer is the deadline.
async fn handshake(
    worker: &Worker,
    cluster: &Cluster,
    client: &tls::Client,
    stream: &mut Stream,
    address: SocketAddr,
) -> Result<(), NoUpstream> {
    let count = |cell| worker.slab.cluster_add(cluster.slot, cell, 1);
    let name = server_name(client, &cluster.spec.host, address.ip());
    let started = match ClientConnection::new(client.config.clone(), name) {
        Ok(connection) => {
            // Not paced: a request waits for it.
            let connection = Connection::Client(connection);
            stream.start_tls(connection, Vec::new(), &worker.buffers, None).await
        }
        Err(error) => Err(Failure::Refused(error)),
    };
    let failure = match started {
        Ok(session) => {
            count(ClusterCell::TlsHandshakes);
            if session.inspect(|c| c.handshake_kind()) == Some(HandshakeKind::Resumed) {
                count(ClusterCell::TlsResumed);
            }
            return Ok(());
        }
        Err(failure) => failure,
    };
    count(ClusterCell::ConnectFailures);
    match failure {
        Failure::Ended if stream.timer.take_fired() => {
            count(ClusterCell::ConnectTimeouts);
            Err(NoUpstream::TimedOut)
        }
        Failure::Ended => {
            count(ClusterCell::TlsErrors);
            Err(NoUpstream::Tls(""))
        }
        Failure::Refused(error) => {
            count(match error {
                Error::InvalidCertificate(_) => ClusterCell::TlsBadCertificate,
                _ => ClusterCell::TlsErrors,
            });
            Err(NoUpstream::Tls(reason(&error)))
        }
    }
}

/// The name to ask for: the context's, else the upstream's host if it is a name. Addresses are not
/// sent (RFC 6066 §3).
fn server_name(client: &tls::Client, host: &str, address: IpAddr) -> ServerName<'static> {
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = client.spec.sni.as_deref().unwrap_or(host).to_owned();
    ServerName::try_from(name).unwrap_or_else(|_| address.into())
}

/// `%UPSTREAM_TRANSPORT_FAILURE_REASON%` as Envoy words it; the numbers are BoringSSL's.
fn reason(error: &Error) -> &'static str {
    use AlertDescription as Alert;
    match error {
        Error::InvalidCertificate(_) => {
            "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end"
        }
        Error::InvalidMessage(_) => {
            "TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end"
        }
        Error::PeerIncompatible(_) | Error::AlertReceived(Alert::ProtocolVersion) => {
            "TLS_error:|268436526:SSL routines:OPENSSL_internal:TLSV1_ALERT_PROTOCOL_VERSION:TLS_error_end"
        }
        Error::AlertReceived(Alert::HandshakeFailure) => {
            "TLS_error:|268436496:SSL routines:OPENSSL_internal:SSLV3_ALERT_HANDSHAKE_FAILURE:TLS_error_end"
        }
        Error::AlertReceived(Alert::CertificateRequired) => {
            "TLS_error:|268436572:SSL routines:OPENSSL_internal:TLSV13_ALERT_CERTIFICATE_REQUIRED:TLS_error_end"
        }
        Error::AlertReceived(Alert::UnrecognisedName) => {
            "TLS_error:|268436568:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNRECOGNIZED_NAME:TLS_error_end"
        }
        _ => {
            "TLS_error:|268435456:SSL routines:OPENSSL_internal:TLS handshake failed:TLS_error_end"
        }
    }
}

/// A cluster's pool limits, in the worker's milliseconds.
fn pool_limits(cluster: &Cluster) -> PoolLimits {
    let mut limits = PoolLimits::default();
    if let Some(idle) = cluster.spec.idle_timeout {
        limits.idle_ms = idle.as_millis() as u64;
    }
    if let Some(lifetime) = cluster.spec.max_lifetime {
        limits.lifetime_ms = lifetime.as_millis() as u64;
    }
    limits
}

#[cfg(test)]
mod tests;
