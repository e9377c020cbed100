// SPDX-License-Identifier: Apache-2.0
//! `load_balancer` as written → how a cluster chooses, and what of a request it goes by.

use crate::crd::mapping::{LoadBalancer, LoadBalancerPolicy as Policy};
use crate::name::Ref;
use crate::policy::balance::{Balancer, HashCookie, HashKey};
use crate::problem::Problems;

use super::duration;

/// A policy that is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balancing {
    pub(crate) balancer: Balancer,
    /// Set for those that hash, and only for them.
    pub(crate) hash: Option<HashKey>,
}

/// `None`, with a problem, for what Emissary refuses: the plain policies take no key, the hashing
/// ones exactly one.
pub(crate) fn resolve(
    object: &Ref,
    path: &str,
    written: &LoadBalancer,
    problems: &mut Problems,
) -> Option<Balancing> {
    let cookie = match &written.cookie {
        None => None,
        Some(cookie) => {
            let path = format!("{path}.cookie");
            let text = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
            let ttl = text(&cookie.ttl);
            let ttl = match ttl.as_deref().map(|text| (text, duration::parse(text))) {
                None => None,
                Some((_, Some(ttl))) => Some(ttl),
                Some((text, None)) => {
                    problems.bad_duration(object, &format!("{path}.ttl"), text);
                    return None;
                }
            };
            let place = text(&cookie.path);
            // RFC 6265 §4.1.1: a name is a token, a path any character but controls and `;`.
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if cookie.name.is_empty() || !cookie.name.bytes().all(token) {
                problems.bad_cookie(object, &format!("{path}.name"), &cookie.name);
                return None;
            }
            if let Some(place) = &place
                && place.bytes().any(|b| b.is_ascii_control() || b == b';')
            {
                problems.bad_cookie(object, &format!("{path}.path"), place);
                return None;
            }
            let path = place.map(String::into_boxed_str);
            Some(HashKey::Cookie(HashCookie { name: cookie.name.as_str().into(), path, ttl }))
        }
    };
    let header =
        written.header.as_ref().map(|name| HashKey::Header(name.to_ascii_lowercase().into()));
    let source_ip = (written.source_ip == Some(true)).then_some(HashKey::SourceIp);
    let mut keys: Vec<HashKey> = [cookie, header, source_ip].into_iter().flatten().collect();
    let balancer = match written.policy {
        Policy::RoundRobin => Balancer::RoundRobin,
        Policy::LeastRequest => Balancer::LeastRequest,
        Policy::RingHash => Balancer::RingHash,
        Policy::Maglev => Balancer::Maglev,
    };
    let (wanted, count) = match balancer {
        Balancer::RoundRobin | Balancer::LeastRequest => ("no hash key", 0),
        Balancer::RingHash | Balancer::Maglev => {
            ("exactly one of cookie, header and source_ip: true", 1)
        }
    };
    if keys.len() != count {
        problems.load_balancer_keys(object, path, balancer.as_str(), wanted);
        return None;
    }
    Some(Balancing { balancer, hash: keys.pop() })
}

#[cfg(test)]
mod tests;
