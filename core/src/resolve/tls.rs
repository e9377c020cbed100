// SPDX-License-Identifier: Apache-2.0
//! TLSContexts, Hosts' `tls` and Secrets alone → what terminates and what originates TLS.
//!
//! Each part is judged once, where it is written; whoever needs a part that is broken has no TLS
//! (never cleartext instead, never TLS without the check that was asked for).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::crd::tls_context::TlsVersion;
use crate::crd::{self, Meta, Spec};
use crate::ir::UpstreamProtocol;
use crate::name::{Kind, Ref};
use crate::problem::Problems;
use crate::snapshot::Snapshot;
use crate::tls::{
    self, Client, ClientPolicy, ClientSpec, Error, Identity, Names, Parameters, Pem, Server,
    ServerSpec, Shared, Version,
};

use super::attach::server_name;
use super::host::Host;
use super::secret::{self, Keys, Reference};
use super::{hostglob, ingress, module};

/// HTTP/2 in ALPN (RFC 9113 §3.2).
pub(crate) const HTTP2: &str = "h2";
/// A part of a context.
#[derive(Clone, Debug, PartialEq)]
enum Part<T> {
    /// Nobody asked for it.
    Absent,
    /// Asked for, and not to be had.
    Broken,
    There(T),
}

impl<T> Part<T> {
    /// # Errors
    /// It was asked for and is not to be had.
    fn get(&self) -> Result<Option<&T>, Unusable> {
        match self {
            Self::Absent => Ok(None),
            Self::Broken => Err(Unusable),
            Self::There(part) => Ok(Some(part)),
        }
    }
}

/// Something that is needed was asked for and is not to be had; a problem says what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unusable;

/// Whom to believe.
#[derive(Clone, Debug, PartialEq)]
struct Authorities {
    pem: Pem,
    revocations: Option<Pem>,
}

/// TLS as written under one name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Context {
    /// The TLSContext, or the Host that has it inline.
    object: Ref,
    /// Names that it says it is for.
    hosts: Vec<Box<str>>,
    /// Namespace and name of its certificate's Secret.
    secret: Option<(Box<str>, Box<str>)>,
    identity: Part<Identity>,
    authorities: Part<Authorities>,
    /// Whoever connects shows a certificate.
    required: bool,
    parameters: Part<Parameters>,
    alpn: Vec<Box<str>>,
    sni: Option<Box<str>>,
}

/// What becomes of TLS for a Host.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum HostTls {
    /// It did not ask for any.
    #[default]
    None,
    /// It asked, and there is none to be had: handshakes for its name are refused.
    Refused {
        /// Clients were meant to show certificates.
        asks_clients: bool,
    },
    Terminated(Arc<Server>),
}

impl HostTls {
    fn of(termination: Result<Arc<Server>, Unusable>, asks_clients: bool) -> Self {
        termination.map_or(Self::Refused { asks_clients }, Self::Terminated)
    }

    pub(crate) fn is_terminated(&self) -> bool {
        matches!(self, Self::Terminated(_))
    }

    /// What terminates it.
    pub(crate) fn termination(&self) -> Option<&Arc<Server>> {
        match self {
            Self::Terminated(termination) => Some(termination),
            Self::None | Self::Refused { .. } => None,
        }
    }

    /// Whether clients are, or were meant to be, asked for certificates.
    pub(crate) fn asks_clients(&self) -> bool {
        match self {
            Self::None => false,
            Self::Refused { asks_clients } => *asks_clients,
            Self::Terminated(termination) => termination.spec.clients.is_some(),
        }
    }
}

/// TLS towards an upstream, as far as a Mapping says it; the configuration is joined when the
/// cluster is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origination {
    /// Namespace and name of the TLSContext.
    pub(crate) context: Option<(Arc<str>, Arc<str>)>,
    /// Server name to send where the context says none. Emissary: `host_rewrite`.
    pub(crate) sni: Option<Box<str>>,
    /// What may be spoken inside.
    pub(crate) protocol: UpstreamProtocol,
}

impl Origination {
    /// What is offered, of what the context says: where the Mapping says the protocol nothing else
    /// can follow.
    fn alpn(&self, written: &[Box<str>]) -> Vec<Box<str>> {
        match self.protocol {
            UpstreamProtocol::Http1 => {
                written.iter().filter(|name| &***name != HTTP2).cloned().collect()
            }
            UpstreamProtocol::Http2 => vec![HTTP2.into()],
            UpstreamProtocol::Negotiated => written.to_vec(),
        }
    }
}

impl Context {
    /// Whether clients were meant to show certificates.
    fn asks_clients(&self) -> bool {
        self.required || self.authorities != Part::Absent
    }

    /// Who may connect.
    fn clients(&self) -> Result<Option<ClientPolicy>, Unusable> {
        match self.authorities.get()?.cloned() {
            Some(Authorities { pem: authorities, revocations }) => {
                Ok(Some(ClientPolicy { authorities, required: self.required, revocations }))
            }
            None if self.required => Err(Unusable),
            None => Ok(None),
        }
    }

    /// `identity` is that of a Host, where it has one.
    fn terminate(
        &self,
        identity: Option<&Identity>,
        shared: &mut Shared,
    ) -> Result<Arc<Server>, Unusable> {
        let identity = match identity {
            Some(identity) => identity,
            None => self.identity.get()?.ok_or(Unusable)?,
        };
        let spec = ServerSpec {
            identity: identity.clone(),
            alpn: self.alpn.clone(),
            parameters: self.parameters.get()?.cloned().unwrap_or_default(),
            clients: self.clients()?,
        };
        shared.server(&spec).map_err(|_| Unusable)
    }

    fn for_host(&self, identity: Option<&Identity>, shared: &mut Shared) -> ForHost {
        let termination = self.terminate(identity, shared);
        ForHost { tls: HostTls::of(termination, self.asks_clients()), ..self.refused() }
    }

    /// TLS of a Host that lacks what this needs.
    fn refused(&self) -> ForHost {
        let tls = HostTls::Refused { asks_clients: self.asks_clients() };
        ForHost { tls, fails_closed: self.clients().is_err(), is_refused: false }
    }

    fn originate(
        &self,
        origination: &Origination,
        shared: &mut Shared,
    ) -> Result<Arc<Client>, Unusable> {
        let authorities = self.authorities.get()?.cloned();
        let spec = ClientSpec {
            identity: self.identity.get()?.cloned(),
            // Whoever names a server name says who is expected.
            checks_name: self.sni.is_some() && authorities.is_some(),
            sni: self.sni.clone().or_else(|| origination.sni.clone()),
            revocations: authorities.as_ref().and_then(|a| a.revocations.clone()),
            authorities: authorities.map(|a| a.pem),
            alpn: origination.alpn(&self.alpn),
            parameters: self.parameters.get()?.cloned().unwrap_or_default(),
        };
        shared.client(&spec).map_err(|_| Unusable)
    }
}

/// All TLSContexts, by name and namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Contexts(BTreeMap<Arc<str>, BTreeMap<Arc<str>, Context>>);

impl Contexts {
    /// Reads all of them. `dotted` is the Module's `tls_secret_namespacing`.
    pub(crate) fn of(
        snapshot: &Snapshot,
        ours: impl Fn(&Meta) -> bool,
        dotted: bool,
        shared: &mut Shared,
        problems: &mut Problems,
    ) -> Self {
        let mut all = Self::default();
        for object in snapshot.of_kind(Kind::TLSContext).filter(|o| ours(&o.meta)) {
            let Spec::TLSContext(written) = &object.spec else { continue };
            let dotted = written.secret_namespacing.unwrap_or(dotted);
            let name = &object.meta.object;
            let mut reader =
                Reader { snapshot, object: name, at: "spec", dotted, shared, problems };
            let secret = written.secret.as_deref().filter(|name| !name.is_empty());
            let secret = secret.map(|name| ("spec.secret", reader.reference(name)));
            let mut context = reader.context(secret, &Fields::from(&**written));
            context.hosts = written.hosts.iter().map(|host| (&**host).into()).collect();
            let namespaces = all.0.entry(Arc::clone(object.meta.name())).or_default();
            namespaces.insert(Arc::clone(object.meta.namespace()), context);
        }
        all
    }

    /// The TLSContext that an object of a namespace means by a name: its own namespace's, else the
    /// first by namespace (Emissary has one of a name).
    pub(crate) fn find(&self, name: &str, own: &str) -> Option<&Context> {
        let namespaces = self.0.get(name)?;
        namespaces.get(own).or_else(|| namespaces.values().next())
    }

    /// What a cluster connects with.
    pub(crate) fn originate(
        &self,
        origination: &Origination,
        shared: &mut Shared,
    ) -> Result<Arc<Client>, Unusable> {
        match &origination.context {
            Some((namespace, name)) => {
                let context = self.0.get(name).and_then(|contexts| contexts.get(namespace));
                context.ok_or(Unusable)?.originate(origination, shared)
            }
            None => {
                let sni = origination.sni.clone();
                let alpn = origination.alpn(&[]);
                let spec = ClientSpec { sni, alpn, ..ClientSpec::default() };
                shared.client(&spec).map_err(|_| Unusable)
            }
        }
    }

    /// What terminates TLS for a TCPMapping's host: the most specific Host that answers for it,
    /// else the first context that lists exactly it. A Host that would have asked for client
    /// certificates and cannot leaves its name to nobody else.
    pub(crate) fn terminate_tcp(
        &self,
        host: &str,
        hosts: &[Host],
        shared: &mut Shared,
    ) -> Option<Arc<Server>> {
        let answers = |candidate: &&Host| {
            (candidate.tls.is_terminated() || candidate.tls.asks_clients())
                && hostglob::overlap(server_name(&candidate.hostname), host)
        };
        let answering = hosts.iter().filter(answers);
        if let Some(best) = answering.min_by_key(|host| hostglob::specificity(&host.hostname)) {
            return match &best.tls {
                HostTls::Terminated(termination) => Some(Arc::clone(termination)),
                HostTls::None | HostTls::Refused { .. } => None,
            };
        }
        let mut all = self.0.values().flat_map(BTreeMap::values);
        let lists = |context: &&Context| context.hosts.iter().any(|h| h.eq_ignore_ascii_case(host));
        let termination = all.find(lists)?.terminate(None, shared);
        termination.ok()
    }
}

/// TLS of a Host, and what follows from it for the Host itself.
#[derive(Debug, Default)]
pub(crate) struct ForHost {
    pub(crate) tls: HostTls,
    /// Clients were meant to show certificates, and none can be asked for: its requests are
    /// refused.
    pub(crate) fails_closed: bool,
    /// The Host contradicts itself.
    pub(crate) is_refused: bool,
}

/// What everybody needs who reads TLS.
pub(crate) struct Cx<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) contexts: &'a Contexts,
    /// Module `tls_secret_namespacing`.
    pub(crate) dotted: bool,
    pub(crate) shared: &'a mut Shared,
}

impl Cx<'_> {
    /// `tlsSecret`, `tlsContext` and `tls` of a Host, and the TLSContext `<host>-context` that
    /// Emissary takes where neither of the latter is written.
    pub(crate) fn host(
        &mut self,
        object: &Ref,
        hostname: &str,
        host: &crd::Host,
        problems: &mut Problems,
    ) -> ForHost {
        let (dotted, contexts) = (self.dotted, self.contexts);
        let named = host.tls_context.as_ref().and_then(|c| c.name.as_deref());
        let secret = host.tls_secret.as_ref().and_then(|secret| {
            let name = secret.name.as_deref().filter(|n| !n.is_empty())?;
            let namespace = secret.namespace.as_deref().filter(|n| !n.is_empty());
            Some(Reference { name, namespace, own: &object.namespace, dotted })
        });
        let secret = secret.as_ref();
        let snapshot = self.snapshot;
        let mut reader =
            Reader { snapshot, object, at: "spec.tls", dotted, shared: self.shared, problems };
        let inline = |reader: &mut Reader<'_, '_>, tls: &crd::host::HostTls| {
            let secret = secret.map(|secret| ("spec.tlsSecret", *secret));
            reader.context(secret, &Fields::from(tls))
        };
        match (named, &host.tls) {
            (Some(name), Some(tls)) => {
                reader.problems.exclusive(object, "spec.tls", "tlsContext", "tls");
                let asks = inline(&mut reader, tls).asks_clients()
                    || contexts.find(name, &object.namespace).is_some_and(Context::asks_clients);
                reader.contradiction(asks)
            }
            (Some(name), None) => match contexts.find(name, &object.namespace) {
                Some(context) => reader.named(context, name, hostname, secret),
                None => {
                    // It may have asked for client certificates.
                    problems.unknown_context_fails_closed(object, "spec.tlsContext", name);
                    let tls = HostTls::Refused { asks_clients: true };
                    ForHost { tls, fails_closed: true, is_refused: false }
                }
            },
            (None, Some(tls)) => {
                let context = inline(&mut reader, tls);
                if context.identity == Part::Absent {
                    reader.problems.no_certificate(object, "spec.tls");
                }
                context.for_host(None, reader.shared)
            }
            (None, None) => {
                let Some(secret) = secret else { return ForHost::default() };
                let implicit = format!("{}-context", object.name);
                let own = |context: &&Context| context.object.namespace == object.namespace;
                if let Some(context) = contexts.find(&implicit, &object.namespace).filter(own) {
                    return reader.named(context, &implicit, hostname, Some(secret));
                }
                let context = reader.context(Some(("spec.tlsSecret", *secret)), &Fields::default());
                context.for_host(None, reader.shared)
            }
        }
    }

    /// The Host that nobody wrote: TLS by a Secret of the gateway's namespace, if it is there.
    pub(crate) fn fallback(&mut self, name: &str, problems: &mut Problems) -> HostTls {
        let own = &*self.snapshot.settings.namespace;
        let secret = Reference { name, namespace: None, own, dotted: false };
        let Some(found) = secret.find(self.snapshot) else { return HostTls::None };
        let (snapshot, object) = (self.snapshot, found.name());
        let mut reader =
            Reader { snapshot, object, at: "", dotted: false, shared: self.shared, problems };
        let context = reader.context(Some(("", secret)), &Fields::default());
        context.for_host(None, reader.shared).tls
    }
}

/// Fields that a TLSContext and a Host's `tls` have in common.
#[derive(Default)]
struct Fields<'a> {
    ca_secret: Option<&'a str>,
    crl_secret: Option<&'a str>,
    cert_chain_file: Option<&'a str>,
    private_key_file: Option<&'a str>,
    cacert_chain_file: Option<&'a str>,
    alpn_protocols: Option<&'a str>,
    cert_required: bool,
    min_tls_version: Option<TlsVersion>,
    max_tls_version: Option<TlsVersion>,
    cipher_suites: &'a [String],
    ecdh_curves: &'a [String],
    sni: Option<&'a str>,
}

macro_rules! fields_from {
    ($written:ty) => {
        impl<'a> From<&'a $written> for Fields<'a> {
            fn from(written: &'a $written) -> Self {
                let text = |field: &'a Option<String>| field.as_deref().filter(|t| !t.is_empty());
                Self {
                    ca_secret: text(&written.ca_secret),
                    crl_secret: text(&written.crl_secret),
                    cert_chain_file: text(&written.cert_chain_file),
                    private_key_file: text(&written.private_key_file),
                    cacert_chain_file: text(&written.cacert_chain_file),
                    alpn_protocols: text(&written.alpn_protocols),
                    cert_required: written.cert_required == Some(true),
                    min_tls_version: written.min_tls_version,
                    max_tls_version: written.max_tls_version,
                    cipher_suites: &written.cipher_suites,
                    ecdh_curves: &written.ecdh_curves,
                    sni: text(&written.sni),
                }
            }
        }
    };
}

fields_from!(crd::TLSContext);
fields_from!(crd::host::HostTls);

/// Files that an object names, by their paths as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files<'a> {
    pub chain: Option<&'a str>,
    pub key: Option<&'a str>,
    pub authorities: Option<&'a str>,
}

/// The files that an object names.
pub fn files(object: &crd::Object) -> Files<'_> {
    let fields = match &object.spec {
        Spec::TLSContext(context) => Fields::from(&**context),
        Spec::Host(host) => host.tls.as_ref().map(Fields::from).unwrap_or_default(),
        _ => Fields::default(),
    };
    Files {
        chain: fields.cert_chain_file,
        key: fields.private_key_file,
        authorities: fields.cacert_chain_file,
    }
}

/// The Secrets that objects of a snapshot name, there or not; with them the one that serves where
/// there is no Host.
pub fn secrets(snapshot: &Snapshot) -> BTreeSet<Ref> {
    let settings = &snapshot.settings;
    let in_scope = |namespace: &str| {
        !settings.single_namespace || namespace.is_empty() || *namespace == *settings.namespace
    };
    let ours = |meta: &Meta| in_scope(meta.namespace()) && meta.is_for(&settings.ambassador_id);
    let modules = snapshot.of_kind(Kind::Module).filter(|object| ours(&object.meta));
    let dotted = !module::resolve(modules).plain_secret_names;
    let mut named = BTreeSet::new();
    let mut add = |name: Option<&str>, namespace: Option<&str>, own: &str, dotted: bool| {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return };
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        let reference = Reference { name, namespace, own, dotted };
        let (namespace, name) = reference.resolve();
        if in_scope(namespace) {
            named.insert(Ref::new(Kind::Secret, namespace, name));
        }
    };
    add(Some(super::FALLBACK_CERTIFICATE), None, &settings.namespace, false);
    for object in snapshot.of_kind(Kind::TLSContext).filter(|object| ours(&object.meta)) {
        let Spec::TLSContext(context) = &object.spec else { continue };
        let dotted = context.secret_namespacing.unwrap_or(dotted);
        let fields = Fields::from(&**context);
        for name in [context.secret.as_deref(), fields.ca_secret, fields.crl_secret] {
            add(name, None, object.meta.namespace(), dotted);
        }
    }
    for object in snapshot.of_kind(Kind::Host).filter(|object| ours(&object.meta)) {
        let Spec::Host(host) = &object.spec else { continue };
        let own = object.meta.namespace();
        if let Some(secret) = &host.tls_secret {
            add(secret.name.as_deref(), secret.namespace.as_deref(), own, dotted);
        }
        let fields = host.tls.as_ref().map(Fields::from).unwrap_or_default();
        for name in [fields.ca_secret, fields.crl_secret] {
            add(name, None, own, dotted);
        }
    }
    for object in ingress::ours(snapshot, |meta| in_scope(meta.namespace())) {
        let Spec::Ingress(ingress) = &object.spec else { continue };
        for tls in &ingress.tls {
            add(tls.secret_name.as_deref(), None, object.meta.namespace(), dotted);
        }
    }
    named
}

/// Reads what one object says about TLS.
struct Reader<'a, 'p> {
    snapshot: &'a Snapshot,
    object: &'a Ref,
    /// Where the fields stand in the object.
    at: &'static str,
    dotted: bool,
    shared: &'p mut Shared,
    problems: &'p mut Problems,
}

impl<'a> Reader<'a, '_> {
    fn path(&self, field: &str) -> String {
        format!("{}.{field}", self.at)
    }

    fn reference<'n>(&self, name: &'n str) -> Reference<'n>
    where
        'a: 'n,
    {
        Reference { name, namespace: None, own: &self.object.namespace, dotted: self.dotted }
    }

    /// A Host that contradicts itself is dropped. One that would have asked for client
    /// certificates stays and refuses requests: without it a wider Host would serve its name to
    /// everybody.
    fn contradiction(&self, asks_clients: bool) -> ForHost {
        let tls = HostTls::Refused { asks_clients };
        ForHost { tls, fails_closed: asks_clients, is_refused: !asks_clients }
    }

    /// A TLSContext that a Host names, with the Host's own Secret.
    fn named(
        &mut self,
        context: &Context,
        name: &str,
        hostname: &str,
        secret: Option<&Reference<'_>>,
    ) -> ForHost {
        let object = self.object;
        let mut identity = None;
        if let Some(secret) = secret {
            let ours = secret.resolve();
            let theirs = context.secret.as_ref().map(|(namespace, name)| (&**namespace, &**name));
            if let Some(theirs) = theirs.filter(|theirs| *theirs != ours) {
                self.problems.context_has_other_secret(object, name, theirs, ours);
                return self.contradiction(context.asks_clients());
            }
            if theirs.is_none() {
                identity = match self.certificate("spec.tlsSecret", secret) {
                    Part::There(identity) => Some(identity),
                    Part::Absent | Part::Broken => return context.refused(),
                };
            }
        } else if context.identity == Part::Absent {
            self.problems.no_certificate(object, "spec.tlsContext");
        }
        let mut listed = context.hosts.iter();
        let is_listed = listed.any(|host| **host == *hostname || **host == *object.name);
        if !context.hosts.is_empty() && !is_listed {
            self.problems.context_for_other_hosts(object, name, hostname);
        }
        let for_host = context.for_host(identity.as_ref(), self.shared);
        if for_host.fails_closed {
            self.problems.context_fails_closed(object, "spec.tlsContext", name);
        } else if !for_host.tls.is_terminated() {
            self.problems.context_unusable(object, "spec.tlsContext", name);
        }
        for_host
    }

    fn context(
        &mut self,
        secret: Option<(&'static str, Reference<'_>)>,
        fields: &Fields<'_>,
    ) -> Context {
        let identity = self.identity(secret.as_ref(), fields);
        let (authorities, required) = self.authorities(secret.as_ref(), fields);
        let sni = fields.sni.filter(|name| {
            let fits = tls::is_server_name(name);
            if !fits {
                let error = Error::ServerName((*name).into());
                self.problems.bad_tls_value(self.object, &self.path("sni"), &error);
            }
            fits
        });
        Context {
            object: self.object.clone(),
            hosts: Vec::new(),
            secret: secret.map(|(_, secret)| {
                let (namespace, name) = secret.resolve();
                (namespace.into(), name.into())
            }),
            identity,
            authorities,
            required,
            parameters: self.parameters(fields),
            alpn: self.alpn(fields),
            sni: sni.map(Into::into),
        }
    }

    fn identity(
        &mut self,
        secret: Option<&(&'static str, Reference<'_>)>,
        fields: &Fields<'_>,
    ) -> Part<Identity> {
        let (chain, key) = (fields.cert_chain_file, fields.private_key_file);
        match (secret, chain, key) {
            (None, None, None) => Part::Absent,
            (Some((path, secret)), None, None) => self.certificate(path, secret),
            (None, Some(chain), Some(key)) => self.certificate_of_files(chain, key),
            (Some(_), _, _) => {
                let path = self.path("cert_chain_file");
                self.problems.exclusive(self.object, &path, "secret", "cert_chain_file");
                Part::Broken
            }
            (None, Some(_), None) => self.missing_half("cert_chain_file", "private_key_file"),
            (None, None, Some(_)) => self.missing_half("private_key_file", "cert_chain_file"),
        }
    }

    fn missing_half<T>(&mut self, one: &str, other: &str) -> Part<T> {
        self.problems.needs_too(self.object, &self.path(one), one, other);
        Part::Broken
    }

    /// The certificate of a Secret. What is wrong with its content is the Secret's mistake.
    fn certificate(&mut self, path: &str, secret: &Reference<'_>) -> Part<Identity> {
        let Some(found) = secret.find(self.snapshot) else {
            let (namespace, name) = secret.resolve();
            self.problems.unknown_secret(self.object, path, namespace, name);
            return Part::Broken;
        };
        let values = (found.value(secret::CHAIN), found.value(secret::KEY));
        let (Some((chain_key, chain)), Some((key_key, key))) = values else {
            let missing = if values.0.is_none() { secret::CHAIN } else { secret::KEY };
            self.problems.secret_without_key(found.name(), missing.0[0]);
            self.problems.unusable_secret(self.object, path, found.name());
            return Part::Broken;
        };
        match self.shared.identity(chain, key) {
            Ok(identity) => Part::There(identity),
            Err(error) => {
                let key = if is_of_key(&error) { key_key } else { chain_key };
                self.problems.bad_secret(found.name(), key, &error);
                self.problems.unusable_secret(self.object, path, found.name());
                Part::Broken
            }
        }
    }

    fn certificate_of_files(&mut self, chain: &str, key: &str) -> Part<Identity> {
        let (chain_at, key_at) = (self.path("cert_chain_file"), self.path("private_key_file"));
        let mut read = |at: &str, file: &str| match self.file(file) {
            Ok(pem) => Some(pem),
            Err(error) => {
                self.problems.bad_tls_file(self.object, at, file, &error);
                None
            }
        };
        let (Some(chain_pem), Some(key_pem)) = (read(&chain_at, chain), read(&key_at, key)) else {
            return Part::Broken;
        };
        match self.shared.identity(chain_pem, key_pem) {
            Ok(identity) => Part::There(identity),
            Err(error) => {
                let (at, file) = if is_of_key(&error) { (key_at, key) } else { (chain_at, chain) };
                self.problems.bad_tls_file(self.object, &at, file, &error);
                Part::Broken
            }
        }
    }

    /// Whom to believe, and whether clients must show a certificate. What is wrong here guards
    /// something: it is never replaced by what it was before.
    fn authorities(
        &mut self,
        certificate: Option<&(&'static str, Reference<'_>)>,
        fields: &Fields<'_>,
    ) -> (Part<Authorities>, bool) {
        let mut required = fields.cert_required;
        let (pem, path) = if let Some(name) = fields.ca_secret {
            let (path, reference) = (self.path("ca_secret"), self.reference(name));
            let found = reference.find(self.snapshot);
            required = found.and_then(|secret| secret.cert_required()).unwrap_or(required);
            (self.guard(&path, &reference, secret::AUTHORITIES), path)
        } else if let Some(file) = fields.cacert_chain_file {
            let path = self.path("cacert_chain_file");
            let read = self.file(file);
            if let Err(error) = &read {
                self.problems.tls_guard_fails(self.object, &path, &format!("{file}: {error}"));
            }
            (read.ok(), path)
        } else {
            let found = certificate.and_then(|(_, secret)| secret.find(self.snapshot));
            let roots = found.and_then(|secret| secret.value(secret::ROOTS));
            match roots {
                Some((_, pem)) => (Some(pem), certificate.map_or("", |(path, _)| path).to_owned()),
                None => return (self.nobody(required, fields), required),
            }
        };
        let Some(pem) = pem else { return (Part::Broken, required) };
        if let Err(error) = self.shared.check_authorities(&pem) {
            self.problems.tls_guard_fails(self.object, &path, &error.to_string());
            return (Part::Broken, required);
        }
        let mut revocations = None;
        if let Some(name) = fields.crl_secret {
            let (path, reference) = (self.path("crl_secret"), self.reference(name));
            revocations = self.guard(&path, &reference, secret::REVOCATIONS);
            if revocations.is_none() {
                return (Part::Broken, required);
            }
            let policy = ClientPolicy {
                authorities: pem.clone(),
                required,
                revocations: revocations.clone(),
            };
            if let Err(error) = self.shared.check_policy(&policy) {
                self.problems.tls_guard_fails(self.object, &path, &error.to_string());
                return (Part::Broken, required);
            }
        }
        (Part::There(Authorities { pem, revocations }), required)
    }

    /// No authorities are written; what needs them is broken.
    fn nobody(&mut self, required: bool, fields: &Fields<'_>) -> Part<Authorities> {
        let wants = [(required, "cert_required"), (fields.crl_secret.is_some(), "crl_secret")];
        let mut part = Part::Absent;
        for (_, field) in wants.into_iter().filter(|(wants, _)| *wants) {
            let why = "there is no `ca_secret` to check certificates by";
            self.problems.tls_guard_fails(self.object, &self.path(field), why);
            part = Part::Broken;
        }
        part
    }

    /// A value of a Secret that guards something.
    fn guard(&mut self, path: &str, reference: &Reference<'_>, keys: Keys) -> Option<Pem> {
        let (namespace, name) = reference.resolve();
        let found = reference.find(self.snapshot);
        let value = found.and_then(|secret| secret.value(keys));
        if value.is_none() {
            let why = match found {
                None => format!("there is no Secret {namespace}/{name}"),
                Some(_) => format!("the Secret {namespace}/{name} has no `{}`", keys.0[0]),
            };
            self.problems.tls_guard_fails(self.object, path, &why);
        }
        value.map(|(_, pem)| pem)
    }

    fn parameters(&mut self, fields: &Fields<'_>) -> Part<Parameters> {
        let (min_at, max_at) = (self.path("min_tls_version"), self.path("max_tls_version"));
        let (min, max) = (fields.min_tls_version, fields.max_tls_version);
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            self.problems.tls_versions(self.object, &min_at, min.as_str(), max.as_str());
            return Part::Broken;
        }
        if let Some(max) = max.filter(|max| version(*max).is_none()) {
            self.problems.old_tls_version(self.object, &max_at, max.as_str());
            return Part::Broken;
        }
        if let Some(min) = min.filter(|min| version(*min).is_none()) {
            self.problems.tls_version_raised(self.object, &min_at, min.as_str());
        }
        let suites = Names::suites(fields.cipher_suites);
        let curves = Names::curves(fields.ecdh_curves);
        let (suites_at, curves_at) = (self.path("cipher_suites"), self.path("ecdh_curves"));
        if !suites.unknown.is_empty() {
            let names = tls::suite_names().collect::<Vec<_>>().join(", ");
            self.problems.unknown_tls_names(self.object, &suites_at, &suites.unknown, &names);
        }
        if !curves.unknown.is_empty() {
            let names = tls::curve_names().collect::<Vec<_>>().join(", ");
            self.problems.unknown_tls_names(self.object, &curves_at, &curves.unknown, &names);
        }
        let written = |names: &[String]| names.iter().any(|name| !name.is_empty());
        for (names, known, at, error) in [
            (fields.cipher_suites, &suites.known, &suites_at, Error::NoSuites),
            (fields.ecdh_curves, &curves.known, &curves_at, Error::NoCurves),
        ] {
            if written(names) && known.is_empty() {
                self.problems.bad_tls_value(self.object, at, &error);
                return Part::Broken;
            }
        }
        let parameters = Parameters {
            min_version: min.and_then(version),
            max_version: max.and_then(version),
            cipher_suites: suites.known,
            curves: curves.known,
        };
        match parameters.check() {
            Ok(()) => Part::There(parameters),
            Err(error) => {
                self.problems.bad_tls_value(self.object, &suites_at, &error);
                Part::Broken
            }
        }
    }

    /// The protocols; one that cannot be written leaves none, and handshakes go on without.
    fn alpn(&mut self, fields: &Fields<'_>) -> Vec<Box<str>> {
        let Some(text) = fields.alpn_protocols else { return Vec::new() };
        let at = self.path("alpn_protocols");
        let protocols: Vec<Box<str>> = text.split(',').map(|name| name.trim().into()).collect();
        if let Err(error) = tls::check_protocols(&protocols) {
            self.problems.bad_tls_value(self.object, &at, &error);
            return Vec::new();
        }
        protocols
    }

    fn file(&self, path: &str) -> Result<Pem, Arc<str>> {
        match self.snapshot.file(path) {
            Some(read) => read.clone(),
            None => Err("it was not read".into()),
        }
    }
}

fn is_of_key(error: &Error) -> bool {
    matches!(error, Error::NoKey | Error::EncryptedKey | Error::BadKey)
}

/// `None` for those that rustls does not speak.
fn version(version: TlsVersion) -> Option<Version> {
    match version {
        TlsVersion::V1_0 | TlsVersion::V1_1 => None,
        TlsVersion::V1_2 => Some(Version::V1_2),
        TlsVersion::V1_3 => Some(Version::V1_3),
    }
}

/// Names and namespaces of the TLSContexts that there are, for those who name them.
pub(crate) fn names(
    snapshot: &Snapshot,
    ours: impl Fn(&Meta) -> bool,
) -> BTreeSet<(Arc<str>, Arc<str>)> {
    let contexts = snapshot.of_kind(Kind::TLSContext).filter(|o| ours(&o.meta));
    contexts.map(|o| (Arc::clone(o.meta.name()), Arc::clone(o.meta.namespace()))).collect()
}

#[cfg(test)]
mod tests;
