// SPDX-License-Identifier: Apache-2.0
//! The one normalisation of a request's target: before routing, auth, limits and logging, and
//! what goes upstream unless it is rewritten.
