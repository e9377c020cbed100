// SPDX-License-Identifier: Apache-2.0
//! Snapshot → (Ir, Problems).

pub(crate) mod hostglob;
pub(crate) mod service;
pub(crate) mod weight;
