// SPDX-License-Identifier: Apache-2.0
//! What is said about traffic, not where it goes.

pub mod log;
pub mod metric;
pub mod prometheus;
pub mod quantile;
