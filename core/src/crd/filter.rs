// SPDX-License-Identifier: Apache-2.0
//! Filter and FilterPolicy: what a request has to pass, and which requests.

use super::decode::{At, Context, Decode, Untyped, choice, record};
use super::node::Node;

/// A Filter; its settings are read by the kind of filter that enforces them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    pub kind: FilterKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterKind {
    ApiKey,
    External,
    Jwt,
    OAuth2,
    Plugin,
}

record! {
    /// getambassador.io keys the spec by type name, gateway.getambassador.io has a `type`.
    pub struct FilterFields {
        pub r#type: Option<FilterType> as "type",
        pub api_key: Option<Untyped> as "APIKey" | "apikey",
        pub external: Option<Untyped> as "External" | "external",
        pub jwt: Option<Untyped> as "JWT" | "jwt",
        pub oauth2: Option<Untyped> as "OAuth2" | "oauth2",
        pub plugin: Option<Untyped> as "Plugin" | "plugin",
    }
}

choice! {
    pub enum FilterType {
        ApiKey = "apikey",
        External = "external",
        Jwt = "jwt",
        OAuth2 = "oauth2",
        Plugin = "plugin",
    }
}

impl Decode for Filter {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        let errors = cx.problems.len();
        let fields = FilterFields::decode(node, at, cx)?;
        let written = [
            (fields.api_key, FilterKind::ApiKey),
            (fields.external, FilterKind::External),
            (fields.jwt, FilterKind::Jwt),
            (fields.oauth2, FilterKind::OAuth2),
            (fields.plugin, FilterKind::Plugin),
        ];
        let mut kinds: Vec<_> = written.iter().filter(|(w, _)| w.is_some()).map(|w| w.1).collect();
        let named = fields.r#type.map(|named| match named {
            FilterType::ApiKey => FilterKind::ApiKey,
            FilterType::External => FilterKind::External,
            FilterType::Jwt => FilterKind::Jwt,
            FilterType::OAuth2 => FilterKind::OAuth2,
            FilterType::Plugin => FilterKind::Plugin,
        });
        kinds.extend(named);
        kinds.dedup();
        if kinds.len() != 1 && cx.problems.len() == errors {
            let message = "a Filter has exactly one of JWT, OAuth2, APIKey, External, Plugin";
            cx.problems.bad_value(&cx.object, at.to_string(), message.into());
        }
        kinds.pop().map(|kind| Self { kind })
    }
}

record! {
    pub struct FilterPolicy {
        pub rules: Vec<FilterRule>,
    }
}

record! {
    /// The first rule that matches a request decides.
    pub struct FilterRule {
        /// Glob over the authority; absent: any.
        pub host: Option<String>,
        /// Glob over the path; absent: any.
        pub path: Option<String>,
        /// None: the request passes.
        pub filters: Vec<FilterStep>,
    }
    dead { "precedence" => "" }
}

record! {
    pub struct FilterStep {
        pub name: String,
        pub namespace: Option<String>,
        pub if_request_header: Option<IfRequestHeader> as "ifRequestHeader",
        pub on_deny: Option<FilterThen> as "onDeny",
        pub on_allow: Option<FilterThen> as "onAllow",
        pub arguments: Option<Untyped>,
    }
}

record! {
    pub struct IfRequestHeader {
        pub name: String,
        pub negate: Option<bool>,
        pub value: Option<String>,
        pub value_regex: Option<String> as "valueRegex",
    }
}

choice! {
    pub enum FilterThen { Break = "break", Continue = "continue" }
}
