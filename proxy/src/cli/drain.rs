// SPDX-License-Identifier: Apache-2.0
//! `ringway drain`: what a preStop hook asks of the gateway in its container.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use ringway_sync::admin::mount_namespace;

use super::environment;
use super::explain::{ask, encoded};
use crate::args::Drain;

/// How often to look whether it is done.
const POLL: Duration = Duration::from_millis(100);

pub(crate) fn drain(drain: &Drain) -> anyhow::Result<ExitCode> {
    let (admin, only) = match &drain.admin {
        Some(admin) => (admin.clone(), String::new()),
        None => {
            // As `ringway run` finds it, whose environment this is.
            let named = std::env::var("RINGWAY_ADMIN_ADDR").ok();
            let named = named.and_then(|at| at.parse().ok());
            let mut at: SocketAddr = named.unwrap_or_else(|| environment().admin);
            if at.ip().is_unspecified() {
                at.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            // Once a successor has taken over it is that one which answers, and must go on.
            (at.to_string(), format!("?in={}", encoded(&mount_namespace())))
        }
    };
    let said = ask(&admin, &format!("/api/v1/drain{only}"))?;
    print!("{said}");
    while !drain.no_wait && said.starts_with("draining") {
        // One that has ended is drained as well.
        let status = ask(&admin, "/api/v1/status?format=text").unwrap_or_default();
        if !status.contains("draining") {
            break;
        }
        std::thread::sleep(POLL);
    }
    Ok(ExitCode::SUCCESS)
}
