// SPDX-License-Identifier: Apache-2.0
//! One Mapping → its match, what it does, and its upstream: a pure function of the Mapping and of
//! [`Facts`], remembered per object. Grouping and attachment are not known here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::crd;
use crate::ir::{
    AuthorityMatch, EmissaryRank, FieldMatch, Forward, Keepalive, Matcher, PathMatch,
    UpstreamProtocol, ValueMatch,
};
use crate::limits;
use crate::name::Ref;
use crate::policy::balance::Balancer;
use crate::policy::format::Format;
use crate::policy::pattern::Pattern;
use crate::policy::redirect::{Redirect, RedirectPath, Scheme};
use crate::policy::rewrite::{HostRewrite, PathRewrite, Substitution};
use crate::policy::timeouts::Timeouts;
use crate::problem::Problems;

use super::balance::{self, Balancing};
use super::facts::{Defaults, Facts, Resolver};
use super::service::{self, Naming, Qualify, Service};
use super::tls::Origination;
use super::unenforced;

/// ACME's HTTP-01 challenges: always routed, so that certificates can be had at all. Emissary: a
/// Mapping of exactly this prefix.
pub(super) const ACME_CHALLENGE: &str = "/.well-known/acme-challenge/";

/// A Mapping that is accepted as far as it can be judged by itself.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) object: Ref,
    /// `name.namespace`: Emissary loads in this order.
    pub(crate) load_key: Arc<str>,
    pub(crate) labels: Labels,
    pub(crate) hostname: Hostname,
    /// Mappings with equal keys form one group.
    pub(crate) group_key: GroupKey,
    pub(crate) matcher: Arc<Matcher>,
    pub(crate) rank: Arc<EmissaryRank>,
    pub(crate) weight: Option<i64>,
    pub(crate) role: Role,
    pub(crate) bypass_auth: bool,
    pub(crate) always: bool,
    /// One of our own probes: on every Host, unguarded.
    pub(crate) internal: bool,
    pub(crate) request: Edits,
    pub(crate) response: Edits,
}

/// What tells groups apart: a digest (SHA-256, its first half) of what Mappings of one group have
/// in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupKey([u8; 16]);

impl GroupKey {
    pub(crate) fn of(text: &str) -> Self {
        let digest = Sha256::digest(text);
        Self(digest[..16].try_into().expect("a digest has 32 bytes"))
    }
}

/// What a Mapping does in its group.
#[derive(Debug)]
pub(crate) enum Role {
    Forward {
        upstream: Arc<Upstream>,
        /// What it does when it is alone there, and no other upstream has its cluster's name.
        alone: Arc<Forward>,
    },
    Redirect(Arc<Redirect>),
    /// Takes no requests of its own, but copies of the group's.
    Shadow(Arc<Upstream>),
}

impl Role {
    /// Where requests, or copies of them, go.
    pub(crate) fn upstream(&self) -> Option<&Arc<Upstream>> {
        match self {
            Self::Forward { upstream, .. } | Self::Shadow(upstream) => Some(upstream),
            Self::Redirect(_) => None,
        }
    }
}

/// The host names that a Mapping is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hostname {
    /// Not written: only a Host's selector can choose it.
    None,
    Glob(Box<str>),
    /// Attached to every Host; the regex decides per request.
    Regex,
}

/// Labels of an object or, united, of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels(pub(crate) Arc<BTreeMap<String, String>>);

impl Labels {
    /// The last one wins.
    pub(crate) fn union<'a>(mut all: impl Iterator<Item = &'a Self>) -> Self {
        let mut union = all.next().cloned().unwrap_or_default();
        for labels in all {
            if labels != &union {
                let entries = labels.0.iter().map(|(k, v)| (k.clone(), v.clone()));
                Arc::make_mut(&mut union.0).extend(entries);
            }
        }
        union
    }
}

/// Header edits as written, in one direction.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// `None` where the field is absent.
    pub(crate) remove: Option<Vec<Box<str>>>,
    pub(crate) add: Vec<Add>,
}

#[derive(Debug)]
pub(crate) struct Add {
    pub(crate) name: Box<str>,
    pub(crate) value: Format,
    pub(crate) append: bool,
}

/// A cluster without its endpoints.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    pub(crate) name: Arc<str>,
    pub(crate) stats_name: Arc<str>,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    /// The port was written, not made up from the scheme.
    pub(crate) port_written: bool,
    /// Namespace for short names.
    pub(crate) namespace: Arc<str>,
    pub(crate) lookup: Lookup,
    pub(crate) protocol: UpstreamProtocol,
    /// `grpc` was written; else the port of a known Service may say what it speaks.
    pub(crate) protocol_written: bool,
    pub(crate) tls: Option<Origination>,
    pub(crate) balancer: Balancer,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
    pub(crate) respect_ttl: bool,
    /// Only one of a name's addresses at a time: `logical_dns`.
    pub(crate) logical: bool,
}

/// How a service's name becomes endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The endpoints of a known Service, else DNS.
    Endpoints,
    /// The cluster address of a known Service, else DNS.
    ClusterIp,
    /// Not served yet.
    Consul,
}

/// Resolves one Mapping; `None` with problems where it is refused.
pub(crate) fn resolve(
    object: &Ref,
    labels: &Labels,
    mapping: &crd::Mapping,
    facts: &Facts,
) -> (Option<Mapping>, Problems) {
    let mut cx = Context { object, mapping, facts, problems: Problems::default(), refused: false };
    let resolved = cx.resolve(labels);
    (resolved, cx.problems)
}

/// The upstream of what names a service as a Mapping does; `None` with problems where it is
/// refused.
pub(crate) fn upstream(
    object: &Ref,
    mapping: &crd::Mapping,
    facts: &Facts,
) -> (Option<Upstream>, Problems) {
    let mut cx = Context { object, mapping, facts, problems: Problems::default(), refused: false };
    let lookup = cx.resolver();
    let service = cx.service(lookup).map(|service| cx.qualified(service, lookup));
    let balancer = Balancer::default();
    let upstream = service.map(|service| cx.upstream(service, lookup, false, balancer, false));
    (upstream.filter(|_| !cx.refused), cx.problems)
}

struct Context<'a> {
    object: &'a Ref,
    mapping: &'a crd::Mapping,
    facts: &'a Facts,
    problems: Problems,
    /// Set by a mistake that refuses the whole Mapping; the rest is read all the same, so that
    /// one reading finds them all.
    refused: bool,
}

impl Context<'_> {
    fn resolve(&mut self, labels: &Labels) -> Option<Mapping> {
        let (hostname, authority) = self.authority();
        let matcher = self.matcher(authority);
        let resolver = self.resolver();
        let service = self.service(resolver);
        self.refused |= unenforced::mapping(self.object, self.mapping, &mut self.problems);
        let balancing = self.balancing();
        let logical = self.logical_dns();
        let role = self.role(service, resolver, balancing, logical);
        let (request, response) = self.edits(&role);
        let (matcher, role) = (matcher?, role?);
        if self.refused {
            return None;
        }
        let rank = rank(self.mapping, &matcher);
        let load_key = format!("{}.{}", self.object.name, self.object.namespace).into();
        let group_key = self.group_key(&hostname, &rank, labels);
        Some(Mapping {
            object: self.object.clone(),
            load_key,
            labels: labels.clone(),
            hostname,
            group_key,
            rank: Arc::new(rank),
            weight: self.mapping.weight,
            role,
            bypass_auth: self.mapping.bypass_auth.unwrap_or(false),
            always: !self.mapping.prefix_regex && self.mapping.prefix == ACME_CHALLENGE,
            internal: false,
            request,
            response,
            matcher: Arc::new(matcher),
        })
    }

    fn pattern(&mut self, path: &str, text: &str) -> Option<Pattern> {
        match Pattern::parse(text) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                self.problems.bad_regex(self.object, path, &error);
                self.refused = true;
                None
            }
        }
    }

    /// `hostname` over `host` over `headers[":authority"]`.
    fn authority(&mut self) -> (Hostname, Option<AuthorityMatch>) {
        let mapping = self.mapping;
        let written =
            |text: &Option<String>| text.as_deref().filter(|t| !t.is_empty()).map(one_spelling);
        let header =
            mapping.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(":authority"));
        let hostname = written(&mapping.hostname);
        let host = mapping.host.as_deref().filter(|h| !h.is_empty());
        if hostname.is_some() && (host.is_some() || header.is_some()) {
            self.problems.hostname_beats_host(self.object);
        }
        if let Some(glob) = hostname {
            let authority = match glob.as_str() {
                "*" => None,
                _ => Some(match (glob.strip_prefix('*'), glob.strip_suffix('*')) {
                    (Some(suffix), _) => AuthorityMatch::Suffix(suffix.into()),
                    (None, Some(prefix)) => AuthorityMatch::Prefix(prefix.into()),
                    (None, None) => AuthorityMatch::Exact(glob.as_str().into()),
                }),
            };
            return (Hostname::Glob(glob.into()), authority);
        }
        if let (Some(text), true) = (host, mapping.host_regex) {
            let pattern = self.pattern("spec.host", text);
            return (Hostname::Regex, pattern.map(AuthorityMatch::Regex));
        }
        let (path, exact) = match (host, header) {
            (Some(host), _) => ("spec.host", host),
            (None, Some((_, value))) => ("spec.headers[\":authority\"]", value.as_str()),
            (None, None) => return (Hostname::None, None),
        };
        if exact.contains('*') {
            self.problems.star_in_exact_host(self.object, path, exact);
            self.refused = true;
        }
        let exact = one_spelling(exact);
        (Hostname::Glob(exact.as_str().into()), Some(AuthorityMatch::Exact(exact.into())))
    }

    fn matcher(&mut self, authority: Option<AuthorityMatch>) -> Option<Matcher> {
        let mapping = self.mapping;
        let prefix = mapping.prefix.as_str();
        let case_sensitive = mapping.case_sensitive.unwrap_or(true);
        if !mapping.prefix_regex && !prefix.is_empty() && !prefix.starts_with('/') {
            self.problems.prefix_without_slash(self.object, prefix);
        }
        let path = match (mapping.prefix_regex, mapping.prefix_exact) {
            (true, _) => self.pattern("spec.prefix", prefix).map(PathMatch::Regex),
            (false, true) => Some(PathMatch::Exact { text: prefix.into(), case_sensitive }),
            (false, false) => Some(PathMatch::Prefix { text: prefix.into(), case_sensitive }),
        };
        let method = mapping.method.as_deref().filter(|m| !m.is_empty());
        let method = match (method, mapping.method_regex) {
            (None, _) => None,
            (Some(text), true) => self.pattern("spec.method", text).map(ValueMatch::Regex),
            (Some(text), false) => Some(ValueMatch::Exact(text.into())),
        };
        let headers = self.fields(
            &HEADERS,
            &mapping.headers,
            &mapping.regex_headers,
            &mapping.v2_bool_headers,
        );
        let query = self.fields(
            &QUERY,
            &mapping.query_parameters,
            &mapping.regex_query_parameters,
            &mapping.v2_bool_query_parameters,
        );
        Some(Matcher { path: path?, authority, method, headers, query })
    }

    fn fields(
        &mut self,
        kind: &FieldKind,
        exact: &BTreeMap<String, String>,
        regex: &BTreeMap<String, String>,
        present: &[String],
    ) -> Vec<FieldMatch> {
        let name_of = |name: &str| -> Box<str> {
            if kind.fold { name.to_ascii_lowercase().into() } else { name.into() }
        };
        let mut fields = Vec::new();
        for (name, value) in exact {
            if kind.fold && name.eq_ignore_ascii_case(":authority") {
                continue;
            }
            fields.push(FieldMatch {
                name: name_of(name),
                value: ValueMatch::Exact(value.as_str().into()),
            });
        }
        // What was `true` in v2 is a presence; conversion may have left its `.*` beside it.
        let bare = present.iter().filter(|n| !exact.contains_key(*n) && !regex.contains_key(*n));
        for name in bare {
            fields.push(FieldMatch { name: name_of(name), value: ValueMatch::Present });
        }
        for (name, text) in regex {
            let path = format!("{}[{name:?}]", kind.regex_path);
            if let Some(pattern) = self.pattern(&path, text) {
                fields.push(FieldMatch { name: name_of(name), value: ValueMatch::Regex(pattern) });
            }
        }
        fields
    }

    fn resolver(&mut self) -> Lookup {
        let facts = self.facts;
        let named = self.mapping.resolver.as_deref().filter(|n| !n.is_empty());
        let (name, path) = match (named, facts.defaults.resolver.as_deref()) {
            (Some(name), _) => (name, "spec.resolver"),
            (None, Some(name)) => (name, ""),
            (None, None) => return facts.default_lookup,
        };
        match facts.resolver(name) {
            Some(Resolver::Service) => Lookup::ClusterIp,
            Some(Resolver::Endpoint) => Lookup::Endpoints,
            Some(Resolver::Consul) => {
                self.problems.consul_not_served(self.object, path, name);
                Lookup::Consul
            }
            None => {
                self.problems.unknown_resolver(self.object, path, name);
                self.refused = true;
                Lookup::Endpoints
            }
        }
    }

    fn service(&mut self, lookup: Lookup) -> Option<Service> {
        let service = match Service::parse(&self.mapping.service) {
            Ok(service) => service,
            Err(error) => {
                self.problems.bad_service(
                    self.object,
                    "spec.service",
                    &self.mapping.service,
                    &error,
                );
                self.refused = true;
                return None;
            }
        };
        if service.excess {
            self.problems.service_excess(self.object, &self.mapping.service);
        }
        if lookup == Lookup::Consul && service.host.contains('.') && service.ip().is_none() {
            self.problems.consul_name_with_dots(self.object, &self.mapping.service);
            self.refused = true;
        }
        Some(service)
    }

    /// The Mapping's own policy, else the Module's.
    fn balancing(&mut self) -> Balancing {
        let path = "spec.load_balancer";
        let Some(written) = &self.mapping.load_balancer else {
            return self.facts.defaults.balancing.clone().unwrap_or_default();
        };
        let balancing = balance::resolve(self.object, path, written, &mut self.problems);
        self.refused |= balancing.is_none();
        balancing.unwrap_or_default()
    }

    /// Whether names stand for one address at a time.
    fn logical_dns(&mut self) -> bool {
        match self.mapping.dns_type.as_deref() {
            None | Some("" | "strict_dns") => false,
            Some("logical_dns") => true,
            Some(other) => {
                self.problems.unknown_dns_type(self.object, other);
                self.refused = true;
                false
            }
        }
    }

    fn role(
        &mut self,
        service: Option<Service>,
        lookup: Lookup,
        Balancing { balancer, hash }: Balancing,
        logical: bool,
    ) -> Option<Role> {
        let mapping = self.mapping;
        let shadow = mapping.shadow.unwrap_or(false);
        if shadow && mapping.host_redirect {
            self.problems.shadow_beats_redirect(self.object);
        }
        if mapping.host_redirect && !shadow {
            return self.redirect(service?).map(|redirect| Role::Redirect(Arc::new(redirect)));
        }
        if !mapping.host_redirect {
            self.stray_redirect_fields();
        }
        let service = self.qualified(service?, lookup);
        let upstream = Arc::new(self.upstream(service, lookup, shadow, balancer, logical));
        if shadow {
            return Some(Role::Shadow(upstream));
        }
        let alone = Arc::new(Forward {
            cluster: Arc::clone(&upstream.name),
            path: self.path_rewrite()?,
            host: self.host_rewrite(),
            timeouts: self.timeouts(),
            upgrades: self.upgrades(),
            hash: hash.map(Box::new),
            shadow: None,
        });
        Some(Role::Forward { upstream, alone })
    }

    fn qualified(&self, service: Service, lookup: Lookup) -> Service {
        let naming = if lookup == Lookup::Consul { Naming::Consul } else { Naming::Kubernetes };
        service.qualified(Qualify {
            namespace: &self.object.namespace,
            own: &self.facts.namespace,
            use_own: self.facts.defaults.use_own_namespace,
            naming,
        })
    }

    /// Protocols that clients may upgrade to, by the names in Upgrade; `connect` is the method.
    fn upgrades(&mut self) -> Vec<Box<str>> {
        let mapping = self.mapping;
        // Emissary: the key counts, not its value.
        let websocket = mapping.use_websocket.map(|_| "websocket");
        let mut upgrades: Vec<Box<str>> = Vec::new();
        for name in mapping.allow_upgrade.iter().map(String::as_str).chain(websocket) {
            let name = name.to_ascii_lowercase().into_boxed_str();
            if &*name == "h2c" {
                self.problems.upgrade_to_h2c(self.object, "spec.allow_upgrade");
            } else if !upgrades.contains(&name) {
                upgrades.push(name);
            }
        }
        upgrades
    }

    fn stray_redirect_fields(&mut self) {
        let mapping = self.mapping;
        for (written, path) in [
            (mapping.path_redirect.is_some(), "spec.path_redirect"),
            (mapping.prefix_redirect.is_some(), "spec.prefix_redirect"),
            (mapping.regex_redirect.is_some(), "spec.regex_redirect"),
            (mapping.redirect_response_code.is_some(), "spec.redirect_response_code"),
        ] {
            if written {
                self.problems.redirect_field_without_host_redirect(self.object, path);
            }
        }
    }

    /// The host is the service as written: a redirect points at a name of the client's world, so
    /// that no namespace is appended and a scheme becomes the Location's.
    fn redirect(&mut self, service: Service) -> Option<Redirect> {
        let mapping = self.mapping;
        let scheme = match service.scheme.as_deref() {
            None => None,
            Some("http") => Some(Scheme::Http),
            Some("https") => Some(Scheme::Https),
            Some(scheme) => {
                self.problems.unknown_scheme(self.object, &mapping.service, scheme);
                None
            }
        };
        let text = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let path = text(&mapping.path_redirect);
        let prefix = text(&mapping.prefix_redirect);
        let regex = mapping.regex_redirect.as_ref();
        if [path.is_some(), prefix.is_some(), regex.is_some()].iter().filter(|w| **w).count() > 1 {
            self.problems.several_redirects(self.object);
            self.refused = true;
        }
        let path = match (path, prefix, regex) {
            (Some(path), _, _) => {
                self.header_safe("spec.path_redirect", &path);
                RedirectPath::Whole(path.into())
            }
            (None, Some(with), _) => {
                self.header_safe("spec.prefix_redirect", &with);
                if mapping.prefix_exact || mapping.prefix_regex {
                    RedirectPath::Whole(with.into())
                } else {
                    RedirectPath::Prefix { len: mapping.prefix.len(), with: with.into() }
                }
            }
            (None, None, Some(regex)) => {
                RedirectPath::Regex(self.substitution("spec.regex_redirect", regex)?)
            }
            (None, None, None) => RedirectPath::Keep,
        };
        let status = match mapping.redirect_response_code {
            None => 301,
            Some(code @ (301 | 302 | 303 | 307 | 308)) => code as u16,
            Some(code) => {
                self.problems.redirect_code(self.object, code);
                self.refused = true;
                301
            }
        };
        Some(Redirect { host: Some(service.authority().into()), scheme, path, status })
    }

    fn substitution(
        &mut self,
        path: &str,
        regex: &crd::mapping::RegexRewrite,
    ) -> Option<Substitution> {
        let pattern = regex.pattern.as_deref().unwrap_or_default();
        let with = regex.substitution.as_deref().unwrap_or_default();
        self.header_safe(path, with);
        match Substitution::parse(pattern, with) {
            Ok(substitution) => Some(substitution),
            Err(error) => {
                self.problems.bad_substitution(self.object, path, &error);
                self.refused = true;
                None
            }
        }
    }

    /// What goes onto the wire as written must not end the line.
    fn header_safe(&mut self, path: &str, text: &str) {
        if text.bytes().any(|b| b.is_ascii_control()) {
            self.problems.control_character(self.object, path);
            self.refused = true;
        }
    }

    fn path_rewrite(&mut self) -> Option<PathRewrite> {
        let mapping = self.mapping;
        let regex = mapping.regex_rewrite.as_ref();
        let regex = regex.filter(|r| r.pattern.as_deref().is_some_and(|p| !p.is_empty()));
        if let Some(regex) = regex {
            if mapping.rewrite.as_deref().is_some_and(|r| !matches!(r, "" | "/")) {
                self.problems.regex_rewrite_beats_rewrite(self.object);
            }
            return self.substitution("spec.regex_rewrite", regex).map(PathRewrite::Regex);
        }
        let with = mapping.rewrite.as_deref().unwrap_or("/");
        self.header_safe("spec.rewrite", with);
        Some(match with {
            "" => PathRewrite::Keep,
            // Emissary: what an exact or regex match has matched is the whole path.
            _ if mapping.prefix_exact || mapping.prefix_regex => PathRewrite::Whole(with.into()),
            _ => PathRewrite::Prefix { len: mapping.prefix.len(), with: with.into() },
        })
    }

    fn host_rewrite(&mut self) -> HostRewrite {
        match self.mapping.host_rewrite.as_deref().filter(|h| !h.is_empty()) {
            Some(host) => {
                self.header_safe("spec.host_rewrite", host);
                if self.mapping.auto_host_rewrite {
                    self.problems.host_rewrite_beats_auto(self.object);
                }
                HostRewrite::Literal(host.into())
            }
            None if self.mapping.auto_host_rewrite => HostRewrite::Auto,
            None => HostRewrite::Keep,
        }
    }

    fn timeouts(&self) -> Timeouts {
        let default = Some(limits::REQUEST_TIMEOUT.as_millis() as u64);
        let request =
            self.mapping.timeout_ms.or(self.facts.defaults.request_timeout_ms).or(default);
        let idle = match self.mapping.idle_timeout_ms {
            Some(idle) => positive_ms(Some(idle)),
            None => Some(limits::STREAM_IDLE_TIMEOUT),
        };
        Timeouts { request: positive_ms(request), idle }
    }

    fn upstream(
        &mut self,
        service: Service,
        lookup: Lookup,
        shadow: bool,
        balancer: Balancer,
        logical: bool,
    ) -> Upstream {
        let (mapping, defaults) = (self.mapping, &self.facts.defaults);
        let tls = self.tls(&service);
        let originates = tls.is_some();
        let protocol = match mapping.grpc {
            Some(true) => UpstreamProtocol::Http2,
            Some(false) | None => UpstreamProtocol::Http1,
        };
        let origination = tls.as_ref().map(|tls| Origination {
            context: tls.clone(),
            sni: mapping.host_rewrite.as_deref().and_then(server_name),
            protocol: mapping.grpc.map_or(UpstreamProtocol::Negotiated, |_| protocol),
        });
        let tls = tls.map(|context| context.map(|(_, name)| name));
        let tls = tls.as_ref().map(|name| name.as_deref().unwrap_or_default());
        let connect_timeout = match mapping.connect_timeout_ms {
            Some(0) => {
                self.problems.zero_connect_timeout(self.object);
                self.refused = true;
                None
            }
            Some(ms) => Some(Duration::from_millis(ms)),
            None => Some(limits::CONNECT_TIMEOUT),
        };
        let pick = |own: Option<u64>, default: Option<u64>| positive_ms(own.or(default));
        let keepalive = mapping
            .keepalive
            .as_ref()
            .or(defaults.keepalive.as_ref())
            .map(|k| Keepalive { probes: k.probes, idle_s: k.idle_time, interval_s: k.interval });
        let respect_ttl = mapping.respect_dns_ttl.unwrap_or(false);
        let mut upstream = Upstream {
            name: "".into(),
            stats_name: stats_name(mapping, defaults, &service),
            port: service.port.unwrap_or(if originates { 443 } else { 80 }),
            port_written: service.port.is_some(),
            host: (&*service.host).into(),
            namespace: Arc::clone(if defaults.use_own_namespace {
                &self.facts.namespace
            } else {
                &self.object.namespace
            }),
            lookup,
            protocol,
            protocol_written: mapping.grpc.is_some(),
            tls: origination,
            balancer,
            connect_timeout,
            idle_timeout: pick(mapping.cluster_idle_timeout_ms, defaults.cluster_idle_timeout_ms),
            max_lifetime: pick(
                mapping.cluster_max_connection_lifetime_ms,
                defaults.cluster_max_connection_lifetime_ms,
            ),
            keepalive,
            ipv4: mapping.enable_ipv4.unwrap_or(defaults.enable_ipv4),
            ipv6: mapping.enable_ipv6.unwrap_or(defaults.enable_ipv6),
            respect_ttl,
            logical,
        };
        upstream.name = self.cluster_name(&upstream, &service, tls, shadow).into();
        upstream
    }

    /// `Some` where TLS is originated, with the TLSContext if one was named.
    fn tls(&mut self, service: &Service) -> Option<Option<(Arc<str>, Arc<str>)>> {
        let context = match self.mapping.tls.as_deref() {
            None | Some("" | "false") => None,
            Some("true") => Some(None),
            Some(name) => {
                let context = self.facts.tls_context(name, &self.object.namespace);
                if context.is_none() {
                    self.problems.unknown_tls_context(self.object, "spec.tls", name);
                    self.refused = true;
                }
                Some(context)
            }
        };
        match (service.tls(), &context) {
            (Some(true), _) => Some(context.unwrap_or_default()),
            (Some(false), Some(_)) if service.scheme.is_some() => {
                self.problems.tls_beats_http(self.object, &self.mapping.service);
                context
            }
            (Some(false), _) => context,
            (None, _) => {
                let scheme = service.scheme.as_deref().unwrap_or_default();
                self.problems.unknown_scheme(self.object, &self.mapping.service, scheme);
                context
            }
        }
    }

    /// Emissary's name, and after it whatever else is not the default, so that equal names mean
    /// equal clusters.
    fn cluster_name(
        &self,
        upstream: &Upstream,
        service: &Service,
        tls: Option<&str>,
        shadow: bool,
    ) -> String {
        let mapping = self.mapping;
        let tag = if shadow { Some("shadow") } else { mapping.cluster_tag.as_deref() };
        let service = service.to_string();
        let host_rewrite = mapping.host_rewrite.as_ref().map(|host| format!("hr-{host}"));
        let mut fields: Vec<&str> = vec!["cluster"];
        fields.extend(tag.filter(|t| !t.is_empty()));
        fields.push(&service);
        if let Some(context) = tls {
            fields.push("otls");
            fields.extend(Some(context).filter(|c| !c.is_empty()));
            fields.extend(host_rewrite.as_deref());
        }
        fields.push(&self.object.namespace);

        let mut more = Vec::new();
        let ms = |prefix: &str, value: Option<Duration>| {
            value.map(|v| format!("{prefix}{}", v.as_millis()))
        };
        if upstream.connect_timeout != Some(limits::CONNECT_TIMEOUT) {
            more.extend(ms("ct", upstream.connect_timeout));
        }
        more.extend(ms("it", upstream.idle_timeout));
        more.extend(ms("ml", upstream.max_lifetime));
        if let Some(Keepalive { probes, idle_s, interval_s }) = upstream.keepalive {
            let text = |v: Option<u32>| v.map_or_else(String::new, |v| v.to_string());
            more.push(format!("ka{}-{}-{}", text(probes), text(idle_s), text(interval_s)));
        }
        if upstream.protocol == UpstreamProtocol::Http2 {
            more.push("grpc".to_owned());
        } else if upstream.protocol_written {
            more.push("http1".to_owned());
        }
        if (upstream.ipv4, upstream.ipv6) != (true, false) {
            let family = |on: bool, name| if on { name } else { "" };
            more.push(format!("ip{}{}", family(upstream.ipv4, "4"), family(upstream.ipv6, "6")));
        }
        if upstream.respect_ttl {
            more.push("ttl".to_owned());
        }
        if upstream.logical {
            more.push("logical".to_owned());
        }
        if !upstream.balancer.is_default() {
            more.push(upstream.balancer.as_str().to_owned());
        }
        if upstream.lookup != self.facts.default_lookup {
            more.push(
                match upstream.lookup {
                    Lookup::Endpoints => "endpoint",
                    Lookup::ClusterIp => "dns",
                    Lookup::Consul => "consul",
                }
                .to_owned(),
            );
        }
        if mapping.stats_name.is_some() {
            more.push(format!("sn-{}", upstream.stats_name));
        }
        fields.extend(more.iter().map(String::as_str));
        service::cluster_name(&fields)
    }

    fn edits(&mut self, role: &Option<Role>) -> (Edits, Edits) {
        let (mapping, defaults) = (self.mapping, &self.facts.defaults);
        let linkerd = mapping.add_linkerd_headers.unwrap_or(defaults.add_linkerd_headers);
        let mut request = Edits {
            remove: self.removals(
                "spec.remove_request_headers",
                mapping
                    .remove_request_headers
                    .as_ref()
                    .or(defaults.remove_request_headers.as_ref()),
            ),
            add: self.additions(
                "spec.add_request_headers",
                mapping.add_request_headers.as_ref().or(defaults.add_request_headers.as_ref()),
            ),
        };
        if let (true, Some(Role::Forward { upstream, .. })) = (linkerd, role) {
            let host = if upstream.host.contains(':') {
                format!("[{}]", upstream.host)
            } else {
                upstream.host.to_string()
            };
            let text = format!("{host}:{}", upstream.port);
            if let Ok(value) = Format::parse(&text) {
                request.add.push(Add { name: "l5d-dst-override".into(), value, append: true });
            }
        }
        let response = Edits {
            remove: self.removals(
                "spec.remove_response_headers",
                mapping
                    .remove_response_headers
                    .as_ref()
                    .or(defaults.remove_response_headers.as_ref()),
            ),
            add: self.additions(
                "spec.add_response_headers",
                mapping.add_response_headers.as_ref().or(defaults.add_response_headers.as_ref()),
            ),
        };
        (request, response)
    }

    fn removals(&mut self, path: &str, names: Option<&Vec<String>>) -> Option<Vec<Box<str>>> {
        let names = names?;
        let mut kept = Vec::with_capacity(names.len());
        for (at, name) in names.iter().enumerate() {
            if self.editable(&format!("{path}[{at}]"), name) {
                kept.push(name.as_str().into());
            }
        }
        Some(kept)
    }

    fn additions(
        &mut self,
        path: &str,
        headers: Option<&BTreeMap<String, crd::mapping::AddedHeader>>,
    ) -> Vec<Add> {
        let mut adds = Vec::new();
        for (name, header) in headers.into_iter().flatten() {
            let path = format!("{path}[{name:?}]");
            if !self.editable(&path, name) {
                continue;
            }
            let text = header.value.as_deref().unwrap_or_default();
            self.header_safe(&path, text);
            match Format::parse(text) {
                Ok(value) => {
                    let append = header.append.unwrap_or(true);
                    adds.push(Add { name: name.as_str().into(), value, append });
                }
                Err(error) => {
                    self.problems.bad_format(self.object, &path, &error);
                    self.refused = true;
                }
            }
        }
        adds
    }

    /// Whether edits may touch this header: the gateway writes the framing itself.
    fn editable(&mut self, path: &str, name: &str) -> bool {
        const FRAMING: [&str; 8] = [
            "connection",
            "content-length",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ];
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) || name.eq_ignore_ascii_case("host") {
            self.problems.bad_header_name(self.object, path, name);
            self.refused = true;
            return false;
        }
        if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
            self.problems.framing_header(self.object, path, name);
            return false;
        }
        true
    }

    /// Emissary's group id, with the kind of path match in it.
    fn group_key(&self, hostname: &Hostname, rank: &EmissaryRank, labels: &Labels) -> GroupKey {
        let mapping = self.mapping;
        let mut key = String::with_capacity(128);
        let mut part = |text: &str| {
            key.push_str(text);
            key.push('\u{0}');
        };
        part(&mapping.prefix);
        part(match (mapping.prefix_regex, mapping.prefix_exact) {
            (true, _) => "regex",
            (false, true) => "exact",
            (false, false) => "prefix",
        });
        part(if mapping.case_sensitive.unwrap_or(true) || mapping.prefix_regex { "" } else { "i" });
        part(&rank.precedence.to_string());
        part(if mapping.method_regex { "method-regex" } else { "" });
        part(if *hostname == Hostname::Regex { "host-regex" } else { "" });
        // A name is followed by its kind, so that an exact value never equals a regex.
        for (key, kind) in rank.header_keys.iter().zip(kinds(mapping)) {
            part(key);
            part(kind);
        }
        part("?");
        for (name, value) in &mapping.query_parameters {
            part(name);
            part("=");
            part(value);
        }
        for (name, value) in &mapping.regex_query_parameters {
            part(name);
            part("~");
            part(value);
        }
        for name in &mapping.v2_bool_query_parameters {
            part(name);
            part("*");
        }
        // Emissary: a Mapping without a hostname is told apart by the labels that Hosts choose it by.
        if !matches!(hostname, Hostname::Glob(_)) {
            for selector in &self.facts.host_selectors {
                let matches = selector.iter().all(|(k, v)| labels.0.get(k) == Some(v));
                for (name, value) in selector.iter().filter(|_| matches) {
                    part(name);
                    part(value);
                }
            }
        }
        GroupKey::of(&key)
    }
}

struct FieldKind {
    regex_path: &'static str,
    /// Names are compared in lower case.
    fold: bool,
}

const HEADERS: FieldKind = FieldKind { regex_path: "spec.regex_headers", fold: true };
const QUERY: FieldKind = FieldKind { regex_path: "spec.regex_query_parameters", fold: false };

/// The kind of each entry of [`EmissaryRank::header_keys`], in their order.
fn kinds(mapping: &crd::Mapping) -> impl Iterator<Item = &'static str> {
    let exact = mapping.headers.keys().filter(|n| !n.eq_ignore_ascii_case(":authority")).count();
    let present = mapping.v2_bool_headers.iter();
    let present = present
        .filter(|n| !mapping.headers.contains_key(*n) && !mapping.regex_headers.contains_key(*n))
        .count();
    let regex = mapping.regex_headers.len();
    std::iter::repeat_n("=", exact)
        .chain(std::iter::repeat_n("*", present))
        .chain(std::iter::repeat_n("~", regex))
        .chain(std::iter::repeat(""))
}

/// Emissary's sort key. Lengths and texts are those of the names as written, in lower case.
fn rank(mapping: &crd::Mapping, matcher: &Matcher) -> EmissaryRank {
    let entry = |field: &FieldMatch| entry(&field.name, &field.value);
    let mut headers: Vec<(usize, Box<str>)> = matcher.headers.iter().map(entry).collect();
    headers.extend(authority_entry(mapping));
    headers.extend(matcher.method.as_ref().map(|method| self::entry(":method", method)));
    let query: Vec<(usize, Box<str>)> = matcher.query.iter().map(entry).collect();
    let method = mapping.method.as_deref().filter(|m| !m.is_empty()).unwrap_or("GET");
    EmissaryRank {
        precedence: mapping.precedence.unwrap_or(0),
        path_len: mapping.prefix.chars().count(),
        header_len: headers.iter().map(|(len, _)| len).sum(),
        query_len: query.iter().map(|(len, _)| len).sum(),
        path: mapping.prefix.as_str().into(),
        method: method.into(),
        header_keys: keys(headers),
        query_keys: keys(query),
    }
}

/// In a list of their own, without the room that the lengths took.
fn keys(entries: Vec<(usize, Box<str>)>) -> Vec<Box<str>> {
    let mut keys = Vec::with_capacity(entries.len());
    keys.extend(entries.into_iter().map(|(_, key)| key));
    keys
}

fn entry(name: &str, value: &ValueMatch) -> (usize, Box<str>) {
    let (text, regex) = match value {
        ValueMatch::Exact(text) if text.is_empty() => ("*", 0),
        ValueMatch::Exact(text) => (&**text, 0),
        ValueMatch::Regex(pattern) => (pattern.as_str(), 1),
        ValueMatch::Present => ("*", 0),
    };
    let len = name.chars().count() + text.chars().count() + regex;
    (len, format!("{name}-{text}").into())
}

/// `:authority` counts also where it is `*` and needs no matcher.
fn authority_entry(mapping: &crd::Mapping) -> Option<(usize, Box<str>)> {
    let written = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let header = || {
        let found = mapping.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(":authority"));
        found.map(|(_, value)| value.clone())
    };
    let hostname = written(&mapping.hostname);
    let regex = hostname.is_none() && mapping.host_regex && mapping.host.is_some();
    let host = hostname.or_else(|| written(&mapping.host)).or_else(header)?;
    let host = if regex { host } else { one_spelling(&host) };
    let len = ":authority".len() + host.chars().count() + usize::from(regex);
    Some((len, format!(":authority-{host}").into()))
}

/// `stats_name`, else the Module's, else the service.
fn stats_name(mapping: &crd::Mapping, defaults: &Defaults, service: &Service) -> Arc<str> {
    match mapping.stats_name.as_ref().or(defaults.stats_name.as_ref()) {
        Some(name) if !name.is_empty() => name.as_str().into(),
        _ => service::mangle(&service.authority()).into(),
    }
}

/// A host name in lower case without its trailing dot, as requests are compared.
pub(crate) fn one_spelling(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// What of a rewritten host can be sent as a server name: as it is, without its port.
fn server_name(host: &str) -> Option<Box<str>> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    crate::tls::is_server_name(name).then(|| name.into())
}

/// Zero switches off.
fn positive_ms(ms: Option<u64>) -> Option<Duration> {
    ms.filter(|ms| *ms > 0).map(Duration::from_millis)
}

#[cfg(test)]
mod tests;
