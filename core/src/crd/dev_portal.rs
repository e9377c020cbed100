// SPDX-License-Identifier: Apache-2.0
//! DevPortal: which services' documents are shown, and how.

use std::collections::BTreeMap;

use super::decode::{choice, record};

record! {
    pub struct DevPortal {
        /// It is the one that is shown where none is named.
        pub default: Option<bool>,
        /// Where its pages come from.
        pub content: Option<DevPortalContent>,
        /// Documents that no Mapping names.
        pub docs: Vec<DevPortalDocs>,
        /// Which Mappings are shown.
        pub selector: Option<DevPortalSelector>,
        /// How services are named.
        pub naming_scheme: Option<NamingScheme>,
        /// Whether and what can be searched.
        pub search: Option<DevPortalSearch>,
        /// Server URLs in the documents stay as they are.
        pub preserve_servers: Option<bool>,
    }
}

record! {
    pub struct DevPortalContent {
        /// URL of the repository.
        pub url: Option<String>,
        /// Its branch.
        pub branch: Option<String>,
        /// The folder in it.
        pub dir: Option<String>,
    }
}

record! {
    pub struct DevPortalDocs {
        /// Name of the service.
        pub service: Option<String>,
        /// URL of its OpenAPI document.
        pub url: Option<String>,
        /// Milliseconds that fetching it may take.
        pub timeout_ms: Option<u64>,
    }
}

record! {
    pub struct DevPortalSelector {
        /// Namespaces of the Mappings.
        pub match_namespaces: Vec<String> as "matchNamespaces",
        /// Labels that the Mappings must all have.
        pub match_labels: BTreeMap<String, String> as "matchLabels",
    }
}

choice! {
    pub enum NamingScheme { NamespaceName = "namespace.name", NamePrefix = "name.prefix" }
}

record! {
    pub struct DevPortalSearch {
        /// Whether there is a search.
        pub enabled: Option<bool>,
        /// What is searched.
        pub r#type: Option<DevPortalSearchType> as "type",
    }
}

choice! {
    pub enum DevPortalSearchType { AllContent = "all-content", TitleOnly = "title-only" }
}
