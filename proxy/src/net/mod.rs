// SPDX-License-Identifier: Apache-2.0
//! Sockets, buffers and deadlines. Nothing here knows HTTP.

pub(crate) mod buffer;
pub(crate) mod listen;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod timer;
pub(crate) mod tls;
