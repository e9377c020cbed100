// SPDX-License-Identifier: Apache-2.0
//! Lookups and compilations over the shapes that tables have: nanoseconds per lookup, milliseconds
//! per compilation, the median of several runs. `cargo bench -p ringway-core`.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use ringway_core::ir::{
    self, AuthorityMatch, EmissaryRank, FieldMatch, InsecureAction, Ir, Matcher, PathMatch,
    ValueMatch,
};
use ringway_core::name::{Generation, Kind, Ref};
use ringway_core::policy::headers::HeaderEdits;
use ringway_core::policy::pattern::Pattern;
use ringway_core::policy::rewrite::{HostRewrite, PathRewrite};
use ringway_core::policy::timeouts::Timeouts;
use ringway_core::table::{self, Hit, Slots, Table, compile};
use ringway_core::wire::{Field, Head, HeadView, Known, Span};

fn main() {
    println!("{:<44} {:>10} {:>10} {:>12}", "shape", "lookup ns", "cold ms", "1 change ms");
    for n in [10, 1_000, 10_000] {
        measure(&format!("{n} prefixes on one host"), n, n, |i| {
            (0, matcher(prefix(format!("/svc-{i}/api/"))), format!("/svc-{i}/api/users/42"))
        });
    }
    for n in [10, 1_000, 10_000] {
        measure(&format!("{n} routes, 10 per host"), n, n, |i| {
            (i / 10, matcher(prefix(format!("/p{}/", i % 10))), format!("/p{}/users/42", i % 10))
        });
    }
    for n in [10, 1_000, 10_000] {
        measure(&format!("{n} host names, one prefix, one * host"), n, n, |i| {
            let mut matcher = matcher(prefix("/".into()));
            matcher.authority = Some(AuthorityMatch::Exact(authority(i).into()));
            (0, matcher, "/users/42".into())
        });
    }
    for n in [10, 1_000] {
        measure(&format!("{n} regexes that begin with a literal"), n, n, |i| {
            let pattern = Pattern::parse(&format!("/svc-{i}/[0-9]+/.*")).expect("parses");
            (0, matcher(PathMatch::Regex(pattern)), format!("/svc-{i}/42/users"))
        });
        measure(&format!("{n} regexes that do not"), n, n, |i| {
            let pattern = Pattern::parse(&format!("/[a-z]+/svc-{i}/.*")).expect("parses");
            (0, matcher(PathMatch::Regex(pattern)), format!("/users/svc-{i}/42"))
        });
    }
    for n in [10, 1_000, 10_000] {
        measure(&format!("{n} header canaries on one prefix"), n, 0, |i| {
            let mut matcher = matcher(prefix("/".into()));
            let value = ValueMatch::Exact(format!("t{i}").into());
            matcher.headers.push(FieldMatch { name: "x-tenant".into(), value });
            (0, matcher, format!("/t{i}"))
        });
    }
}

fn authority(i: usize) -> String {
    format!("h{i}.example.com")
}

fn prefix(text: String) -> PathMatch {
    PathMatch::Prefix { text: text.into(), case_sensitive: true }
}

fn matcher(path: PathMatch) -> Matcher {
    Matcher { path, authority: None, method: None, headers: Vec::new(), query: Vec::new() }
}

/// `make`: virtual host, clauses and a path that matches, per route. `n_named` hosts have names
/// of their own in requests.
fn measure(
    shape: &str,
    n: usize,
    n_named: usize,
    make: impl Fn(usize) -> (usize, Matcher, String),
) {
    let made: Vec<_> = (0..n).map(&make).collect();
    let n_hosts = made.iter().map(|(host, ..)| host + 1).max().unwrap_or(1);
    let mut groups = vec![Vec::new(); n_hosts];
    let mut ir = Ir::default();
    for (i, (host, matcher, _)) in made.iter().enumerate() {
        groups[*host].push(Arc::new(group(&mut ir, i, matcher.clone())));
    }
    let virtual_hosts = groups.into_iter().enumerate().map(|(at, mut groups)| {
        groups.sort_by(|a: &Arc<ir::Group>, b| b.rank.cmp(&a.rank));
        let domain = if n_hosts == 1 { "*".to_owned() } else { authority(at) };
        Arc::new(ir::VirtualHost {
            domain: domain.into(),
            host: None,
            insecure: InsecureAction::Route,
            refusal: None,
            groups,
        })
    });
    ir.listeners.push(ir::Listener {
        object: Ref::new(Kind::Listener, "default", "l"),
        address: ([127, 0, 0, 1], 8080).into(),
        stats_prefix: "ingress_http".into(),
        stack: vec![ir::Protocol::Http, ir::Protocol::Tcp],
        security: ir::SecurityModel::Xfp,
        l7_depth: 0,
        tls: Vec::new(),
        tcp: None,
        virtual_hosts: virtual_hosts.collect(),
    });

    let compiled = |slots: &mut Slots, ir: &Ir, previous: Option<&Table>| {
        compile(ir, Generation(1), slots, previous).expect("compiles")
    };
    let cold = median(5, || {
        let start = Instant::now();
        black_box(compiled(&mut Slots::new(), &ir, None));
        start.elapsed().as_secs_f64() * 1e3
    });
    let mut slots = Slots::new();
    let table = compiled(&mut slots, &ir, None);
    let warm = median(9, || {
        let mut next = ir.clone();
        let host = Arc::make_mut(&mut next.listeners[0].virtual_hosts[0]);
        let at = host.groups.len() / 2;
        let changed = Arc::make_mut(&mut host.groups[at]);
        Arc::make_mut(&mut changed.members[0].route).always = true;
        let start = Instant::now();
        black_box(compiled(&mut slots, &next, Some(&table)));
        start.elapsed().as_secs_f64() * 1e3
    });

    // Requests in an order that no prefetcher follows.
    let order: Vec<usize> = (0..1024).map(|i| (i * 2_654_435_761_usize) % n).collect();
    let requests: Vec<_> = order
        .iter()
        .map(|&i| {
            let (host, _, path) = &made[i];
            let named = if n_hosts > 1 { *host } else { i % n_named.max(1) };
            Sent::new(&authority(named), path, &format!("t{i}"))
        })
        .collect();
    let lookup = median(9, || {
        let rounds = 50;
        let start = Instant::now();
        for _ in 0..rounds {
            for request in &requests {
                let hit = table.listeners[0].route(&request.request(), black_box(50));
                assert!(matches!(hit, Hit::Forward { .. }));
            }
        }
        start.elapsed().as_secs_f64() * 1e9 / (rounds * requests.len()) as f64
    });
    println!("{shape:<44} {lookup:>10.0} {cold:>10.2} {warm:>12.2}");
}

fn group(ir: &mut Ir, i: usize, matcher: Matcher) -> ir::Group {
    let cluster: Arc<str> = format!("cluster_{i}").into();
    ir.clusters.insert(Arc::clone(&cluster), Arc::new(upstream(&cluster)));
    let path = match &matcher.path {
        PathMatch::Prefix { text, .. } | PathMatch::Exact { text, .. } => text.clone(),
        PathMatch::Regex(pattern) => pattern.as_str().into(),
    };
    let fields: BTreeMap<_, _> =
        matcher.headers.iter().map(|field| (field.name.clone(), &field.value)).collect();
    let value = |value: &ValueMatch| match value {
        ValueMatch::Exact(text) => text.to_string(),
        ValueMatch::Regex(pattern) => pattern.as_str().to_owned(),
        ValueMatch::Present => "*".to_owned(),
    };
    let rank = EmissaryRank {
        path_len: path.len(),
        path,
        header_keys: fields.iter().map(|(n, v)| format!("{n}-{}", value(v)).into()).collect(),
        ..EmissaryRank::default()
    };
    let forward = ir::Forward {
        cluster,
        path: PathRewrite::Keep,
        host: HostRewrite::Keep,
        timeouts: Timeouts { request: None, idle: None },
        upgrades: Vec::new(),
        hash: None,
        shadow: None,
    };
    let route = ir::Route {
        object: Ref::new(Kind::Mapping, "default", format!("m{i}")),
        action: ir::Action::Forward(forward),
        refusal: None,
        always: false,
        unguarded: false,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    };
    ir::Group { matcher, rank, members: vec![ir::Member { from: 0, to: 100, route: route.into() }] }
}

fn upstream(name: &Arc<str>) -> ir::Cluster {
    ir::Cluster {
        name: Arc::clone(name),
        stats_name: Arc::clone(name),
        source: ir::EndpointSource::Static(Vec::new()),
        host: Arc::clone(name),
        transport: ir::Transport::Cleartext,
        balancer: Default::default(),
        connect_timeout: None,
        idle_timeout: None,
        max_lifetime: None,
        keepalive: None,
    }
}

fn median(runs: usize, mut run: impl FnMut() -> f64) -> f64 {
    let mut times: Vec<_> = (0..runs).map(|_| run()).collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

/// A request with a browser's worth of headers.
struct Sent {
    head: Head,
    block: Vec<u8>,
    authority: Span,
    path: Span,
}

impl Sent {
    fn new(authority: &str, path: &str, tenant: &str) -> Self {
        let mut head = Head::default();
        let mut block = Vec::new();
        let mut put = |text: &str| {
            let start = block.len();
            block.extend_from_slice(text.as_bytes());
            Span::new(start, block.len())
        };
        head.method = put("GET");
        let path = put(path);
        head.target = path;
        let fields = [
            ("Host", authority),
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"),
            ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("Accept-Language", "en-US,en;q=0.5"),
            ("Accept-Encoding", "gzip, deflate, br"),
            ("Cookie", "session=0123456789abcdef"),
            ("X-Tenant", tenant),
        ];
        for (name, value) in fields {
            let known = Known::of(name.as_bytes());
            head.fields.push(Field { name: put(name), value: put(value), known });
        }
        let authority = head.fields[0].value;
        Self { head, block, authority, path }
    }

    fn request(&self) -> table::Request<'_> {
        table::Request {
            head: HeadView::new(&self.head, &self.block),
            authority: self.authority.of(&self.block),
            path: self.path.of(&self.block),
            query: None,
            secure: false,
        }
    }
}
