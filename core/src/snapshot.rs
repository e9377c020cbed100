// SPDX-License-Identifier: Apache-2.0
//! All input objects at one instant.
