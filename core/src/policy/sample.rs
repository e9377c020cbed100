// SPDX-License-Identifier: Apache-2.0
//! Heads made for tests, of bytes that no parser would let through too.

use std::net::SocketAddr;

use super::format::{Facts, Flags};
use crate::wire::{Field, Head, HeadView, Known, Span, Version};

pub(crate) struct Sample {
    head: Head,
    block: Vec<u8>,
}

impl Sample {
    pub(crate) fn new(method: &str, target: &[u8]) -> Self {
        let mut sample = Self { head: Head::default(), block: Vec::new() };
        sample.head.method = sample.put(method.as_bytes());
        sample.head.target = sample.put(target);
        sample
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target.as_bytes())
    }

    pub(crate) fn http10(mut self) -> Self {
        self.head.version = Version::Http10;
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &[u8]) -> Self {
        let known = Known::of_field(name.as_bytes());
        let field = Field { name: self.put(name.as_bytes()), value: self.put(value), known };
        self.head.fields.push(field);
        self
    }

    pub(crate) fn view(&self) -> HeadView<'_> {
        HeadView::new(&self.head, &self.block)
    }

    fn put(&mut self, text: &[u8]) -> Span {
        let start = self.block.len();
        self.block.extend_from_slice(text);
        Span::new(start, self.block.len())
    }
}

/// A request that was answered by an upstream.
pub(crate) fn facts(request: HeadView<'_>) -> Facts<'_> {
    Facts {
        request,
        path: b"/quote/?q=1",
        authority: b"example.com",
        request_id: b"6b8f4e1c-0c4e-4a7b-9d55-5e0a7f3d2c11",
        forwarded_for: b"203.0.113.9,10.0.0.1",
        rewritten_path: Some(b"/?q=1"),
        peer: address("10.0.0.1:40000"),
        client: address("203.0.113.9:0").ip(),
        local: address("10.0.0.2:8080"),
        secure: true,
        version: Some(Version::Http11),
        start_us: 1_795_553_040_123_456,
        response: None,
        status: 200,
        flags: Flags::NONE,
        details: "via_upstream",
        bytes_received: 7,
        bytes_sent: 1234,
        duration_us: 12_900,
        request_us: Some(1_500),
        upstream_us: Some(11_200),
        upstream: Some(address("10.1.2.3:80")),
        upstream_local: Some(address("[::ffff:10.0.0.2]:50001")),
        cluster: "cluster_quote_default",
        route: "default/quote",
        transport_failure: "",
        tls: None,
    }
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no address"))
}
