// SPDX-License-Identifier: Apache-2.0
//! An object from one version into another and back: whatever is in it, and as often as one likes.

use ringway_core::crd::convert::convert;
use serde_json::Value;

/// Bytes as an object that an API server sends.
pub fn conversion(data: &[u8]) {
    let Ok(mut object) = serde_json::from_slice::<Value>(data) else { return };
    if convert(&mut object, "getambassador.io/v2").is_err() {
        return;
    }
    // What is odd or not said is put in order on the first way there and back, and stays so.
    let mut earlier = [Value::Null, Value::Null];
    for round in 0..3 {
        for (before, version) in earlier.iter_mut().zip(["v3alpha1", "v2"]) {
            convert(&mut object, &format!("getambassador.io/{version}")).expect("it was of ours");
            if round > 1 {
                assert_eq!(*before, object, "another one the second time");
            }
            *before = object.clone();
        }
    }
}
