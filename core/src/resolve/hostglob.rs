// SPDX-License-Identifier: Apache-2.0
//! DNS globs of Hosts and Mappings: `*` is a wildcard only as the first or the last character, may
//! span dots and never matches the empty string. A pattern may carry a port, as any other text.

/// Whether some host name matches both globs. Symmetric. Emissary: `hostglob_matches`.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    if a == b || a == "*" || b == "*" {
        return true;
    }
    // A bare leading dot is no host name.
    if a.is_empty() || b.is_empty() || a.starts_with('.') || b.starts_with('.') {
        return false;
    }
    let (a_start, a_end) = (a.starts_with('*'), a.ends_with('*'));
    let (b_start, b_end) = (b.starts_with('*'), b.ends_with('*'));
    if (a_start && a_end) || (b_start && b_end) {
        return false;
    }
    match (a_start || a_end, b_start || b_end) {
        (false, false) => false,
        (true, false) => covers(a, b),
        (false, true) => covers(b, a),
        (true, true) if a_start && b_start => {
            let (a, b) = (&a[1..], &b[1..]);
            a.ends_with(b) || b.ends_with(a)
        }
        (true, true) if a_end && b_end => {
            let (a, b) = (&a[..a.len() - 1], &b[..b.len() - 1]);
            a.starts_with(b) || b.starts_with(a)
        }
        // One ends where the other begins.
        (true, true) => true,
    }
}

/// Whether a glob matches a literal name.
fn covers(glob: &str, name: &str) -> bool {
    // The star stands for one character at least.
    if name.len() < glob.len() {
        return false;
    }
    match glob.strip_prefix('*') {
        Some(suffix) => name.ends_with(suffix),
        None => name.starts_with(&glob[..glob.len() - 1]),
    }
}

/// Whether the text has a wildcard at all.
pub(crate) fn is_glob(text: &str) -> bool {
    text.starts_with('*') || text.ends_with('*')
}

/// Envoy's order of domains: exact names, then suffix wildcards, then prefix wildcards, longest
/// first, then `*`. Smaller sorts first.
pub(crate) fn specificity(domain: &str) -> (u8, std::cmp::Reverse<usize>, &str) {
    let class = match domain {
        "*" => 3,
        _ if domain.starts_with('*') => 1,
        _ if domain.ends_with('*') => 2,
        _ => 0,
    };
    // Exact names never overlap: alphabetical order is easier to read.
    let len = if class == 0 { 0 } else { domain.len() };
    (class, std::cmp::Reverse(len), domain)
}

#[cfg(test)]
mod tests;
