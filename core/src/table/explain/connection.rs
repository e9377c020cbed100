// SPDX-License-Identifier: Apache-2.0
//! What becomes of a connection before its first request: which filter chain takes it, with which
//! certificate, or why nobody does; and of one that carries no HTTP, which TCPMapping.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use super::Share;
use super::endpoint::{Choice, Feeds};
use crate::ir::Protocol;
use crate::name::Ref;
use crate::table::{Listener, TcpRoute, TlsChain};
use crate::tls::{ClientPolicy, Version};

/// The TLS side of a connection.
#[derive(Clone, Debug, Serialize)]
pub struct Handshake {
    /// As the client sends it.
    pub server_name: Option<String>,
    /// The filter chain that takes the connection.
    pub chain: Option<Chain>,
    /// Why the handshake is refused, or cannot even begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// One filter chain, as a client meets it.
#[derive(Clone, Debug, Serialize)]
pub struct Chain {
    pub server_name: Arc<str>,
    /// The Host or TCPMapping; `None`: the fallback certificate's.
    pub object: Option<Ref>,
    pub why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    pub client_certificates: &'static str,
    pub versions: String,
    pub alpn: Vec<Box<str>>,
    /// What the decrypted bytes are.
    pub carries: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    pub names: Arc<[Box<str>]>,
    /// Unix time.
    pub not_after: i64,
    pub days_left: i64,
}

/// The whole story of a connection that carries no HTTP. Its `Display` is for terminals.
#[derive(Clone, Debug, Serialize)]
pub struct Connection {
    pub listener: Ref,
    pub address: SocketAddr,
    pub stack: Vec<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Handshake>,
    pub outcome: Tunnel,
}

/// Where its bytes go.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Tunnel {
    Tcp {
        mapping: Ref,
        cluster: Arc<str>,
        idle_timeout_ms: Option<u64>,
        /// All that share the connections.
        mappings: Vec<Share>,
        endpoint: Box<Choice>,
    },
    /// The bytes are read as HTTP.
    Http,
    Closed {
        reason: String,
    },
}

impl Listener {
    /// What a ClientHello with this server name (lower case) comes to at the time `now`.
    pub fn explain_handshake(&self, server_name: Option<&str>, now: i64) -> Handshake {
        let mut story =
            Handshake { server_name: server_name.map(str::to_owned), chain: None, refused: None };
        if !self.stack.contains(&Protocol::Tls) {
            story.refused = Some(format!(
                "the protocolStack of {} has no TLS: what a client says is not read as a handshake",
                self.object
            ));
            return story;
        }
        if !self.has_chains() {
            story.refused = Some(format!(
                "no Host or TCPMapping on {} has a certificate: a ClientHello is closed",
                self.object
            ));
            return story;
        }
        let Some(chain) = self.chain(server_name) else {
            story.refused = Some(match server_name {
                Some(name) => format!(
                    "no Host, TCPMapping or fallback certificate is for {name:?}: alert \
                     unrecognized_name"
                ),
                None => "the client sends no server name, and nothing is for all names: alert \
                         unrecognized_name"
                    .to_owned(),
            });
            return story;
        };
        if chain.termination.is_none() {
            let whose = chain.object.as_ref().map_or_else(
                || "the fallback certificate".to_owned(),
                |object| format!("{object}"),
            );
            story.refused = Some(format!(
                "{whose} has no usable certificate (its problems say why), and no wider name \
                 stands in: alert unrecognized_name"
            ));
        }
        story.chain = Some(describe(chain, server_name, now));
        story
    }

    /// What becomes of a connection of these bytes: cleartext, or TLS with this server name.
    pub fn explain_connection(
        &self,
        tls: Option<Option<&str>>,
        roll: Option<u32>,
        now: i64,
        feeds: Feeds<'_>,
    ) -> Connection {
        let handshake = tls.map(|server_name| self.explain_handshake(server_name, now));
        let closed = |reason: &str| Tunnel::Closed { reason: reason.to_owned() };
        let outcome = match (&handshake, tls) {
            (Some(Handshake { refused: Some(reason), .. }), _) => closed(reason),
            (Some(_), Some(name)) => match self.chain(name).and_then(|c| c.tcp.as_deref()) {
                Some(route) => tunnel(route, roll, feeds),
                None => Tunnel::Http,
            },
            _ => match &self.tcp {
                Some(route) => tunnel(route, roll, feeds),
                None if self.stack.contains(&Protocol::Http) => Tunnel::Http,
                None if self.has_chains() => {
                    closed("TCPMappings here have a `host`: only TLS says which is meant")
                }
                None => closed("no TCPMapping is for this port"),
            },
        };
        Connection {
            listener: self.object.clone(),
            address: self.address,
            stack: self.stack.clone(),
            tls: handshake,
            outcome,
        }
    }
}

fn describe(chain: &TlsChain, server_name: Option<&str>, now: i64) -> Chain {
    let name = &*chain.server_name;
    let why = match server_name {
        None => "it is for clients that send no server name",
        Some(_) if name == "*" => "no more specific one covers this server name",
        Some(_) if name.contains('*') => "no chain has exactly this name",
        Some(_) => "it has exactly this name",
    };
    let spec = chain.termination.as_ref().map(|termination| &termination.spec);
    let certificate = spec.map(|spec| Certificate {
        names: Arc::clone(&spec.identity.names),
        not_after: spec.identity.not_after,
        days_left: (spec.identity.not_after - now).div_euclid(86_400),
    });
    let client_certificates = match spec.and_then(|spec| spec.clients.as_ref()) {
        None => "not asked for",
        Some(ClientPolicy { required: true, .. }) => "required: a client without one is refused",
        Some(_) => "asked for: one that does not verify is refused, none is fine",
    };
    let (min, max) = spec
        .map_or((None, None), |spec| (spec.parameters.min_version, spec.parameters.max_version));
    let (min, max) = (min.unwrap_or(Version::V1_2), max.unwrap_or(Version::V1_3));
    let text = |version| match version {
        Version::V1_2 => "1.2",
        Version::V1_3 => "1.3",
    };
    Chain {
        server_name: Arc::clone(&chain.server_name),
        object: chain.object.clone(),
        why: why.to_owned(),
        certificate,
        client_certificates,
        versions: match min == max {
            true => text(min).to_owned(),
            false => format!("{} to {}", text(min), text(max)),
        },
        alpn: spec.map_or_else(Vec::new, |spec| spec.alpn.clone()),
        carries: if chain.tcp.is_some() { "TCP" } else { "HTTP" },
    }
}

fn tunnel(route: &TcpRoute, roll: Option<u32>, feeds: Feeds<'_>) -> Tunnel {
    // Without a roll the first member with a share stands for all.
    let with_share = || route.members.iter().find(|member| member.from < member.to);
    let member = match roll {
        Some(roll) => route.member(roll),
        None => with_share().unwrap_or_else(|| route.member(0)),
    };
    let share = |member: &crate::table::TcpMember| Share {
        mapping: member.object.clone(),
        from: member.from,
        to: member.to,
    };
    Tunnel::Tcp {
        mapping: member.object.clone(),
        cluster: Arc::clone(&member.cluster.spec.name),
        idle_timeout_ms: member.idle_timeout.map(|time| time.as_millis() as u64),
        mappings: route.members.iter().map(share).collect(),
        endpoint: Box::new(Choice::of(&member.cluster, None, feeds)),
    }
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server_name {
            Some(name) => write!(f, "TLS: server name {name}")?,
            None => write!(f, "TLS: no server name")?,
        }
        if let Some(chain) = &self.chain {
            write!(f, ", chain {}", chain.server_name)?;
            match &chain.object {
                Some(object) => write!(f, " ({object})")?,
                None => write!(f, " (the fallback certificate)")?,
            }
            write!(f, ": {}", chain.why)?;
            if let Some(certificate) = &chain.certificate {
                write!(f, "\n  certificate for {}", certificate.names.join(", "))?;
                match certificate.days_left {
                    left if left < 0 => write!(f, ", EXPIRED {} days ago", -left)?,
                    left => write!(f, ", valid for {left} more days")?,
                }
                write!(f, "\n  client certificates: {}", chain.client_certificates)?;
                write!(f, "\n  TLS {}", chain.versions)?;
                if !chain.alpn.is_empty() {
                    write!(f, ", ALPN {}", chain.alpn.join(", "))?;
                }
            }
        }
        match &self.refused {
            Some(reason) => write!(f, "\n  refused: {reason}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stack: Vec<String> =
            self.stack.iter().map(|layer| format!("{layer:?}").to_ascii_uppercase()).collect();
        writeln!(f, "a connection to {} on {}: {}", self.address, self.listener, stack.join(", "))?;
        if let Some(tls) = &self.tls {
            writeln!(f, "{tls}")?;
        }
        match &self.outcome {
            Tunnel::Closed { reason } => write!(f, "closed: {reason}"),
            Tunnel::Http => write!(f, "its bytes are HTTP: ask with a method and a URL"),
            Tunnel::Tcp { mapping, cluster, idle_timeout_ms, mappings, endpoint } => {
                write!(f, "tunnelled by {mapping} to {cluster}")?;
                match idle_timeout_ms {
                    Some(ms) => write!(f, "\n  idle time-out: {ms} ms")?,
                    None => write!(f, "\n  idle time-out: none")?,
                }
                if mappings.len() > 1 {
                    for Share { mapping, from, to } in mappings {
                        write!(f, "\n  {mapping} takes rolls {from}..{to}")?;
                    }
                }
                write!(f, "\n{endpoint}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
