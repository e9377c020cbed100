// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use super::super::tests::{LISTENER, mapping, settings, snapshot_of};
use super::super::{Memo, resolve};
use crate::crd::Object;
use crate::ir::{EndpointSource, Ir, Transport};
use crate::name::{Kind, Ref};
use crate::snapshot::Snapshot;
use crate::tls::tests::self_signed;

fn slice(name: &str, service: &str, address: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {service}}}}}\n\
         addressType: IPv4\nports: [{{port: 8000, name: web}}]\n\
         endpoints: [{{addresses: [{address}]}}]\n---\n"
    )
}

/// Objects of which several are versions of one; edits choose among them.
fn pool() -> Vec<Arc<Object>> {
    let mut yaml = LISTENER.to_owned();
    let fields = [
        "hostname: '*', prefix: /a/, service: quote",
        "hostname: '*', prefix: /a/, service: quote, weight: 30",
        "hostname: '*', prefix: /a/, service: 'quote:81', weight: 90",
        "hostname: foo.com, prefix: /a/, service: a-b",
        "hostname: foo.com, prefix: /b/, service: a.b",
        "hostname: '*.com', prefix: /b/, service: quote, add_request_headers: {x: {value: '1'}}",
        "prefix: /a/, service: quote",
        "hostname: '*', prefix: /a/, service: new.example.com, host_redirect: true",
        "hostname: '*', prefix: /a/, service: quote, shadow: true",
        "hostname: '*', prefix: '/a/(', prefix_regex: true, service: quote",
        "hostname: '*', prefix: /b/, service: quote, bypass_auth: true",
        "hostname: '*', prefix: /b/, service: quote, connect_timeout_ms: 1",
        "hostname: '*', prefix: /a/, service: quote, tls: c",
        "hostname: '*', prefix: /c/, service: 'https://quote', host_rewrite: q.com",
    ];
    let mut text = vec![std::mem::take(&mut yaml)];
    for name in ["a", "b", "c", "d", "a-x", "e"] {
        text.extend(fields.iter().map(|fields| mapping(name, fields)));
        text.push(format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\n\
             metadata: {{name: {name}, namespace: other, labels: {{team: {name}}}}}\n\
             spec: {{prefix: /a/, service: quote}}\n"
        ));
    }
    for (kind, name, body) in [
        ("Host", "star", "spec: {hostname: '*', requestPolicy: {insecure: {action: Route}}}"),
        ("Host", "star", "spec: {hostname: '*'}"),
        ("Host", "foo", "spec: {hostname: foo.com}"),
        ("Host", "foo", "spec: {hostname: foo.com, mappingSelector: {matchLabels: {team: a}}}"),
        ("Host", "foo2", "spec: {hostname: foo.com, tls: {cert_required: true}}"),
        ("Host", "foo", "spec: {hostname: foo.com, tlsSecret: {name: s}}"),
        ("Host", "star", "spec: {hostname: '*', tlsContext: {name: c}}"),
        (
            "Host",
            "port",
            "spec: {hostname: 'foo.com:8443', tlsSecret: {name: s}, tls: {ca_secret: t}}",
        ),
        ("TLSContext", "c", "spec: {secret: s, ca_secret: t}"),
        ("TLSContext", "c", "spec: {ca_secret: t, min_tls_version: v1.3}"),
        ("TLSContext", "foo-context", "spec: {max_tls_version: v1.2}"),
        ("AuthService", "auth", "spec: {auth_service: auth}"),
        ("Module", "ambassador", "spec: {config: {ip_allow: [{peer: 10.0.0.0/8}]}}"),
        ("Module", "ambassador", "spec: {config: {cluster_request_timeout_ms: 10}}"),
        ("Module", "ambassador", "spec: {config: {resolver: endpoint, server_name: x}}"),
        (
            "FilterPolicy",
            "policy",
            "spec: {rules: [{host: '*', path: /a/*, filters: [{name: jwt}]}]}",
        ),
    ] {
        text.push(format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\n{body}\n"
        ));
    }
    for (name, fields) in [
        ("t", "port: 6379, service: quote"),
        ("t", "port: 6379, service: quote, weight: 30"),
        ("t", "port: 6379, service: quote, host: foo.com"),
        ("u", "port: 6379, service: a-b, idle_timeout_ms: '5'"),
        ("u", "port: 6379, service: a.b, weight: 80"),
        ("u", "port: 6380, service: 'quote:81', address: 127.0.0.1"),
        ("u", "port: 8080, service: 'quote:x'"),
    ] {
        text.push(format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: TCPMapping\nmetadata: {{name: {name}}}\n\
             spec: {{{fields}}}\n"
        ));
    }
    for stack in ["TCP", "TLS", "HTTPPROXY"] {
        text.push(format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {{name: l4}}\n\
             spec: {{port: 6379, protocol: {stack}, securityModel: XFP, \
             hostBinding: {{namespace: {{from: ALL}}}}}}\n"
        ));
    }
    let service = |ports: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: quote}}\nspec: {{ports: [{ports}]}}\n"
        )
    };
    text.push(service("{port: 80, name: web}"));
    text.push(service("{port: 8000}"));
    text.push(service("{port: 80}").replace("quote", "a-b"));
    for (name, service, address) in [
        ("quote-1", "quote", "10.1.1.1"),
        ("quote-1", "quote", "10.1.1.2"),
        ("quote-1", "a-b", "10.1.1.3"),
        ("quote-2", "quote", "10.1.1.4"),
        ("quote-2", "nobody", "10.1.1.5"),
        ("a-b-1", "a-b", "10.1.1.6"),
    ] {
        text.push(slice(name, service, address));
    }
    text.push(
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: quote}\n\
         subsets: [{addresses: [{ip: 10.1.1.7}], ports: [{port: 8000, name: web}]}]\n"
            .to_owned(),
    );
    for name in ["s", "t", "fallback-self-signed-cert"] {
        let (one, two) = (self_signed("one.com"), self_signed("two.com"));
        for (chain, key) in [(&one.chain, &one.key), (&two.chain, &two.key), (&one.chain, &two.key)]
        {
            let block = |text: &str| text.replace('\n', "\n    ");
            text.push(format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData:\n  \
                 tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
                block(chain),
                block(key)
            ));
        }
    }
    text.push(
        text[0].replace("http}", "https}").replace("8080, protocol: HTTP", "8443, protocol: HTTPS"),
    );
    for path in ["/i/", "/a/"] {
        text.push(format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
             metadata: {{name: i, annotations: {{kubernetes.io/ingress.class: ambassador}}}}\n\
             spec: {{tls: [{{hosts: [foo.com], secretName: s}}], rules: [{{http: {{paths: [{{path: {path}, \
             pathType: Prefix, backend: {{service: {{name: quote, port: {{name: web}}}}}}}}]}}}}]}}\n"
        ));
    }
    let objects = text.iter().flat_map(|document| {
        let snapshot = snapshot_of(settings(), document);
        snapshot.objects().cloned().collect::<Vec<_>>()
    });
    objects.collect()
}

/// A generator whose every number follows from the seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

#[test]
fn random_edits_give_what_a_cold_start_gives() {
    let pool = pool();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut snapshot = Snapshot::new(settings());
    let mut memo = Memo::default();
    let is_endpoints =
        |object: &&Arc<Object>| matches!(object.spec.kind(), Kind::Endpoints | Kind::EndpointSlice);
    let endpoints: Vec<Arc<Object>> = pool.iter().filter(is_endpoints).cloned().collect();
    let (mut served, mut terminated, mut originated, mut problems_seen) = (0, 0, 0, 0);
    for edit in 0..6000 {
        // Endpoints change by themselves more often than not.
        let choices = if random.below(3) == 0 { &endpoints } else { &pool };
        for _ in 0..=random.below(3) {
            let object = &choices[random.below(choices.len())];
            match random.below(8) {
                0..3 => snapshot.remove(&object.meta.object),
                3 => snapshot.refuse(Arc::new(object.meta.clone())),
                // A copy: the same content at another address.
                _ => snapshot.insert(Arc::new(Object::clone(object))),
            }
        }
        let warm = resolve(&snapshot, &mut memo);
        let cold = resolve(&snapshot, &mut Memo::default());
        assert_eq!(warm, cold, "edit {edit}");
        served += warm.0.listeners.iter().map(|l| l.virtual_hosts.len()).sum::<usize>();
        let chains = warm.0.listeners.iter().flat_map(|l| &l.tls);
        terminated += chains.filter(|chain| chain.termination.is_some()).count();
        let transports = warm.0.clusters.iter().map(|cluster| &cluster.transport);
        originated += transports.filter(|t| matches!(t, Transport::Tls(Some(_)))).count();
        problems_seen += warm.1.len();
    }
    assert!(served > 1000 && terminated > 500, "{served} {terminated}");
    assert!(originated > 1000, "{originated}");
    assert!(problems_seen > 10_000, "{problems_seen}");
}

fn host_of(ir: &Ir, domain: &str) -> Arc<crate::ir::VirtualHost> {
    let hosts = &ir.listeners[0].virtual_hosts;
    Arc::clone(hosts.iter().find(|host| &*host.domain == domain).unwrap())
}

#[test]
fn what_did_not_change_keeps_its_pointer() {
    let host = |name: &str, hostname: &str| {
        format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {{name: {name}}}\n\
             spec: {{hostname: {hostname}}}\n---\n"
        )
    };
    let yaml = [
        LISTENER,
        &host("a", "a.com"),
        &host("b", "b.com"),
        &mapping("one", "hostname: a.com, prefix: /1/, service: quote"),
        &mapping("two", "hostname: a.com, prefix: /2/, service: quote"),
        &mapping("three", "hostname: b.com, prefix: /3/, service: quote"),
    ]
    .concat();
    let mut snapshot = snapshot_of(settings(), &yaml);
    let mut memo = Memo::default();
    let (before, _) = resolve(&snapshot, &mut memo);
    let (same, _) = resolve(&snapshot, &mut memo);
    assert!(Arc::ptr_eq(&host_of(&before, "a.com"), &host_of(&same, "a.com")));
    assert!(Arc::ptr_eq(&before.settings, &same.settings));

    let edited = mapping("two", "hostname: a.com, prefix: /2/, service: quote, rewrite: /x/");
    let object = snapshot_of(settings(), &edited).objects().next().cloned().unwrap();
    snapshot.insert(object);
    let (after, _) = resolve(&snapshot, &mut memo);
    assert!(Arc::ptr_eq(&host_of(&before, "b.com"), &host_of(&after, "b.com")));
    let (old, new) = (host_of(&before, "a.com"), host_of(&after, "a.com"));
    assert!(!Arc::ptr_eq(&old, &new));
    let place = |host: &crate::ir::VirtualHost, name: &str| {
        let is_it = |group: &Arc<crate::ir::Group>| &*group.members[0].route.object.name == name;
        Arc::clone(host.groups.iter().find(|g| is_it(g)).unwrap())
    };
    assert!(Arc::ptr_eq(&place(&old, "one"), &place(&new, "one")));
    assert!(!Arc::ptr_eq(&place(&old, "two"), &place(&new, "two")));
    let name = "cluster_quote_default";
    assert!(Arc::ptr_eq(&before.clusters[name], &after.clusters[name]));
}

/// Processor time of this thread: what else runs on the machine does not count.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// The usual shape: everything on one `*` Host. Times are printed; the bound only catches a
/// return to resolving everything.
#[test]
fn one_mapping_among_ten_thousand() {
    let mut yaml = LISTENER.to_owned();
    for at in 0..10_000 {
        let fields = format!("hostname: '*', prefix: /service-{at}/, service: 'service-{at}:8080'");
        yaml.push_str(&mapping(&format!("mapping-{at}"), &fields));
    }
    let mut snapshot = snapshot_of(settings(), &yaml);
    let mut memo = Memo::default();
    let start = cpu();
    let (ir, _) = resolve(&snapshot, &mut memo);
    let cold = cpu() - start;
    assert_eq!(ir.listeners[0].virtual_hosts[0].groups.len(), 10_002);
    assert_eq!(ir.clusters.len(), 10_001);
    let mut warm = Vec::new();
    for round in 0..20 {
        let fields = format!("hostname: '*', prefix: /changed-{round}/, service: quote");
        let edited = mapping(&format!("mapping-{}", round * 397), &fields);
        let object = snapshot_of(settings(), &edited).objects().next().cloned().unwrap();
        snapshot.insert(object);
        let start = cpu();
        let (ir, problems) = resolve(&snapshot, &mut memo);
        warm.push(cpu() - start);
        assert_eq!(ir.listeners[0].virtual_hosts[0].groups.len(), 10_002);
        assert_eq!(problems.len(), 0);
    }
    warm.sort();
    println!("10,000 Mappings: cold {cold:?}, one changed {:?} (median of 20)", warm[10]);
    assert!(warm[10] * 2 < cold, "{:?} against {cold:?}", warm[10]);

    let objects = "apiVersion: v1\nkind: Service\nmetadata: {name: service-7}\n\
                   spec: {ports: [{port: 8080, name: web}]}\n---\n"
        .to_owned()
        + &slice("service-7-a", "service-7", "10.0.0.0");
    for object in snapshot_of(settings(), &objects).objects() {
        snapshot.insert(Arc::clone(object));
    }
    let (before, _) = resolve(&snapshot, &mut memo);
    let moves: Vec<Snapshot> = (0..200)
        .map(|round| {
            let edited = slice("service-7-a", "service-7", &format!("10.0.1.{round}"));
            snapshot.insert(snapshot_of(settings(), &edited).objects().next().cloned().unwrap());
            snapshot.clone()
        })
        .collect();
    // Each by itself takes less than what the kernel counts.
    let start = cpu();
    let moved: Vec<Ir> = moves.iter().map(|snapshot| resolve(snapshot, &mut memo).0).collect();
    let took = (cpu() - start) / 200;
    for (round, ir) in moved.iter().enumerate() {
        assert!(Arc::ptr_eq(&host_of(&before, "*"), &host_of(ir, "*")));
        let source = &ir.clusters["cluster_service_7_8080_default"].source;
        let EndpointSource::Service { endpoints, .. } = source else { panic!() };
        assert_eq!(endpoints[..], [format!("10.0.1.{round}:8000").parse().unwrap()]);
    }
    println!("10,000 Mappings: endpoints of one changed {took:?} (mean of 200)");
    assert!(took * 10 < cold, "{took:?} against {cold:?}");

    let gone = Ref::new(Kind::Mapping, "default", "mapping-1");
    snapshot.remove(&gone);
    let (ir, _) = resolve(&snapshot, &mut memo);
    assert_eq!(ir.listeners[0].virtual_hosts[0].groups.len(), 10_001);
}
