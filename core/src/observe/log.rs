// SPDX-License-Identifier: Apache-2.0
//! Access-log lines: one request, one line, whatever bytes the request was made of.

use crate::ir::settings::AccessLog;
use crate::policy::format::{Facts, Format, Type};

/// Emissary's keys of a JSON line, in order, with what they say.
const JSON: [(&str, &str); 22] = [
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("istio_policy_status", "%DYNAMIC_METADATA(istio.mixer:status)%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
];

impl AccessLog {
    /// Emissary's default JSON line (`envoy_log_type: json`).
    pub fn json() -> Self {
        Self::Json(json_keys())
    }

    /// The same keys with their types (`envoy_log_type: typed_json`).
    pub fn typed_json() -> Self {
        Self::TypedJson(json_keys())
    }

    /// Appends one line, its line end included.
    pub fn write(&self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Text(format) => format.write(facts, out),
            Self::Json(keys) => write_object(keys, facts, out, |format, facts, out| {
                format.write(facts, out);
                Type::Text
            }),
            Self::TypedJson(keys) => write_object(keys, facts, out, Format::write_typed),
        }
        out.push(b'\n');
    }
}

fn json_keys() -> Vec<(Box<str>, Format)> {
    JSON.into_iter()
        .map(|(key, format)| {
            (key.into(), Format::parse(format).expect("the default formats are well-formed"))
        })
        .collect()
}

fn write_object(
    keys: &[(Box<str>, Format)],
    facts: &Facts<'_>,
    out: &mut Vec<u8>,
    write: impl Fn(&Format, &Facts<'_>, &mut Vec<u8>) -> Type,
) {
    out.reserve(1024);
    out.push(b'{');
    for (at, (key, format)) in keys.iter().enumerate() {
        out.extend_from_slice(if at > 0 { b",\"" } else { b"\"" });
        let start = out.len();
        out.extend_from_slice(key.as_bytes());
        escape_json(out, start);
        out.extend_from_slice(b"\":");
        let start = out.len();
        out.push(b'"');
        match write(format, facts, out) {
            Type::Missing => {
                out.truncate(start);
                out.extend_from_slice(b"null");
            }
            Type::Number => {
                out.remove(start);
            }
            Type::Text => {
                escape_json(out, start + 1);
                out.push(b'"');
            }
        }
    }
    out.push(b'}');
}

/// Appends a JSON string with its quotes. What is not UTF-8 becomes U+FFFD.
pub fn push_json_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.extend_from_slice(text);
    escape_json(out, start);
    out.push(b'"');
}

/// Makes what was appended from `start` on the inside of a JSON string (RFC 8259 §7). What is not
/// UTF-8 becomes U+FFFD.
fn escape_json(out: &mut Vec<u8>, start: usize) {
    // Without an early end, so that it is done many bytes at a time.
    let special = |byte: u8| !(b' '..=b'~').contains(&byte) || byte == b'"' || byte == b'\\';
    if !out[start..].iter().fold(false, |seen, &byte| seen | special(byte)) {
        return;
    }
    let raw = out.split_off(start);
    for char in String::from_utf8_lossy(&raw).chars() {
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..='\x1f' | '\x7f' => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let code = char as usize;
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[code >> 4], HEX[code & 15]]);
            }
            char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests;
