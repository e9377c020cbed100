// SPDX-License-Identifier: Apache-2.0
//! Snapshot → (Ir, Problems).
