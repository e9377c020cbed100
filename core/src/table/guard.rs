// SPDX-License-Identifier: Apache-2.0
//! Guards that cannot be enforced: which requests they would have guarded.

use super::Request;
use super::host::Domain;
use crate::ir::{Guard, GuardScope, Refusal};

/// What refuses a request in this scope: the first guard of the scope whose globs cover it
/// decides, also when it lets the request through.
pub(super) fn refusal<'t>(
    guards: &'t [Guard],
    scope: GuardScope,
    request: &Request<'_>,
) -> Option<&'t Refusal> {
    guards
        .iter()
        .filter(|guard| guard.scope == scope)
        .find(|guard| covers(guard, request))
        .and_then(|guard| guard.refusal.as_deref())
}

fn covers(guard: &Guard, request: &Request<'_>) -> bool {
    let host = without_port(request.authority);
    let in_domain = match Domain::parse(&guard.host) {
        Domain::Any => true,
        Domain::Exact(text) => host == text.as_bytes(),
        Domain::Suffix(text) => host.ends_with(text.as_bytes()),
        Domain::Prefix(text) => host.starts_with(text.as_bytes()),
    };
    in_domain && glob(guard.path.as_bytes(), request.path)
}

/// The host of an authority: without a port, IPv6 addresses with their brackets.
fn without_port(authority: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', authority) {
        Some(colon) if authority[colon + 1..].iter().all(u8::is_ascii_digit) => &authority[..colon],
        _ => authority,
    }
}

/// `*` stands for any bytes, none included. Takes time in the product of both lengths at most.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when the text after the latest star turns out different.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, t));
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                p = star;
                t = from + 1;
                retry = Some((star, t));
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests;
