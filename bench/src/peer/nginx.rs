// SPDX-License-Identifier: Apache-2.0
//! nginx: one worker, keep-alive to the upstream without a request limit, memory buffers large enough
//! that nothing goes to disk.

use super::Setup;
use crate::scenario::{Work, route_prefix};

pub(super) fn configuration(setup: &Setup) -> String {
    let Setup { listen, back_end, dir, .. } = setup;
    let dir = dir.display();
    let locations = match setup.work {
        Work::Forward => "location / { proxy_pass http://up; }\n".to_owned(),
        // With a path in proxy_pass nginx replaces the matched prefix by it.
        Work::Gateway => format!("location /api/ {{\nproxy_pass http://up/;\n{GATEWAY}}}\n"),
        Work::Routes(count) => (0..count)
            .map(|index| format!("location {} {{ proxy_pass http://up; }}\n", route_prefix(index)))
            .collect(),
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {dir}/tmp/{kind};\n"))
        .concat();
    format!(
        "worker_processes 1;
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log error;
worker_rlimit_nofile 20000;
events {{ worker_connections 8192; use epoll; accept_mutex off; }}
http {{
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
server {{
listen 127.0.0.1:{listen} backlog=4096;
proxy_http_version 1.1;
proxy_set_header Connection \"\";
proxy_set_header Host $host;
proxy_buffer_size 16k;
proxy_buffers 8 16k;
proxy_busy_buffers_size 64k;
proxy_max_temp_file_size 0;
{locations}}}
}}
"
    )
}

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
