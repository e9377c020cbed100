// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// A tree without positions, as compact text.
fn show(node: &Node<'_>) -> String {
    match &node.value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}f"),
        Value::String(text) => format!("{text:?}"),
        Value::Seq(items) => {
            let items: Vec<_> = items.iter().map(show).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(entries) => {
            let entries =
                entries.iter().map(|(key, value)| format!("{}: {}", key.text, show(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let shown = match parse(text) {
        Ok(None) => "nothing".into(),
        Ok(Some(node)) => show(&node),
        Err(error) => {
            let Span { line, column, .. } = error.span;
            format!("{}:{}: {}", line + 1, column + 1, error.message)
        }
    };
    assert_eq!(shown, expected, "{text}");
}

#[test]
fn scalars_have_their_core_type() {
    let table = [
        ("~", "null"),
        ("null", "null"),
        ("true", "true"),
        ("False", "false"),
        ("yes", r#""yes""#),
        ("42", "42"),
        ("-42", "-42"),
        ("+42", "42"),
        ("007", "7"),
        ("0x1F", "31"),
        ("0o17", "15"),
        ("0x", r#""0x""#),
        ("0x-1", r#""0x-1""#),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9.223372036854775808e18f"),
        ("1.5", "1.5f"),
        ("1e3", "1000.0f"),
        (".5", "0.5f"),
        (".inf", "inff"),
        ("-.inf", "-inff"),
        (".nan", "NaNf"),
        (".", r#"".""#),
        ("1.2.3", r#""1.2.3""#),
        ("1-2", r#""1-2""#),
        ("10.0.0.1:80", r#""10.0.0.1:80""#),
        ("1_000", r#""1_000""#),
        ("inf", r#""inf""#),
        ("nan", r#""nan""#),
        ("'42'", r#""42""#),
        ("\"true\"", r#""true""#),
        ("!!str 42", r#""42""#),
        ("2020-01-01T00:00:00Z", r#""2020-01-01T00:00:00Z""#),
    ];
    for (text, expected) in table {
        check(
            &format!("k: {text}"),
            &format!(
                "{{k: {}}}",
                expected.replace("9.223372036854775808e18", "9.223372036854776e18")
            ),
        );
    }
}

#[test]
fn documents_without_content_are_nothing() {
    for text in ["", " \n", "# x\n", "---\n", "--- # x\n", "---\n...\n", "null", "~"] {
        check(text, "nothing");
    }
}

#[test]
fn yaml_in_its_usual_shapes() {
    check("a: 1\nb:\n- x\n- {y: z}\n", r#"{a: 1, b: ["x", {y: "z"}]}"#);
    check("a: |\n  one\n  two\nb: >-\n  three\n  four\n", r#"{a: "one\ntwo\n", b: "three four"}"#);
    check("8080: x\ntrue: y\n", r#"{8080: "x", true: "y"}"#);
    check("a:\nb: ''\n", r#"{a: null, b: ""}"#);
    check("%YAML 1.2\n---\na: 1\n", "{a: 1}");
    check("a: \"\\u263a\\x41\"\n", "{a: \"☺A\"}");
}

#[test]
fn aliases_and_merges() {
    check("a: &x {p: 1, q: 2}\nb: *x\n", "{a: {p: 1, q: 2}, b: {p: 1, q: 2}}");
    check("a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\n", "{a: {p: 1, q: 2}, b: {q: 3, p: 1}}");
    check(
        "- &x {p: 1}\n- &y {p: 2, q: 2}\n- <<: [*x, *y]\n",
        "[{p: 1}, {p: 2, q: 2}, {p: 1, q: 2}]",
    );
    check("a: {<<: 1}\n", "1:5: `<<` takes a map or a list of maps");
    check("a: &x [*x]\n", "1:8: the alias refers to a value that contains it");
    check("a: *x\n", "1:4: while parsing node, found unknown anchor");
}

#[test]
fn json_is_read_with_its_escapes() {
    check(
        r#"{"a": "\ud83d\ude00 \"\\\/\b\f\n\r\t\u0041", "b": [1, -2.5, true, null, {}]}"#,
        r#"{a: "😀 \"\\/\u{8}\u{c}\n\r\tA", b: [1, -2.5f, true, null, {}]}"#,
    );
    // Not JSON, but a YAML flow map.
    check("{a: b, 'c': 'd'}", r#"{a: "b", c: "d"}"#);
}

#[test]
fn what_readers_disagree_on_is_refused() {
    check("a: 1\nb: 2\na: 3\n", "3:1: the key `a` is there twice");
    check("{\"a\": 1, \"a\": 2}", "1:10: the key `a` is there twice");
    check("? [a]\n: b\n", "1:3: a map or a list cannot be a key");
    check("? {a: b}\n: b\n", "1:3: a map or a list cannot be a key");
    check("a: 1\n---\nb: 2\n", "2:1: a second document begins without `---`");
}

#[test]
fn size_and_depth_are_bounded() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(parse(&deep(OBJECT_DEPTH_MAX)).is_ok());
    let message = format!("nested deeper than {OBJECT_DEPTH_MAX} levels");
    assert_eq!(parse(&deep(OBJECT_DEPTH_MAX + 1)).unwrap_err().message, message);
    let json = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
    assert!(parse(&json(OBJECT_DEPTH_MAX - 1)).is_ok());
    assert_eq!(parse(&json(OBJECT_DEPTH_MAX + 1)).unwrap_err().message, message);
    let block: String =
        (0..OBJECT_DEPTH_MAX + 1).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    assert_eq!(parse(&block).unwrap_err().message, message);
    // Depth through aliases counts too.
    let mut chained = "- &a0 [x]\n".to_owned();
    for i in 1..=OBJECT_DEPTH_MAX {
        chained += &format!("- &a{i} [*a{}]\n", i - 1);
    }
    assert_eq!(parse(&chained).unwrap_err().message, message);

    let large = format!("a: {}", "x".repeat(OBJECT_BYTES_MAX));
    assert!(parse(&large).unwrap_err().message.contains("larger than"));
    // A billion laughs.
    let mut bomb = "- &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..10 {
        bomb += &format!("- &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "));
    }
    assert!(parse(&bomb).unwrap_err().message.contains("more than"));
}

#[test]
fn positions_are_those_of_the_text() {
    #[track_caller]
    fn at(text: &str, key: &str, expected: (u32, u32, u32, u32)) {
        let root = parse(text).unwrap().unwrap();
        let Span { line, column, end_line, end_column } = root.get(key).unwrap().span;
        assert_eq!((line, column, end_line, end_column), expected, "{text}");
    }
    at("a: 1\nb: xyz\n", "b", (1, 3, 1, 6));
    at("a: 1\nb: 'xyz'\n", "b", (1, 3, 1, 8));
    at("é: 1\nü: é # c\n", "ü", (1, 3, 1, 4));
    at("{\"é\": \"x\",\n \"b\": \"é\"}", "b", (1, 6, 1, 9));
    at("--- {a: b}\n", "a", (0, 8, 0, 9));
}

#[test]
fn a_large_document_costs_in_proportion() {
    // Each of these took minutes with a step that is quadratic.
    let keys = |n: usize| (0..n).map(|i| format!("\"k{i}\": 1,\n")).collect::<String>();
    let lines = format!("{{{}\"z\": 1}}", keys(60_000));
    let text = lines.replace('\n', "");
    assert!(parse(&lines).is_ok());
    assert!(parse(&text).is_ok());
    let merged = format!("a: &x {{{}}}\nb:\n  <<: *x\n", keys(15_000).replace('\n', " "));
    let node = parse(&merged).unwrap().unwrap();
    assert_eq!(node.get("b").unwrap().size(), 15_001);
}

/// Text that is close to YAML and JSON.
fn near_yaml() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "b: ",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        ": ",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "&x ",
        "*x",
        "<<: ",
        "!!str ",
        "#",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "?",
        "\t",
        "\\u",
        "\\ud83d",
        "0x",
        "1e9",
        "~",
        "é",
        "\u{feff}",
        "\r",
        "\u{2028}",
        "\u{0}",
        "@",
        "`",
        "-",
        "$",
        "${A}",
        "%",
    ];
    let piece = proptest::sample::select(pieces.to_vec());
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![near_yaml(), any::<String>()]) {
        let _ = parse(&text);
    }

    #[test]
    fn json_means_the_same_as_to_serde(value in json(), pretty in any::<bool>()) {
        let value = serde_json::Value::Object([("k".to_owned(), value)].into_iter().collect());
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let node = parse(text.as_ref().unwrap()).unwrap().unwrap();
        prop_assert_eq!(as_json(&node), value);
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            proptest::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn as_json(node: &Node<'_>) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::String(text) => text.clone().into_owned().into(),
        Value::Seq(items) => items.iter().map(as_json).collect::<Vec<_>>().into(),
        Value::Map(entries) => {
            let entries = entries.iter().map(|(k, v)| (k.text.clone().into_owned(), as_json(v)));
            serde_json::Value::Object(entries.collect())
        }
    }
}
