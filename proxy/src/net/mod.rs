// SPDX-License-Identifier: Apache-2.0
//! Sockets, buffers and deadlines. Nothing here knows HTTP, except that [`h2`] makes streams of an
//! HTTP/2 connection look like connections.

pub(crate) mod buffer;
pub(crate) mod h2;
pub(crate) mod listen;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod timer;
pub(crate) mod tls;
