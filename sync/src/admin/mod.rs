// SPDX-License-Identifier: Apache-2.0
//! The admin port.

pub mod http;
