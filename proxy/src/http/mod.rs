// SPDX-License-Identifier: Apache-2.0
//! From a client's bytes to an answer. The way of a request: [`h1`] or [`h2`] receives its head,
//! [`exchange`] decides what becomes of it, [`forward`] sends it on ([`upload`]) and brings the
//! answer back ([`download`]), [`shadow`] sends a copy of it elsewhere, [`reply`] writes the answers
//! that are ours. An [`upgrade`] is what an exchange can end in; [`call`] is what gRPC's ones have
//! beside all that.

mod call;
mod download;
pub(crate) mod exchange;
mod flow;
pub(crate) mod forward;
pub(crate) mod h1;
pub(crate) mod h2;
pub(crate) mod record;
pub(crate) mod reply;
pub(crate) mod shadow;
mod upgrade;
mod upload;
