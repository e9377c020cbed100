// SPDX-License-Identifier: Apache-2.0
//! TLS of clients: the ClientHello's server name picks the chain, its configuration does the
//! handshake. Handshakes are bounded in time and number, and each end of one is counted.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use ringway_core::ir::Settings;
use ringway_core::limits::{HANDSHAKE_TIMEOUT, HANDSHAKES_MAX};
use ringway_core::name::{Generation, ListenerSlot};
use ringway_core::observe::metric::{ListenerCell, Slab};
use ringway_core::policy::client_certificate::{Certificate, Details};
use ringway_core::policy::format;
use ringway_core::table::{Listener, TcpRoute};
use ringway_core::tls;
use rustls::server::ClientHello;
use rustls::{AlertDescription, Connection, Error, HandshakeKind, ProtocolVersion};

use crate::net::socket::Direction;
use crate::net::stream::Stream;
use crate::net::timer::Timer;
use crate::net::tls::{self as wire, Failure, Pace};
use crate::worker::{ListenerState, Worker};

/// What a TLS handshake settled.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// As the client sent it, in lower case.
    pub(crate) server_name: Option<Box<str>>,
    /// What it was done with: another configuration may have replaced it since.
    termination: Arc<tls::Server>,
    version: &'static str,
    cipher: &'static str,
    /// The client's.
    pub(crate) certificate: Option<Box<Certificate>>,
    /// What upstreams are told of it, made at the first request.
    told: RefCell<Option<(Details, Rc<[u8]>)>>,
    /// The newest table by which the connection may go on.
    valid_in: Cell<Option<Generation>>,
    _open: Open,
}

/// Whether a connection's handshake does for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    /// The request's host has another TLS configuration than the name that the client asked for.
    Misdirected,
    /// The Host is gone or believes other clients now.
    Outdated,
}

impl Handshake {
    pub(crate) fn facts(&self) -> format::Tls<'_> {
        format::Tls {
            version: self.version,
            cipher: self.cipher,
            server_name: self.server_name.as_deref().unwrap_or_default(),
            certificate: self.certificate.as_deref(),
        }
    }

    /// What the upstream of a request is told of the client's certificate, where the Module wants
    /// it told.
    pub(crate) fn told(&self, settings: &Settings) -> Option<Rc<[u8]>> {
        let certificate = self.certificate.as_ref()?;
        if !settings.client_certificates.adds() {
            return None;
        }
        let details = settings.client_certificate_details;
        let mut told = self.told.borrow_mut();
        match &*told {
            Some((of, element)) if *of == details => Some(element.clone()),
            _ => {
                let by = self.termination.spec.identity.uris();
                let element: Rc<[u8]> = certificate.element(details, &by).into();
                *told = Some((details, element.clone()));
                Some(element)
            }
        }
    }

    /// Whether a request for this authority (lower case, perhaps with a port) may come on the
    /// connection. What a connection was made with is not compared: certificates are replaced
    /// under connections; what the two names mean today is.
    pub(crate) fn standing(
        &self,
        listener: &Listener,
        generation: Generation,
        authority: &[u8],
    ) -> Standing {
        let own = listener.chain(self.server_name.as_deref());
        let own = own.filter(|chain| chain.tcp.is_none()).and_then(|c| c.termination.as_ref());
        if self.valid_in.get() != Some(generation) {
            if own.is_none_or(|own| own.spec.clients != self.termination.spec.clients) {
                return Standing::Outdated;
            }
            self.valid_in.set(Some(generation));
        }
        match listener.is_misdirected(self.server_name.as_deref(), authority) {
            true => Standing::Misdirected,
            false => Standing::Good,
        }
    }
}

/// Counts a connection as one over TLS until it is dropped.
#[derive(Debug)]
struct Open {
    slab: Arc<Slab>,
    listener: ListenerSlot,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.slab.listener_sub(self.listener, ListenerCell::TlsActive, 1);
    }
}

/// Handshakes in flight of one worker.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    shares: RefCell<Vec<Share>>,
}

/// Those of one listener, the oldest first. Entries that are over, or elsewhere by now, are skipped
/// and now and then swept.
#[derive(Debug)]
struct Share {
    listener: ListenerSlot,
    in_flight: usize,
    begun: VecDeque<Rc<Pending>>,
    answered: VecDeque<Rc<Pending>>,
}

#[derive(Debug)]
struct Pending {
    listener: ListenerSlot,
    socket: Rc<Timer>,
    /// The ClientHello was whole, and got its answer.
    answered: Cell<bool>,
    over: Cell<bool>,
    shed: Cell<bool>,
}

/// So many entries that are over may lie about before they are swept.
const OVER_MAX: usize = 64;

impl Share {
    /// Ends the oldest without an answer yet, else the oldest. Clients that mean it send their
    /// hello at once, and go on after the answer sooner than it takes to answer as many others.
    fn shed(&mut self) {
        let begun = std::iter::from_fn(|| self.begun.pop_front());
        let answered = std::iter::from_fn(|| self.answered.pop_front());
        let mut waiting = begun.filter(|entry| !entry.answered.get()).chain(answered);
        if let Some(entry) = waiting.find(|entry| !entry.over.replace(true)) {
            self.in_flight -= 1;
            entry.shed.set(true);
            entry.socket.stop(Direction::Both);
        }
    }

    fn sweep(&mut self) {
        if self.begun.len() + self.answered.len() > 2 * self.in_flight + OVER_MAX {
            self.begun.retain(|entry| !entry.over.get() && !entry.answered.get());
            self.answered.retain(|entry| !entry.over.get());
        }
    }
}

impl Handshakes {
    /// Counts a handshake in; where that is one too many, one of the listener that has most makes
    /// room.
    fn begin(&self, listener: ListenerSlot, socket: &Rc<Timer>) -> Rc<Pending> {
        let mut shares = self.shares.borrow_mut();
        if shares.iter().map(|share| share.in_flight).sum::<usize>() >= HANDSHAKES_MAX
            && let Some(most) = shares.iter_mut().max_by_key(|share| share.in_flight)
        {
            most.shed();
        }
        let entry = Rc::new(Pending {
            listener,
            socket: socket.clone(),
            answered: Cell::new(false),
            over: Cell::new(false),
            shed: Cell::new(false),
        });
        let at = shares.iter().position(|share| share.listener == listener);
        let at = at.unwrap_or_else(|| {
            shares.push(Share {
                listener,
                in_flight: 0,
                begun: VecDeque::new(),
                answered: VecDeque::new(),
            });
            shares.len() - 1
        });
        shares[at].in_flight += 1;
        shares[at].begun.push_back(entry.clone());
        shares[at].sweep();
        entry
    }

    fn share(&self, entry: &Rc<Pending>, change: impl FnOnce(&mut Share)) {
        let mut shares = self.shares.borrow_mut();
        if let Some(share) = shares.iter_mut().find(|share| share.listener == entry.listener) {
            change(share);
            share.sweep();
        }
        shares.retain(|share| share.in_flight > 0);
    }

    fn answered(&self, entry: &Rc<Pending>) {
        if !entry.over.get() && !entry.answered.replace(true) {
            self.share(entry, |share| share.answered.push_back(entry.clone()));
        }
    }

    fn end(&self, entry: &Rc<Pending>) {
        if !entry.over.replace(true) {
            self.share(entry, |share| share.in_flight -= 1);
        }
    }
}

/// What comes of a client's wish to speak TLS.
pub(crate) enum Accepted {
    /// The connection, decrypted, and where its bytes go (`None`: they are HTTP).
    Terminated(Stream, Rc<Handshake>, Option<Arc<TcpRoute>>),
    /// No chain is for its name, and a TCPMapping takes what no chain is for: the ClientHello will
    /// be received again.
    PassedThrough(Stream),
}

/// Handshakes with a client whose first byte says TLS; nothing of it has been received. `None`:
/// there is no connection; the client was told as far as it listens, and it was counted why.
pub(crate) async fn accept(
    worker: &Rc<Worker>,
    listener: &ListenerState,
    mut stream: Stream,
) -> Option<Accepted> {
    let timers = &worker.timers;
    timers.arm(&stream.timer, timers.now(), HANDSHAKE_TIMEOUT, Direction::Both);
    let entry = worker.handshakes.begin(listener.slot, &stream.timer);
    let settled = handshake(worker, listener, &entry, &mut stream).await;
    worker.handshakes.end(&entry);
    let count = |cell| worker.slab.listener_add(listener.slot, cell, 1);
    match settled {
        Ok(Some((handshake, tcp))) => {
            stream.timer.disarm();
            Some(Accepted::Terminated(stream, Rc::new(handshake), tcp))
        }
        Ok(None) => {
            stream.timer.disarm();
            Some(Accepted::PassedThrough(stream))
        }
        Err(failure) => {
            // No `close_notify` behind an alert.
            stream.break_off(false);
            count(match failure {
                _ if entry.shed.get() => ListenerCell::HandshakesShed,
                Refusal::UnknownName => ListenerCell::TlsUnknownName,
                Refusal::Handshake(Failure::Refused(error)) => cell_of(&error),
                Refusal::Handshake(Failure::Ended) if stream.timer.take_fired() => {
                    ListenerCell::HandshakeTimeouts
                }
                Refusal::Handshake(Failure::Ended) => ListenerCell::TlsErrors,
            });
            None
        }
    }
}

enum Refusal {
    /// No chain, or one without a usable certificate.
    UnknownName,
    Handshake(Failure),
}

fn cell_of(error: &Error) -> ListenerCell {
    match error {
        Error::NoCertificatesPresented => ListenerCell::TlsMissingCertificate,
        Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => {
            ListenerCell::TlsBadCertificate
        }
        _ => ListenerCell::TlsErrors,
    }
}

/// `None`: the connection passes through as it is.
async fn handshake(
    worker: &Rc<Worker>,
    listener: &ListenerState,
    entry: &Rc<Pending>,
    stream: &mut Stream,
) -> Result<Option<(Handshake, Option<Arc<TcpRoute>>)>, Refusal> {
    let passes = {
        let view = worker.view(listener);
        view.table.listener(listener.slot).is_some_and(|listener| listener.tcp.is_some())
    };
    let pace = Pace { turns: &worker.turns, waiting: &listener.handshakes_waiting };
    let mut whole = Vec::new();
    let hello = wire::hello(stream, &worker.buffers, pace, passes.then_some(&mut whole));
    let (accepted, rest, turn) = hello.await.map_err(Refusal::Handshake)?;
    let hello = accepted.client_hello();
    let server_name = server_name(&hello);
    let chain = {
        let view = worker.view(listener);
        let listener = view.table.listener(listener.slot);
        listener.and_then(|listener| listener.chain(server_name.as_deref())).cloned()
    };
    if chain.is_none() && passes {
        stream.reader.unread(&whole);
        return Ok(None);
    }
    drop(whole);
    let served = chain.and_then(|chain| Some((chain.termination.clone()?, chain)));
    let Some((termination, chain)) = served else {
        // RFC 6066 §3.
        wire::alert(stream, AlertDescription::UnrecognisedName);
        return Err(Refusal::UnknownName);
    };
    let connection = match accepted.into_connection(termination.config.clone()) {
        Ok(connection) => Connection::Server(connection),
        Err((error, alert)) => {
            wire::refuse(stream, alert);
            return Err(Refusal::Handshake(Failure::Refused(error)));
        }
    };
    worker.handshakes.answered(entry);
    drop(turn);
    let session = stream.start_tls(connection, rest, &worker.buffers, Some(pace)).await;
    let session = session.map_err(Refusal::Handshake)?;
    let (version, cipher, certificate) = session.inspect(|connection| {
        count(&worker.slab, listener.slot, connection);
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        };
        let cipher = connection.negotiated_cipher_suite();
        let cipher = cipher.map_or("", |cipher| tls::suite_name(cipher.suite()));
        let shown = connection.peer_certificates();
        let shown = shown.map(|chain| Box::new(Certificate::new(chain.iter().map(|c| &**c))));
        (version, cipher, shown)
    });
    let open = Open { slab: worker.slab.clone(), listener: listener.slot };
    let tcp = chain.tcp.clone();
    let handshake = Handshake {
        server_name,
        termination,
        version,
        cipher,
        certificate,
        told: RefCell::default(),
        valid_in: Cell::new(None),
        _open: open,
    };
    Ok(Some((handshake, tcp)))
}

/// One spelling for routing, checks and logs.
fn server_name(hello: &ClientHello<'_>) -> Option<Box<str>> {
    let name = hello.server_name()?;
    Some(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into())
}

fn count(slab: &Slab, listener: ListenerSlot, connection: &Connection) {
    let count = |cell| slab.listener_add(listener, cell, 1);
    count(ListenerCell::TlsHandshakes);
    count(ListenerCell::TlsActive);
    if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
        count(ListenerCell::TlsResumed);
    }
    if connection.peer_certificates().is_none() {
        count(ListenerCell::TlsNoCertificate);
    }
    count(match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => ListenerCell::TlsVersion12,
        _ => ListenerCell::TlsVersion13,
    });
}

#[cfg(test)]
pub(crate) mod tests;
