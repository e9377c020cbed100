// SPDX-License-Identifier: Apache-2.0
//! HTTP/2 (RFC 9113) without sockets. A [`connection`] turns bytes into heads, bodies and ends of
//! streams, and back; a [`message`] says what makes a head well-formed, and how it looks in the
//! vocabulary that the gateway has for HTTP/1.1; a [`meter`] says how many frames a peer may send
//! for nothing.

pub mod connection;
pub mod frame;
pub mod hpack;
pub mod message;
pub mod meter;
