// SPDX-License-Identifier: Apache-2.0
//! Everything about Ringway that can be proved: what was written ([`crd`]), what was meant
//! ([`ir`]), what runs ([`table`]), the decisions taken per request ([`policy`]) and the codecs
//! ([`wire`]).
//!
//! No I/O, no clock, no randomness, no environment, no threads: all of these are arguments.
#![forbid(unsafe_code)]

pub mod limits;
pub mod name;
pub mod problem;

pub mod crd;
mod share;
pub mod snapshot;
pub mod sorted;

pub mod tls;

pub mod ir;
pub mod resolve;
pub mod status;

pub mod policy;
pub mod table;

pub mod wire;

pub mod feed;
pub mod link;
pub mod observe;
