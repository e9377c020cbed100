// SPDX-License-Identifier: Apache-2.0
//! nginx: one worker, keep-alive to the upstream without a request limit, memory buffers large enough
//! that nothing goes to disk.

use std::path::Path;

use super::Setup;
use crate::scenario::{PREFIXES_PER_HOST, PROBE, Protocol, Work, host_name, route_prefix};
use crate::tls;

/// `stream` is the module that copies bytes, where it is not built in.
pub(super) fn configuration(setup: &Setup, stream: Option<&Path>) -> String {
    let Setup { listen, back_end, dir, connections, .. } = setup;
    let dir = dir.display();
    // A client's connection and one to the back end.
    let connections = connections * 2 + 64;
    let module = stream.map(|path| format!("load_module {};\n", path.display()));
    let module = module.unwrap_or_default();
    // A mask in binary, the first core last.
    let core = setup.worker_core.map(|core| format!("worker_cpu_affinity 1{:0>core$};\n", ""));
    let core = core.unwrap_or_default();
    let process = format!(
        "{module}worker_processes 1;
{core}daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log error;
worker_rlimit_nofile {connections};
events {{ worker_connections {connections}; use epoll; accept_mutex off; }}
"
    );
    if setup.work == Work::Tunnel {
        return format!(
            "{process}stream {{
tcp_nodelay on;
server {{
listen 127.0.0.1:{listen} backlog=4096;
proxy_pass 127.0.0.1:{back_end};
}}
}}
"
        );
    }
    let route = |index| format!("location {} {{ proxy_pass http://up; }}\n", route_prefix(index));
    let locations: String = match setup.work {
        Work::Forward | Work::Tunnel if setup.protocol == Protocol::Grpc => {
            "location / { grpc_pass grpc://up; }\n".to_owned()
        }
        Work::Forward | Work::Tunnel => "location / { proxy_pass http://up; }\n".to_owned(),
        Work::WebSocket => format!("location / {{\nproxy_pass http://up;\n{UPGRADE}}}\n"),
        // With a path in proxy_pass nginx replaces the matched prefix by it.
        Work::Gateway => format!("location /api/ {{\nproxy_pass http://up/;\n{GATEWAY}}}\n"),
        Work::Routes(count) => (0..count).map(route).collect(),
        Work::Changing(count) => {
            let routes: String = (0..count).map(route).collect();
            format!("include {dir}/{CHANGING};\n{routes}")
        }
        Work::Hosts(_) => "return 404;\n".to_owned(),
    };
    let prefixes: String = (0..PREFIXES_PER_HOST).map(route).collect();
    let host = |index| {
        let name = host_name(index);
        format!("server {{\nlisten 127.0.0.1:{listen};\nserver_name {name};\n{prefixes}}}\n")
    };
    let hosts: String = match setup.work {
        Work::Hosts(count) => {
            let hosts: String = (0..count).map(host).collect();
            format!(
                "server_names_hash_max_size {};\nserver_names_hash_bucket_size 128;\n{hosts}",
                count * 8
            )
        }
        _ => String::new(),
    };
    // The word is older than the directive, and known to every release.
    let http2 = if setup.protocol == Protocol::Http1 { "" } else { " http2" };
    let (ssl, certificate) = match setup.tls {
        false => ("", String::new()),
        true => (
            " ssl",
            format!(
                "ssl_protocols TLSv1.3;\nssl_certificate {dir}/{};\nssl_certificate_key {dir}/{};\n",
                tls::CERTIFICATE,
                tls::KEY,
            ),
        ),
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {dir}/tmp/{kind};\n"))
        .concat();
    format!(
        "{process}http {{
{temporary}access_log off;
server_tokens off;
tcp_nodelay on;
keepalive_timeout 3600;
keepalive_requests 1000000000;
client_body_buffer_size 64k;
client_max_body_size 0;
upstream up {{
server 127.0.0.1:{back_end};
keepalive 1024;
keepalive_requests 1000000000;
keepalive_time 24h;
keepalive_timeout 3600;
}}
proxy_http_version 1.1;
proxy_set_header Connection \"\";
proxy_set_header Host $host;
grpc_set_header Host $host;
proxy_buffer_size 16k;
proxy_buffers 8 16k;
proxy_busy_buffers_size 64k;
proxy_max_temp_file_size 0;
server {{
listen 127.0.0.1:{listen}{ssl}{http2} default_server backlog=4096;
{certificate}{locations}}}
{hosts}}}
"
    )
}

/// The file that changes with the number of the configuration; the others include it.
pub(super) const CHANGING: &str = "probe.conf";

pub(super) fn changing(generation: usize) -> String {
    format!("location {PROBE} {{ proxy_pass http://up/g-{generation}/; }}\n")
}

const UPGRADE: &str = "proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection upgrade;
proxy_set_header Host $host;
";

/// `proxy_set_header` is inherited only where none is set, so the two of the server come again.
const GATEWAY: &str = "proxy_set_header Connection \"\";
proxy_set_header Host $host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto $scheme;
proxy_set_header X-Request-Id $request_id;
proxy_set_header X-Tenant bench;
proxy_set_header X-Debug \"\";
proxy_hide_header X-Powered-By;
proxy_hide_header X-Version;
add_header X-Version 2;
add_header X-Frame-Options DENY;
";
