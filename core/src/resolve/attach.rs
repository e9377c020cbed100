// SPDX-License-Identifier: Apache-2.0
//! Which groups a Host serves, which Hosts a Listener binds, and why something ends up nowhere.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::ir::{self, Protocol, TcpRoute, TlsChain, VirtualHost};
use crate::problem::Problems;
use crate::share::share;
use crate::tls;

use super::group::Built;
use super::host::{Apart, Host};
use super::listener::Listener;
use super::mapping::Hostname;
use super::tcp_mapping;
use super::tls::HostTls;
use super::{group, guard, hostglob, memo};

/// Groups in decision order, found by what a Host can take.
struct Directory<'a> {
    groups: &'a [Arc<Built>],
    strict: bool,
    /// Made for the first Host that needs it: a Host of every name looks at all groups.
    places: OnceCell<Places<'a>>,
}

#[derive(Default)]
struct Places<'a> {
    /// Places of the groups of one literal host name.
    literal: HashMap<&'a str, Vec<usize>, RandomState>,
    /// Places of all others.
    open: Vec<usize>,
}

impl<'a> Directory<'a> {
    fn of(groups: &'a [Arc<Built>], strict: bool) -> Self {
        Self { groups, strict, places: OnceCell::new() }
    }

    fn places(&self) -> &Places<'a> {
        self.places.get_or_init(|| {
            let mut places = Places::default();
            for (at, built) in self.groups.iter().enumerate() {
                match &built.hostname {
                    Hostname::Glob(name) if !hostglob::is_glob(name) && !built.internal => {
                        places.literal.entry(name).or_default().push(at);
                    }
                    _ => places.open.push(at),
                }
            }
            places
        })
    }

    /// The groups of a Host in decision order; marks each in `attached`.
    fn groups_of(&self, host: &Host, attached: &mut [bool]) -> Vec<&'a Arc<Built>> {
        let mut groups = Vec::new();
        let all = self.groups;
        let mut take = |at: usize| {
            if takes(host, &all[at], self.strict).is_some() {
                attached[at] = true;
                groups.push(&all[at]);
            }
        };
        // A loose selector chooses Mappings of any host name.
        let every = hostglob::is_glob(&host.hostname) || (!self.strict && host.selector.is_some());
        if every {
            (0..self.groups.len()).for_each(take);
            return groups;
        }
        let places = self.places();
        let literal = places.literal.get(&*host.hostname).map_or(&[][..], Vec::as_slice);
        // Both lists are sorted: walk them together.
        let (mut a, mut b) = (literal.iter().peekable(), places.open.iter().peekable());
        while let Some(&at) = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x < y => a.next(),
            (Some(_), None) => a.next(),
            (_, Some(_)) => b.next(),
            (None, None) => None,
        } {
            take(at);
        }
        groups
    }
}

/// The group, if a Host serves it.
fn takes<'b>(host: &Host, built: &'b Built, strict: bool) -> Option<&'b Arc<ir::Group>> {
    let taken = built.internal || host.takes(&built.hostname, &built.labels, strict).is_ok();
    built.group.as_ref().filter(|_| taken)
}

/// What Hosts serve, as last found.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    /// By the Hosts, in their order.
    hosts: Vec<Attached>,
    /// Groups that no Host took, in decision order.
    nowhere: Vec<Arc<Built>>,
}

/// What one Host serves.
#[derive(Debug)]
struct Attached {
    host: Host,
    /// Where the groups of the virtual host are from, one for each.
    taken: Vec<Arc<Built>>,
    virtual_host: Arc<VirtualHost>,
}

/// Groups that took the places of others.
#[derive(Debug, Default)]
pub(crate) struct Regrouped {
    /// The addresses of those that are gone.
    pub(crate) gone: HashSet<usize, RandomState>,
    pub(crate) fresh: Vec<Arc<Built>>,
}

impl Attachments {
    /// Brings them up to date; `order` has all groups in decision order.
    pub(crate) fn update(
        &mut self,
        hosts: &[Host],
        order: &[Arc<Built>],
        regrouped: Regrouped,
        strict: bool,
    ) {
        let known = self.hosts.iter().map(|attached| &attached.host);
        if regrouped.fresh.len() > memo::FEW || !known.eq(hosts) {
            self.attach(hosts, order, strict);
            return;
        }
        let Regrouped { gone, fresh } = regrouped;
        let mut attached: Vec<bool> = fresh.iter().map(|built| built.group.is_none()).collect();
        for host in &mut self.hosts {
            host.follow(&gone, &fresh, &mut attached, strict);
        }
        let nowhere = fresh.into_iter().zip(attached).filter(|(_, attached)| !attached);
        let nowhere = nowhere.map(|(built, _)| built).collect();
        memo::update(&mut self.nowhere, &gone, nowhere, group::decide);
    }

    /// All anew; virtual hosts that are what they were keep their pointers.
    fn attach(&mut self, hosts: &[Host], order: &[Arc<Built>], strict: bool) {
        let mut known: HashMap<Arc<str>, Vec<Attached>, RandomState> = HashMap::default();
        for old in self.hosts.drain(..) {
            known.entry(Arc::clone(&old.host.hostname)).or_default().push(old);
        }
        let directory = Directory::of(order, strict);
        let mut attached: Vec<bool> = order.iter().map(|built| built.group.is_none()).collect();
        for host in hosts {
            let groups = directory.groups_of(host, &mut attached);
            let mut taken = Vec::with_capacity(groups.len());
            share(&groups, &mut taken);
            let groups: Vec<&Arc<ir::Group>> =
                groups.iter().filter_map(|built| built.group.as_ref()).collect();
            let old = known.get(&host.hostname).into_iter().flatten().find(|old| {
                let before = &old.virtual_host.groups;
                old.host == *host
                    && before.len() == groups.len()
                    && before.iter().zip(&groups).all(|(a, b)| Arc::ptr_eq(a, b))
            });
            let virtual_host = match old {
                Some(old) => Arc::clone(&old.virtual_host),
                None => {
                    let mut shared = Vec::with_capacity(groups.len());
                    share(&groups, &mut shared);
                    Arc::new(virtual_host(host, shared))
                }
            };
            self.hosts.push(Attached { host: host.clone(), taken, virtual_host });
        }
        let nowhere = order.iter().zip(attached).filter(|(_, attached)| !attached);
        self.nowhere = nowhere.map(|(built, _)| Arc::clone(built)).collect();
    }

    /// One per Host, in their order.
    pub(crate) fn virtual_hosts(&self) -> Vec<Arc<VirtualHost>> {
        self.hosts.iter().map(|attached| Arc::clone(&attached.virtual_host)).collect()
    }
}

impl Attached {
    /// Lets go of groups that are gone, and takes of the fresh ones what it serves: marks them.
    fn follow(
        &mut self,
        gone: &HashSet<usize, RandomState>,
        fresh: &[Arc<Built>],
        attached: &mut [bool],
        strict: bool,
    ) {
        let is_gone = |built: &Arc<Built>| gone.contains(&memo::address(built));
        let mut wanted = Vec::new();
        for (built, attached) in fresh.iter().zip(attached) {
            if let Some(group) = takes(&self.host, built, strict) {
                *attached = true;
                wanted.push((built, group));
            }
        }
        if wanted.is_empty() && !self.taken.iter().any(is_gone) {
            return;
        }
        let mut groups = Vec::with_capacity(self.taken.len() + wanted.len());
        share(&self.virtual_host.groups, &mut groups);
        let mut taken = self.taken.iter();
        groups.retain(|_| !taken.next().is_some_and(is_gone));
        self.taken.retain(|built| !is_gone(built));
        for (built, group) in wanted {
            let at = self.taken.partition_point(|other| group::decide(other, built).is_lt());
            self.taken.insert(at, Arc::clone(built));
            groups.insert(at, Arc::clone(group));
        }
        self.virtual_host = Arc::new(virtual_host(&self.host, groups));
    }
}

fn virtual_host(host: &Host, groups: Vec<Arc<ir::Group>>) -> VirtualHost {
    VirtualHost {
        domain: Arc::clone(&host.hostname),
        host: host.object.clone(),
        insecure: host.insecure,
        refusal: host.refusal.clone(),
        groups,
    }
}

/// Says of every group that no Host took what keeps them apart.
pub(crate) fn explain_unattached(
    attachments: &Attachments,
    hosts: &[Host],
    strict: bool,
    problems: &mut Problems,
) {
    for built in &attachments.nowhere {
        for mapping in &built.members {
            let object = &mapping.object;
            if hosts.is_empty() {
                problems.no_host(object);
                continue;
            }
            let apart = |host: &Host| host.takes(&built.hostname, &built.labels, strict).err();
            let by_labels = hosts.iter().find(|host| apart(host) == Some(Apart::Labels));
            match (by_labels, &built.hostname) {
                (Some(host), _) => {
                    let wanted = host.selector.iter().flatten();
                    let missing = wanted
                        .filter(|(name, value)| built.labels.0.get(*name) != Some(value))
                        .map(|(name, value)| format!("{name}: {value}"));
                    let missing: Vec<String> = missing.collect();
                    problems.labels_match_no_host(object, name(host), &missing.join(", "));
                }
                (None, Hostname::Glob(glob)) => {
                    let names: Vec<&str> = hosts.iter().map(|h| &*h.hostname).take(4).collect();
                    problems.hostname_matches_no_host(object, glob, &names);
                }
                (None, _) => problems.nothing_to_go_by(object, &hosts[0].hostname),
            }
        }
    }
}

fn name(host: &Host) -> &str {
    host.object.as_ref().map_or("", |object| &object.name)
}

/// What each Listener serves: virtual hosts, most specific domain first (of Hosts with one
/// hostname the oldest serves), and TCPMappings. `termination` finds what TLS is terminated with
/// for a TCPMapping's host.
pub(crate) fn listeners(
    listeners: &[Listener],
    hosts: &[Host],
    virtual_hosts: &[Arc<VirtualHost>],
    strict: bool,
    tcp: &[tcp_mapping::Group],
    termination: &mut dyn FnMut(&str) -> Option<Arc<tls::Server>>,
    problems: &mut Problems,
) -> Vec<ir::Listener> {
    let mut bound = vec![false; hosts.len()];
    let mut losers: Vec<(usize, usize)> = Vec::new();
    let mut outshone: BTreeMap<usize, usize> = BTreeMap::new();
    let mut served = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let mut winners: HashMap<&str, usize, RandomState> = HashMap::default();
        for (at, host) in hosts.iter().enumerate().filter(|(_, h)| listener.binds(h, strict)) {
            bound[at] = true;
            let winner = winners.entry(&host.hostname).or_insert(at);
            if *winner != at {
                let (older, younger) =
                    if age(host) < age(&hosts[*winner]) { (at, *winner) } else { (*winner, at) };
                *winner = older;
                losers.push((younger, older));
            }
        }
        let here = tcp.iter().filter(|group| group.address == listener.address);
        let here: Vec<&tcp_mapping::Group> = here.filter(|_| !listener.is_udp()).collect();
        if winners.is_empty() && here.is_empty() {
            problems.listener_without_hosts(&listener.object);
            continue;
        }
        if listener.is_udp() {
            problems.stack_not_served(&listener.object);
            continue;
        }
        if !listener.has(Protocol::Http) {
            if here.is_empty() {
                problems.listener_without_tcp_mapping(&listener.object);
                continue;
            }
            winners.clear();
        }
        let tunnels = tunnels(listener, &here, termination, problems);
        let mut chosen: Vec<usize> = winners.into_values().collect();
        chosen.sort_by_cached_key(|at| hostglob::specificity(&hosts[*at].hostname));
        let mut chosen_hosts: Vec<Arc<VirtualHost>> =
            chosen.iter().map(|at| Arc::clone(&virtual_hosts[*at])).collect();
        let mut chains = tunnels.chains;
        if listener.has(Protocol::Tls) {
            let of_hosts = Chains::of(&chosen, hosts);
            for (loser, _) in &of_hosts.losers {
                // Another configuration would let in whom its own keeps out.
                if let (true, Some(object)) =
                    (hosts[*loser].tls.asks_clients(), &hosts[*loser].object)
                    && let Some(at) = chosen.iter().position(|at| at == loser)
                {
                    Arc::make_mut(&mut chosen_hosts[at]).refusal = Some(guard::refusal(object));
                }
            }
            outshone.extend(of_hosts.losers);
            chains.extend(of_hosts.chains);
            chains.sort_by(|a, b| {
                hostglob::specificity(&a.server_name).cmp(&hostglob::specificity(&b.server_name))
            });
            // Emissary: a TCPMapping comes before a Host of its name.
            chains.dedup_by(|later, first| later.server_name == first.server_name);
        }
        served.push(ir::Listener {
            object: listener.object.clone(),
            address: listener.address,
            stats_prefix: Arc::clone(&listener.stats_prefix),
            stack: listener.stack.clone(),
            security: listener.security,
            l7_depth: listener.l7_depth,
            http2_streams_max: listener.http2_streams_max,
            tls: chains,
            tcp: tunnels.cleartext,
            virtual_hosts: chosen_hosts,
        });
    }
    losers.sort_unstable();
    losers.dedup_by_key(|(loser, _)| *loser);
    for (loser, winner) in losers {
        if let (Some(object), Some(other)) = (&hosts[loser].object, &hosts[winner].object) {
            problems.hostname_taken(object, &hosts[loser].hostname, other);
        }
    }
    for (loser, winner) in outshone {
        let (loser, winner) = (&hosts[loser], &hosts[winner]);
        let objects = (&loser.object, &winner.object);
        if let (true, (Some(object), Some(other))) = (loser.tls.is_terminated(), objects) {
            problems.server_name_taken(object, server_name(&loser.hostname), other);
        }
    }
    for (host, _) in hosts.iter().zip(bound).filter(|(_, bound)| !bound && !listeners.is_empty()) {
        if let Some(object) = &host.object {
            problems.host_without_listener(object);
        }
    }
    served
}

/// What TCPMappings take of a Listener's connections.
#[derive(Default)]
struct Tunnels {
    cleartext: Option<Arc<TcpRoute>>,
    chains: Vec<Arc<TlsChain>>,
}

fn tunnels(
    listener: &Listener,
    groups: &[&tcp_mapping::Group],
    termination: &mut dyn FnMut(&str) -> Option<Arc<tls::Server>>,
    problems: &mut Problems,
) -> Tunnels {
    let mut tunnels = Tunnels::default();
    for group in groups {
        let Some(host) = &group.host else {
            if listener.has(Protocol::Http) {
                problems.tcp_takes_cleartext(&group.members[0], &listener.object);
            }
            tunnels.cleartext = Some(Arc::clone(&group.route));
            continue;
        };
        if !listener.has(Protocol::Tls) {
            for object in &group.members {
                problems.tcp_host_without_tls(object, &listener.object);
            }
            continue;
        }
        let Some(termination) = termination(host) else {
            for object in &group.members {
                problems.tcp_host_without_certificate(object, host);
            }
            continue;
        };
        tunnels.chains.push(Arc::new(TlsChain {
            server_name: Arc::clone(host),
            object: Some(group.members[0].clone()),
            termination: Some(termination),
            tcp: Some(Arc::clone(&group.route)),
        }));
    }
    tunnels
}

/// What becomes of TLS by server name.
struct Chains {
    chains: Vec<Arc<TlsChain>>,
    /// Hosts whose server name another Host has with another configuration, and that Host.
    losers: Vec<(usize, usize)>,
}

impl Chains {
    /// The chains of some Hosts, which are given by their places. Hosts that differ by their port
    /// only share a server name, and therefore its TLS: who has one comes before who has none, and
    /// then the oldest.
    fn of(places: &[usize], hosts: &[Host]) -> Self {
        let mut winners: HashMap<&str, usize, RandomState> = HashMap::default();
        let mut losers = Vec::new();
        let rank = |at: usize| (!hosts[at].tls.is_terminated(), age(&hosts[at]));
        for &at in places.iter().filter(|at| hosts[**at].tls != HostTls::None) {
            let winner = winners.entry(server_name(&hosts[at].hostname)).or_insert(at);
            if *winner == at || hosts[*winner].tls == hosts[at].tls {
                continue;
            }
            let (first, second) =
                if rank(at) < rank(*winner) { (at, *winner) } else { (*winner, at) };
            *winner = first;
            losers.push((second, first));
        }
        let chain = |(name, at): (&str, usize)| TlsChain {
            server_name: name.into(),
            object: hosts[at].object.clone(),
            termination: hosts[at].tls.termination().cloned(),
            tcp: None,
        };
        Self { chains: winners.into_iter().map(|named| Arc::new(chain(named))).collect(), losers }
    }
}

/// A hostname without its port: a server name has none.
pub(crate) fn server_name(hostname: &str) -> &str {
    let is_port = |port: &str| port == "*" || port.bytes().all(|b| b.is_ascii_digit());
    match hostname.rsplit_once(':') {
        Some((name, port)) if is_port(port) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => hostname,
    }
}

/// The oldest is the least: creation, then namespace and name.
fn age(host: &Host) -> (i64, &str, &str) {
    let name = host.object.as_ref().map_or("", |object| &object.name);
    (host.created.unwrap_or(i64::MAX), &host.namespace, name)
}

#[cfg(test)]
mod tests;
