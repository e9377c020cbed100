// SPDX-License-Identifier: Apache-2.0
//! `service:` as written → scheme, host, port, qualified with a namespace, and the names of the
//! cluster that it becomes. Emissary: `normalize_service_name`, `IRCluster`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use sha1::{Digest, Sha1};

/// `[scheme://]host[:port]`, parsed. What follows the port is cut off and told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Lower case.
    pub(crate) scheme: Option<Box<str>>,
    /// Lower case, no brackets.
    pub(crate) host: Box<str>,
    /// `None` where none (or 0) was written.
    pub(crate) port: Option<u16>,
    /// A path or query was written: it has no effect.
    pub(crate) excess: bool,
}

/// Why a service cannot be an upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("it names no host")]
    NoHost,
    #[error("{0:?} is no port number from 0 to 65535")]
    Port(String),
    #[error("the brackets of an IPv6 address do not match")]
    Brackets,
    #[error("{0:?} is no IPv6 address")]
    Ipv6(String),
    #[error("{0:?} is no host name")]
    Host(String),
}

/// Which resolver a service is meant for, as far as its name depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    Kubernetes,
    /// Consul's names have no namespace.
    Consul,
}

/// What decides whether a namespace is appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Qualify<'a> {
    /// Namespace of the object that names the service.
    pub(crate) namespace: &'a str,
    /// Namespace of the gateway.
    pub(crate) own: &'a str,
    /// Module `use_ambassador_namespace_for_service_resolution`.
    pub(crate) use_own: bool,
    pub(crate) naming: Naming,
}

impl Service {
    pub(crate) fn parse(text: &str) -> Result<Self, ServiceError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => {
                (Some(scheme.to_ascii_lowercase().into_boxed_str()), rest)
            }
            _ => (None, text.strip_prefix("//").unwrap_or(text)),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, after) = rest.split_at(end);
        let (host, port) = split_port(authority)?;
        Ok(Self { scheme, host: check_host(host)?, port, excess: !after.is_empty() })
    }

    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Appends the namespace to a short name of another namespace than the gateway's.
    pub(crate) fn qualified(mut self, by: Qualify<'_>) -> Self {
        let short = !self.host.contains(['.', ':']) && &*self.host != "localhost";
        let wanted = by.naming == Naming::Kubernetes && !by.use_own;
        if short && wanted && !by.namespace.is_empty() && by.namespace != by.own {
            self.host = format!("{}.{}", self.host, by.namespace).into();
        }
        self
    }

    /// Whether the scheme asks for TLS; `None` for a scheme that Emissary does not know.
    pub(crate) fn tls(&self) -> Option<bool> {
        match self.scheme.as_deref() {
            None | Some("http") => Some(false),
            Some("https") => Some(true),
            Some(_) => None,
        }
    }

    /// `host[:port]` as it goes into a Location, a Host or a statistic's name.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.to_string()
        };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }
}

/// As Emissary writes it into its intermediate form.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}://")?;
        }
        f.write_str(&self.authority())
    }
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), ServiceError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(ServiceError::Brackets)?;
            match after.strip_prefix(':') {
                Some(port) => (host, port),
                None if after.is_empty() => (host, ""),
                None => return Err(ServiceError::Brackets),
            }
        }
        None if authority.contains(']') => return Err(ServiceError::Brackets),
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    if host.is_empty() {
        return Err(ServiceError::NoHost);
    }
    let bracketed = authority.starts_with('[');
    if bracketed && host.parse::<Ipv6Addr>().is_err() {
        return Err(ServiceError::Ipv6(host.to_owned()));
    }
    if port.is_empty() {
        return Ok((host, None));
    }
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(number) if digits => Ok((host, (number != 0).then_some(number))),
        _ => Err(ServiceError::Port(port.to_owned())),
    }
}

/// Letters, digits, `-`, `_` and dots, or an address.
fn check_host(host: &str) -> Result<Box<str>, ServiceError> {
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let fits = host.len() <= 253 && !host.starts_with('.') && host.bytes().all(name);
    if !fits && host.parse::<Ipv6Addr>().is_err() {
        return Err(ServiceError::Host(host.to_owned()));
    }
    Ok(host.to_ascii_lowercase().into())
}

/// Letters, digits and `_` stay, all else becomes `_`. Emissary: cluster and statistics names.
pub(crate) fn mangle(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// Emissary's cluster name: at most 60 characters, longer ones are cut and hashed.
pub(crate) fn cluster_name(fields: &[&str]) -> String {
    let name = mangle(&fields.join("_"));
    if name.len() <= 60 {
        return name;
    }
    format!("{}-{}-0", &name[..40], &hex_sha1(&name)[..16])
}

/// Upper-case hexadecimal SHA-1, for names only.
pub(crate) fn hex_sha1(text: &str) -> String {
    use std::fmt::Write as _;
    Sha1::digest(text.as_bytes()).iter().fold(String::with_capacity(40), |mut hex, byte| {
        let _ = write!(hex, "{byte:02X}");
        hex
    })
}

#[cfg(test)]
mod tests;
