// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
