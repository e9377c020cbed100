// SPDX-License-Identifier: Apache-2.0
//! Who the client is and what the upstream is told about it: X-Forwarded-For, X-Forwarded-Proto,
//! x-envoy-external-address, x-envoy-internal, x-request-id.
