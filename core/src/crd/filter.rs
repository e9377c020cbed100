// SPDX-License-Identifier: Apache-2.0
//! Filter and FilterPolicy: what a request has to pass, and which requests.

use super::decode::{At, Context, Decode, Untyped, choice, record};
use super::encode::Encode;
use super::node::Node;
use super::schema::Form;

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
        /// Which of them it is (in gateway.getambassador.io).
        pub r#type: Option<FilterType> as "type",
        /// Requests must have a key.
        pub api_key: Option<Untyped> as "APIKey" | "apikey",
        /// A service is asked.
        pub external: Option<Untyped> as "External" | "external",
        /// Requests must have a JSON Web Token.
        pub jwt: Option<Untyped> as "JWT" | "jwt",
        /// Users log in by OAuth 2.0.
        pub oauth2: Option<Untyped> as "OAuth2" | "oauth2",
        /// A Go plugin; there is nothing to load it.
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

impl Encode for Filter {
    fn encode(&self) -> serde_json::Value {
        let name = match self.kind {
            FilterKind::ApiKey => "APIKey",
            FilterKind::External => "External",
            FilterKind::Jwt => "JWT",
            FilterKind::OAuth2 => "OAuth2",
            FilterKind::Plugin => "Plugin",
        };
        serde_json::json!({name: {}})
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

    fn form() -> Form {
        FilterFields::form()
    }
}

record! {
    pub struct FilterPolicy {
        /// Which requests have to pass what; the first rule that matches a request decides.
        pub rules: Vec<FilterRule>,
    }
}

record! {
    /// The first rule that matches a request decides.
    pub struct FilterRule {
        /// Host names, with stars. Absent: any.
        pub host: Option<String>,
        /// Paths, with stars. Absent: any.
        pub path: Option<String>,
        /// What a request has to pass, in order; nothing: it passes.
        pub filters: Vec<FilterStep>,
    }
    dead { "precedence" => "" }
}

record! {
    pub struct FilterStep {
        /// Name of the Filter.
        pub name: String,
        /// Namespace of the Filter. Default: the policy's own.
        pub namespace: Option<String>,
        /// It is skipped for other requests.
        pub if_request_header: Option<IfRequestHeader> as "ifRequestHeader",
        /// What happens where it denies. Default: `break`.
        pub on_deny: Option<FilterThen> as "onDeny",
        /// What happens where it allows. Default: `continue`.
        pub on_allow: Option<FilterThen> as "onAllow",
        /// What the Filter is told.
        pub arguments: Option<Untyped>,
    }
}

record! {
    pub struct IfRequestHeader {
        /// Name of the header.
        pub name: String,
        /// Requests without it are meant.
        pub negate: Option<bool>,
        /// Its value, exactly.
        pub value: Option<String>,
        /// A regular expression (RE2) for its value.
        pub value_regex: Option<String> as "valueRegex",
    }
}

choice! {
    pub enum FilterThen { Break = "break", Continue = "continue" }
}
