// SPDX-License-Identifier: Apache-2.0
//! DevPortal: which services' documents are shown, and how.

use std::collections::BTreeMap;

use super::decode::{choice, record};

record! {
    pub struct DevPortal {
        pub default: Option<bool>,
        pub content: Option<DevPortalContent>,
        pub docs: Vec<DevPortalDocs>,
        pub selector: Option<DevPortalSelector>,
        pub naming_scheme: Option<NamingScheme>,
        pub search: Option<DevPortalSearch>,
        pub preserve_servers: Option<bool>,
    }
}

record! {
    pub struct DevPortalContent {
        pub url: Option<String>,
        pub branch: Option<String>,
        pub dir: Option<String>,
    }
}

record! {
    pub struct DevPortalDocs {
        pub service: Option<String>,
        pub url: Option<String>,
        pub timeout_ms: Option<u64>,
    }
}

record! {
    pub struct DevPortalSelector {
        pub match_namespaces: Vec<String> as "matchNamespaces",
        pub match_labels: BTreeMap<String, String> as "matchLabels",
    }
}

choice! {
    pub enum NamingScheme { NamespaceName = "namespace.name", NamePrefix = "name.prefix" }
}

record! {
    pub struct DevPortalSearch {
        pub enabled: Option<bool>,
        pub r#type: Option<DevPortalSearchType> as "type",
    }
}

choice! {
    pub enum DevPortalSearchType { AllContent = "all-content", TitleOnly = "title-only" }
}
