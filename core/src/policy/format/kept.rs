// SPDX-License-Identifier: Apache-2.0
//! Facts that outlive the buffers they point into: of an exchange that became a tunnel, whose
//! access-log line is written hours later. One copy, of what the heads really take.

use super::{Facts, Flags};
use crate::wire::{Head, HeadView, Span};

/// A copy of [`Facts`].
#[derive(Debug)]
pub struct Kept {
    request: Head,
    response: Option<Head>,
    /// The request's head, then everything else that facts point to.
    block: Box<[u8]>,
    answer: Box<[u8]>,
    path: Span,
    authority: Span,
    request_id: Span,
    forwarded_for: Span,
    rewritten_path: Option<Span>,
    cluster: Box<str>,
    route: Box<str>,
    /// Everything that points nowhere.
    plain: Facts<'static>,
}

static NO_HEAD: Head = Head::EMPTY;

impl Kept {
    /// Copies everything but the texts that are ours and static: the one who asks for
    /// [`Kept::facts`] says them anew.
    pub fn of(facts: &Facts<'_>) -> Self {
        let mut block = Vec::new();
        let mut keep = |bytes: &[u8]| {
            let start = block.len();
            block.extend_from_slice(bytes);
            Span::new(start, block.len())
        };
        // First: the head's spans stay right.
        keep(head_bytes(facts.request));
        let path = keep(facts.path);
        let authority = keep(facts.authority);
        let request_id = keep(facts.request_id);
        let forwarded_for = keep(facts.forwarded_for);
        let rewritten_path = facts.rewritten_path.map(&mut keep);
        let nothing = HeadView::new(&NO_HEAD, &[]);
        Self {
            request: exact(facts.request.head),
            response: facts.response.map(|view| exact(view.head)),
            block: block.into(),
            answer: facts.response.map(head_bytes).unwrap_or_default().into(),
            path,
            authority,
            request_id,
            forwarded_for,
            rewritten_path,
            cluster: facts.cluster.into(),
            route: facts.route.into(),
            plain: Facts {
                request: nothing,
                path: b"",
                authority: b"",
                request_id: b"",
                forwarded_for: b"",
                rewritten_path: None,
                peer: facts.peer,
                client: facts.client,
                local: facts.local,
                secure: facts.secure,
                version: facts.version,
                start_us: facts.start_us,
                response: None,
                status: facts.status,
                flags: Flags::NONE,
                details: "",
                bytes_received: 0,
                bytes_sent: 0,
                duration_us: 0,
                request_us: facts.request_us,
                upstream_us: facts.upstream_us,
                upstream: facts.upstream,
                upstream_local: facts.upstream_local,
                cluster: "",
                route: "",
                transport_failure: "",
                tls: None,
            },
        }
    }

    /// The facts as they were, without flags, details, byte counts and duration.
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            request: HeadView::new(&self.request, &self.block),
            response: self.response.as_ref().map(|head| HeadView::new(head, &self.answer)),
            path: self.path.of(&self.block),
            authority: self.authority.of(&self.block),
            request_id: self.request_id.of(&self.block),
            forwarded_for: self.forwarded_for.of(&self.block),
            rewritten_path: self.rewritten_path.map(|span| span.of(&self.block)),
            cluster: &self.cluster,
            route: &self.route,
            ..self.plain
        }
    }
}

fn head_bytes<'a>(view: HeadView<'a>) -> &'a [u8] {
    &view.block[..view.head.len]
}

/// A head that holds no more memory than its fields take.
fn exact(head: &Head) -> Head {
    let mut head = head.clone();
    head.fields.shrink_to_fit();
    head
}
