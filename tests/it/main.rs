// SPDX-License-Identifier: Apache-2.0
//! The single integration binary.
#![allow(clippy::unwrap_used)]

mod golden;
mod tidy;
