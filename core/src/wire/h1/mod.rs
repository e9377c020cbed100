// SPDX-License-Identifier: Apache-2.0
//! HTTP/1.1 (RFC 9112), strict: what cannot be read in one way only is refused.
