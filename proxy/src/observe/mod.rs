// SPDX-License-Identifier: Apache-2.0
//! What a worker says about its traffic: access-log lines on their way out, and the time.

pub(crate) mod log;

pub(crate) mod clock;
