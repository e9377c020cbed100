// SPDX-License-Identifier: Apache-2.0
//! Where configuration and endpoints come from.

pub mod dns;
pub mod file;
pub mod named;
