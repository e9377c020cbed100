// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;

fn asked(to: &str, objects: &Value) -> Value {
    let body = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "ConversionReview",
        "request": {"uid": "7", "desiredAPIVersion": to, "objects": objects},
    });
    serde_json::from_slice(&review(body.to_string().as_bytes()).unwrap()).unwrap()
}

#[test]
fn a_review_is_answered_in_its_order() {
    let object = |name: &str, host: &str| {
        json!({
            "apiVersion": "getambassador.io/v2",
            "kind": "Mapping",
            "metadata": {"name": name, "uid": "kept"},
            "spec": {"prefix": "/", "service": "s", "host": host},
        })
    };
    let answer = asked("getambassador.io/v3alpha1", &json!([object("a", "x"), object("b", "y")]));
    assert_eq!(answer["apiVersion"], "apiextensions.k8s.io/v1");
    assert_eq!(answer["kind"], "ConversionReview");
    let response = &answer["response"];
    assert_eq!((&response["uid"], &response["result"]["status"]), (&json!("7"), &json!("Success")));
    let objects = response["convertedObjects"].as_array().unwrap();
    let seen: Vec<_> =
        objects.iter().map(|o| (&o["metadata"]["name"], &o["spec"]["hostname"])).collect();
    assert_eq!(seen, [(&json!("a"), &json!("x")), (&json!("b"), &json!("y"))]);
    assert!(objects.iter().all(|o| o["metadata"]["uid"] == "kept"));
}

#[test]
fn what_cannot_be_converted_is_said() {
    let object = json!({"apiVersion": "other/v1", "kind": "A", "metadata": {"name": "a"}});
    let answer = asked("getambassador.io/v2", &json!([object]));
    let result = &answer["response"]["result"];
    assert_eq!(result["status"], "Failure");
    assert_eq!(result["message"], "a: \"other/v1\" is no version of getambassador.io");
    for body in ["", "{}", "[]", "{\"request\": 1}", "\u{0}"] {
        review(body.as_bytes()).unwrap_err();
    }
}
