// SPDX-License-Identifier: Apache-2.0
//! The chart: it renders what Kubernetes takes, whatever values of Emissary's chart it is given, and
//! `deploy/kustomize` is rendered from it.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use ringway_core::crd::schema::DEFINITIONS;
use ringway_tests::gateway::repository;
use ringway_tests::{helm, python, structural, yaml};
use serde_json::{Value, json};

use super::expect_folder;

/// What users give: the first are values of Emissary's own tests and of its documentation.
pub(crate) const VALUES: [(&str, &str); 25] = [
    ("default", "{}"),
    ("emissary-single-namespace", "{scope: {singleNamespace: true}, daemonSet: false}"),
    (
        "emissary-daemonset",
        "{daemonSet: true, service: {type: NodePort, externalTrafficPolicy: Local}}",
    ),
    (
        "emissary-resolvers",
        "{resolvers: {endpoint: {create: true}, consul: {create: true, \
          spec: {address: 'consul:8500', datacenter: dc1}}}}",
    ),
    ("emissary-lifecycle", "{lifecycle: {preStop: {exec: {command: [sh, -c, 'sleep 5']}}}}"),
    (
        "emissary-autoscaling",
        "{daemonSet: false, autoscaling: {enabled: true, minReplicas: 3, maxReplicas: 9}, \
          podDisruptionBudget: {minAvailable: 1}}",
    ),
    (
        "emissary-module",
        "{module: {diagnostics: {enabled: false, allow_non_local: true}}, env: {AMBASSADOR_ID: blue, \
          STATSD_ENABLED: true, AMBASSADOR_DRAIN_TIME: 60}}",
    ),
    (
        "emissary-canary",
        "{daemonSet: false, canary: {enabled: true, replicaCount: 2, image: {tag: '9.9.9'}}}",
    ),
    ("emissary-listeners", "{createDefaultListeners: true}"),
    (
        "emissary-raw-environment",
        "{envRaw: \"- name: POD_IP\\n  valueFrom:\\n    fieldRef:\\n      fieldPath: status.podIP\\n\"}",
    ),
    (
        "emissary-retired",
        "{waitForApiext: {enabled: true, createRoles: true}, agent: {enabled: true}, \
          prometheusExporter: {enabled: true, tag: v0.8.1}, security: {podSecurityPolicy: {spec: {}}}, \
          rbac: {podSecurityPolicies: [a]}}",
    ),
    (
        "emissary-service",
        "{service: {loadBalancerClass: 'a.example/nlb', externalIPs: [192.0.2.1], \
          annotations: {a.example/scheme: internal}, loadBalancerSourceRanges: [192.0.2.0/24], \
          ipFamilies: [IPv4, IPv6], ipFamilyPolicy: PreferDualStack, ports: [\
          {name: http, port: 80, targetPort: 8080, nodePort: 30080}, \
          {name: ssh, port: 2222, targetPort: 2222, protocol: TCP}]}}",
    ),
    ("emissary-bare-pod", "{barePod: true, daemonSet: false, restartPolicy: Always}"),
    (
        "emissary-names",
        "{fullnameOverride: ambassador, nameOverride: edge, namespaceOverride: edge, \
          createNamespace: true, namespace: {name: edge}, deploymentNameOverride: gateway, \
          containerNameOverride: ambassador, serviceAccount: {name: edge-sa}, \
          rbac: {nameOverride: edge-role}}",
    ),
    (
        "emissary-scheduling",
        "{nodeSelector: {a: b}, tolerations: [{operator: Exists}], priorityClassName: \
          system-cluster-critical, topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, \
          whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {a: b}}}], \
          podLabels: {team: edge}, podAnnotations: {a: b}, deploymentLabels: {c: d}, \
          deploymentAnnotations: {e: f}, imagePullSecrets: [{name: pull}]}",
    ),
    ("monitoring", "{metrics: {serviceMonitor: {enabled: true, selector: {release: prometheus}}}}"),
    ("host-ports", "{ringway: {hostPorts: true}, service: {create: false}}"),
    (
        "host-network",
        "{hostNetwork: true, service: {create: false}, ringway: {workers: 4, ioBackend: epoll, \
          statusAddresses: [192.0.2.1, 192.0.2.2]}}",
    ),
    (
        "host-network-alone",
        "{hostNetwork: true, service: {create: false}, ringway: {handover: {enabled: false}}}",
    ),
    ("conversion", "{ringway: {conversion: {secretName: ringway-conversion, port: 9444}}}"),
    (
        "state",
        "{ringway: {state: {enabled: true, sizeLimit: 32Mi}}, lifecycle: {preStop: {exec: \
               {command: [ringway, drain]}}}}",
    ),
    ("seccomp-install", "{ringway: {seccomp: install}}"),
    ("seccomp-operator", "{ringway: {seccomp: operator}}"),
    ("few-secrets", "{ringway: {secrets: {namespaces: [shop, blog], names: [tls]}}}"),
    (
        "containers",
        "{initContainers: [{name: a, image: b}], sidecarContainers: [{name: c, image: d}], \
          volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: v, mountPath: /v}], \
          ringway: {extraArgs: ['--access-log=json'], seccomp: unconfined}, \
          terminationGracePeriodSeconds: 90, rbac: {create: false}, startupProbe: {}}",
    ),
];

/// What the chart renders, or why it does not.
fn try_render(values: &str, more: &[&str]) -> Result<String, String> {
    helm::render("ringway", values, more)
}

fn render(name: &str) -> Vec<Value> {
    let (_, values) = VALUES.iter().find(|(known, _)| *known == name).unwrap();
    let text = try_render(values, &[]).unwrap();
    yaml::parse(&text).expect(name).into_iter().filter(|object| !object.is_null()).collect()
}

/// The only object of a kind.
#[track_caller]
fn one<'o>(objects: &'o [Value], kind: &str) -> &'o Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let one = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    one
}

#[test]
fn what_it_renders_kubernetes_takes() {
    let mut builtin = Vec::new();
    let mut wrong = Vec::new();
    let lint = helm::run(&["lint", "--strict", "deploy/chart"]).unwrap();
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    for (name, _) in VALUES {
        for object in render(name) {
            let kind = object["kind"].as_str().unwrap();
            let at = format!("{name}: {kind} {}", object["metadata"]["name"]);
            let version = object["apiVersion"].as_str().unwrap();
            match version.split('/').next().unwrap() {
                "getambassador.io" => {
                    let definition = DEFINITIONS.iter().find(|d| d.kind.as_str() == kind).unwrap();
                    let schema = &definition.to_json()["spec"]["versions"][0]["schema"];
                    for problem in structural::problems(&schema["openAPIV3Schema"], &object) {
                        wrong.push(format!("{at}: {problem}"));
                    }
                }
                // Of other projects; there are no schemas of them here.
                "monitoring.coreos.com" | "security-profiles-operator.x-k8s.io" => {}
                _ => builtin.push(json!([at, object])),
            }
        }
    }
    assert!(builtin.len() > 150, "only {} objects", builtin.len());
    let script = repository().join("tests/it/deploy/validate.py");
    let mut validate = Command::new(python::interpreter().unwrap())
        .args([script.to_str().unwrap(), "1.37"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = validate.stdin.take().unwrap();
    stdin.write_all(Value::Array(builtin).to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = validate.wait_with_output().unwrap();
    assert!(output.status.success());
    wrong.extend(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn values_that_mean_nothing_are_refused() {
    for (values, expected) in [
        ("{replicaCont: 2}", "Additional property replicaCont is not allowed"),
        ("{service: {typ: NodePort}}", "service: Additional property typ is not allowed"),
        ("{replicaCount: many}", "replicaCount: Invalid type"),
        ("{ringway: {seccomp: yes-please}}", "ringway.seccomp must be one of"),
        ("{ambassadorConfig: 'kind: Module'}", "ambassadorConfig is not supported"),
        ("{autoscaling: {enabled: true}}", "set daemonSet: false"),
    ] {
        let said = try_render(values, &[]).expect_err(values);
        assert!(said.contains(expected), "{values}: {said}");
    }
}

fn container(objects: &[Value], kind: &str) -> Value {
    one(objects, kind)["spec"]["template"]["spec"]["containers"][0].clone()
}

fn variable<'c>(container: &'c Value, name: &str) -> &'c Value {
    let variables = container["env"].as_array().unwrap();
    let mut found = variables.iter().filter(|variable| variable["name"] == name);
    let value = found.next().map_or(&Value::Null, |variable| &variable["value"]);
    assert!(found.next().is_none(), "{name} is there twice");
    value
}

#[test]
fn the_default_is_a_daemon_set_that_may_do_little() {
    let objects = render("default");
    let pod = &one(&objects, "DaemonSet")["spec"];
    assert_eq!(pod["updateStrategy"]["rollingUpdate"], json!({"maxSurge": 1, "maxUnavailable": 0}));
    // 15 s in which it accepts, 600 s to drain, and a little.
    assert_eq!(pod["template"]["spec"]["terminationGracePeriodSeconds"], 620);
    let container = container(&objects, "DaemonSet");
    let security = &container["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["seccompProfile"], json!({"type": "RuntimeDefault"}));
    assert_eq!(variable(&container, "RINGWAY_DEFAULT_LISTENERS"), "true");
    assert_eq!(variable(&container, "AMBASSADOR_HEALTHCHECK_BIND_ADDRESS"), "0.0.0.0");
    // Found by these labels: Ingress addresses, ServiceMonitors.
    let label = |name: &str, label: &str| {
        let service =
            objects.iter().find(|o| o["kind"] == "Service" && o["metadata"]["name"] == name);
        service.unwrap()["metadata"]["labels"][label].clone()
    };
    assert_eq!(label("ringway", "app.kubernetes.io/component"), "ambassador-service");
    assert_eq!(label("ringway-admin", "service"), "ambassador-admin");
    // Secrets by name; nothing may be deleted, and of objects nothing but their statuses written.
    for role in objects.iter().filter(|o| o["kind"] == "ClusterRole" || o["kind"] == "Role") {
        for rule in role["rules"].as_array().unwrap() {
            let verbs: Vec<&str> =
                rule["verbs"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let resources = rule["resources"].to_string();
            assert!(!verbs.iter().any(|verb| *verb == "delete" || *verb == "*"), "{rule}");
            if resources.contains("secrets") {
                assert_eq!(verbs, ["get", "watch"]);
            }
            let writes = verbs.iter().any(|verb| matches!(*verb, "update" | "patch"));
            assert!(
                !writes || resources.contains("/status") || resources.contains("leases"),
                "{rule}"
            );
        }
    }
}

#[test]
fn on_the_nodes_network_no_port_is_claimed_and_the_admin_port_is_local() {
    let objects = render("host-network");
    let spec = &one(&objects, "DaemonSet")["spec"];
    assert_eq!(spec["template"]["spec"]["hostNetwork"], true);
    assert_eq!(spec["template"]["spec"]["dnsPolicy"], "ClusterFirstWithHostNet");
    let container = container(&objects, "DaemonSet");
    assert_eq!(container["ports"], Value::Null);
    assert_eq!(container["livenessProbe"]["httpGet"]["host"], "127.0.0.1");
    assert_eq!(variable(&container, "AMBASSADOR_HEALTHCHECK_BIND_ADDRESS"), "127.0.0.1");
    assert_eq!(variable(&container, "RINGWAY_WORKERS"), "4");
    assert_eq!(variable(&container, "RINGWAY_PUBLISH_STATUS_ADDRESS"), "192.0.2.1,192.0.2.2");
    let ports = super::chart::container(&render("host-ports"), "DaemonSet")["ports"].clone();
    assert_eq!(ports[0], json!({"name": "http", "containerPort": 8080, "hostPort": 80}));
    assert_eq!(ports[2], json!({"name": "admin", "containerPort": 8877}));
}

/// Without a Service and told addresses; whoever has one of them does not see nodes.
#[test]
fn without_a_service_clients_come_to_the_nodes() {
    let may_see = |objects: &[Value], resource: &str| {
        objects
            .iter()
            .any(|object| object["rules"].to_string().contains(&json!(resource).to_string()))
    };
    let objects = render("host-ports");
    let labels = "app.kubernetes.io/instance=ringway,app.kubernetes.io/name=ringway";
    let container = container(&objects, "DaemonSet");
    assert_eq!(variable(&container, "RINGWAY_PUBLISH_NODES_OF"), labels);
    assert!(may_see(&objects, "nodes") && may_see(&objects, "pods"));
    for name in ["default", "host-network"] {
        let objects = render(name);
        let container = super::chart::container(&objects, "DaemonSet");
        assert_eq!(variable(&container, "RINGWAY_PUBLISH_NODES_OF"), &Value::Null);
        assert!(!may_see(&objects, "nodes") && !may_see(&objects, "pods"));
    }
}

#[test]
fn a_deployment_scales_and_is_disrupted_with_measure() {
    let objects = render("emissary-autoscaling");
    let deployment = one(&objects, "Deployment");
    assert_eq!(deployment["spec"]["replicas"], Value::Null);
    let scaler = one(&objects, "HorizontalPodAutoscaler");
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
    let selector = &deployment["spec"]["selector"];
    assert_eq!(&one(&objects, "PodDisruptionBudget")["spec"]["selector"], selector);
}

#[test]
fn names_ids_and_scopes_are_those_of_the_values() {
    let objects = render("emissary-module");
    let module = &one(&objects, "Module")["spec"];
    assert_eq!(module["ambassador_id"], json!(["blue"]));
    assert_eq!(module["config"]["diagnostics"]["allow_non_local"], true);
    let container = container(&objects, "DaemonSet");
    assert_eq!(variable(&container, "AMBASSADOR_DRAIN_TIME"), "60");
    assert_eq!(variable(&container, "STATSD_ENABLED"), "true");
    let grace = &one(&objects, "DaemonSet")["spec"]["template"]["spec"];
    assert_eq!(grace["terminationGracePeriodSeconds"], 80);

    let objects = render("emissary-single-namespace");
    let rules = one(&objects, "ClusterRole")["rules"].to_string();
    assert!(!rules.contains("secrets") && !rules.contains("getambassador"), "{rules}");
    assert!(one(&objects, "Role")["rules"].to_string().contains("secrets"));

    let objects = render("few-secrets");
    assert!(!one(&objects, "ClusterRole")["rules"].to_string().contains("secrets"));
    let roles = objects.iter().filter(|o| o["kind"] == "Role");
    let secrets: Vec<&Value> =
        roles.filter(|o| o["rules"].to_string().contains("secrets")).collect();
    assert_eq!(secrets.len(), 2);
    assert_eq!(secrets[0]["metadata"]["namespace"], "shop");
    assert_eq!(secrets[0]["rules"][0]["resourceNames"], json!(["tls"]));

    let objects = render("emissary-listeners");
    let ports = objects.iter().filter(|o| o["kind"] == "Listener").map(|o| &o["spec"]["port"]);
    assert_eq!(ports.collect::<Vec<_>>(), [8080, 8443]);

    // A canary's Pods are its own Service's and nobody else's.
    let objects = render("emissary-canary");
    let of = |kind: &str, suffix: &str| {
        let name = format!("ringway{suffix}");
        let found = objects.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name[..]);
        found.unwrap()["spec"].clone()
    };
    assert_eq!(of("Service", "-canary")["selector"]["profile"], "canary");
    assert_eq!(of("Service", "")["selector"]["profile"], "main");
    let pod = &of("Deployment", "-canary")["template"];
    assert_eq!(pod["metadata"]["labels"]["profile"], "canary");
    assert_eq!(pod["spec"]["containers"][0]["image"], "ringway:9.9.9");
}

/// The next Pod of a node takes the sockets of the last one over, in a folder of the gateway's user;
/// ended by itself, the last one would be started again.
#[test]
fn on_the_nodes_network_pods_hand_over() {
    let objects = render("host-network");
    let spec = &one(&objects, "DaemonSet")["spec"];
    let surge = json!({"maxSurge": 1, "maxUnavailable": 0});
    assert_eq!(spec["updateStrategy"]["rollingUpdate"], surge);
    assert_eq!(spec["minReadySeconds"], 10);
    let pod = &spec["template"]["spec"];
    let folder = json!({"path": "/run/ringway/ringway-ringway", "type": "DirectoryOrCreate"});
    assert_eq!(pod["volumes"][0], json!({"name": "handover", "hostPath": folder}));
    assert_eq!(pod["initContainers"][0]["command"], json!(["chown", "8888:8888", "/handover"]));
    assert_eq!(pod["securityContext"]["runAsUser"], 8888);
    let container = container(&objects, "DaemonSet");
    assert_eq!(variable(&container, "RINGWAY_HANDOVER"), "/handover/socket");
    assert_eq!(variable(&container, "RINGWAY_STAY"), "true");
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/handover");

    for name in ["host-network-alone", "host-ports"] {
        let objects = render(name);
        let spec = &one(&objects, "DaemonSet")["spec"];
        assert_eq!(spec["updateStrategy"]["rollingUpdate"], json!({"maxUnavailable": 1}));
        assert_eq!(spec["template"]["spec"]["volumes"], Value::Null);
        let container = super::chart::container(&objects, "DaemonSet");
        assert_eq!(variable(&container, "RINGWAY_HANDOVER"), &Value::Null);
    }
}

#[test]
fn objects_are_converted_before_a_pod_is_ready() {
    let objects = render("conversion");
    let pod = &one(&objects, "DaemonSet")["spec"]["template"]["spec"];
    let secret = json!({"secretName": "ringway-conversion"});
    assert_eq!(pod["volumes"][0], json!({"name": "conversion", "secret": secret}));
    let container = container(&objects, "DaemonSet");
    assert_eq!(variable(&container, "RINGWAY_CONVERSION_CERTIFICATE"), "/conversion");
    assert_eq!(variable(&container, "RINGWAY_CONVERSION_ADDR"), "0.0.0.0:9444");
    let is_it = |o: &&Value| o["metadata"]["name"] == "ringway-conversion";
    let service = &objects.iter().find(is_it).unwrap()["spec"];
    assert_eq!(service["publishNotReadyAddresses"], true);
    assert_eq!(service["ports"][0]["targetPort"], 9444);
    assert_eq!(service["type"], Value::Null);
}

#[test]
fn state_lies_in_memory_and_the_snapshot_has_a_port() {
    let objects = render("state");
    let pod = &one(&objects, "DaemonSet")["spec"]["template"]["spec"];
    let memory = json!({"medium": "Memory", "sizeLimit": "32Mi"});
    assert_eq!(pod["volumes"][0], json!({"name": "state", "emptyDir": memory}));
    let container = container(&objects, "DaemonSet");
    assert_eq!(variable(&container, "RINGWAY_STATE_DIR"), "/state");
    assert_eq!(container["lifecycle"]["preStop"]["exec"]["command"], json!(["ringway", "drain"]));
    let admin = objects.iter().find(|o| o["metadata"]["name"] == "ringway-admin").unwrap();
    let port = json!({"name": "ambassador-snapshot", "port": 8005, "targetPort": 8005,
                      "protocol": "TCP"});
    assert_eq!(admin["spec"]["ports"][1], port);
}

/// A profile that is installed first is the one that the container names.
#[test]
fn seccomp_profiles_allow_io_uring() {
    let objects = render("seccomp-install");
    let profile = one(&objects, "ConfigMap")["data"]["io_uring.json"].as_str().unwrap();
    let profile: Value = serde_json::from_str(profile).unwrap();
    let spec = &one(&objects, "DaemonSet")["spec"]["template"]["spec"];
    let named = json!({"type": "Localhost", "localhostProfile": "ringway/io_uring.json"});
    assert_eq!(spec["containers"][0]["securityContext"]["seccompProfile"], named);
    assert_eq!(spec["volumes"][1]["hostPath"]["path"], "/var/lib/kubelet/seccomp/ringway");
    let command = json!(["cp", "/profile/io_uring.json", "/folder/io_uring.json"]);
    assert_eq!(spec["initContainers"][0]["command"], command);
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let allowed = profile["syscalls"][0]["names"].as_array().unwrap();
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register", "epoll_wait", "accept4"] {
        assert!(allowed.contains(&call.into()), "{call}");
    }
    for call in ["mount", "ptrace", "bpf", "setns", "unshare", "clone3", "keyctl"] {
        assert!(!allowed.contains(&call.into()), "{call}");
    }
    let objects = render("seccomp-operator");
    assert_eq!(one(&objects, "SeccompProfile")["spec"], profile);
}

/// Each value of Emissary's chart is one of ours, and each of ours has a default or stands in the
/// schema alone.
#[test]
fn every_value_is_in_the_schema() {
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    let values = yaml::parse(&read("deploy/chart/values.yaml")).unwrap().remove(0);
    let schema: Value = serde_json::from_str(&read("deploy/chart/values.schema.json")).unwrap();
    let known: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    for key in values.as_object().unwrap().keys() {
        assert!(known.contains(&key), "{key}");
    }
    let emissary = "adminService affinity ambassadorConfig autoscaling barePod canary \
        createDefaultListeners createNamespace daemonSet deploymentAnnotations deploymentLabels \
        deploymentStrategy deploymentTool dnsPolicy docker env envRaw fullnameOverride hostNetwork \
        image imagePullSecrets ingressClassResource initContainers lifecycle listeners \
        livenessProbe metrics module nameOverride namespace namespaceOverride nodeSelector \
        podAnnotations podDisruptionBudget podLabels priorityClassName progressDeadlines \
        prometheusExporter rbac readinessProbe replicaCount resolvers resources restartPolicy \
        scope security service serviceAccount sidecarContainers startupProbe \
        terminationGracePeriodSeconds test tolerations topologySpreadConstraints volumeMounts \
        volumes waitForApiext";
    for key in emissary.split_whitespace() {
        assert!(known.iter().any(|known| *known == key), "{key}");
    }
}

/// What is said after an installation. Helm prints it in front of a cluster only, so that a copy of
/// the chart says it in an object.
#[test]
fn notes_say_what_has_no_effect() {
    let folder = ringway_tests::outside::Folder::new().unwrap();
    let chart = folder.path().join("chart");
    let original = repository().join("deploy/chart");
    let copied = Command::new("cp").arg("-rL").args([&original, &chart]).status().unwrap();
    assert!(copied.success());
    let object = "{apiVersion: v1, kind: Notes, metadata: {name: notes}, \
                  data: {{ include \"ringway.notes\" . | toJson }}}";
    fs::write(chart.join("templates/notes.yaml"), object).unwrap();
    let notes = |values: &str| {
        let values = folder.file("values.yaml", values).unwrap();
        let template = ["template", "ringway", chart.to_str().unwrap(), "-f", &values];
        let output =
            helm::run(&[&template[..], &["--show-only", "templates/notes.yaml"]].concat()).unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        yaml::parse(&said).unwrap()[0]["data"].as_str().unwrap().to_owned()
    };
    let retired = VALUES.iter().find(|(name, _)| *name == "emissary-retired").unwrap().1;
    let said = notes(retired);
    for name in ["waitForApiext", "agent", "prometheusExporter", "podSecurityPolicy"] {
        assert!(said.contains(&format!("{name} is accepted without effect")), "{name}: {said}");
    }
    let shell = VALUES.iter().find(|(name, _)| *name == "emissary-lifecycle").unwrap().1;
    assert!(notes(shell).contains("there is no shell"));
    let plain = notes("{}");
    assert!(!plain.contains("without effect") && !plain.contains("shell"), "{plain}");
}

/// For those without Helm.
const KUSTOMIZE: [(&str, &str); 4] = [
    ("daemonset", "{}"),
    ("deployment", "{daemonSet: false, podDisruptionBudget: {minAvailable: 1}}"),
    ("host-network", "{hostNetwork: true, service: {create: false}}"),
    ("host-ports", "{ringway: {hostPorts: true}, service: {create: false}}"),
];

#[test]
fn the_kustomizations_are_rendered_from_it() {
    for (name, values) in KUSTOMIZE {
        let more = ["--skip-tests", "--set=createNamespace=true,deploymentTool=kustomize"];
        let rendered = try_render(values, &more).unwrap();
        let licence = "# SPDX-License-Identifier: Apache-2.0\n";
        let note = format!("# Rendered from deploy/chart with {values}\n");
        let kustomization = format!(
            "{licence}# The kinds first: kubectl apply --server-side -f deploy/crds\n\
             apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
             namespace: ringway\nresources: [ringway.yaml]\n"
        );
        let files = [
            ("kustomization.yaml".to_owned(), kustomization),
            ("ringway.yaml".to_owned(), format!("{licence}{note}{rendered}")),
        ];
        expect_folder(&format!("deploy/kustomize/{name}"), &files);
    }
}
