// SPDX-License-Identifier: Apache-2.0
//! All input objects at one instant, with the gateway's own settings. Plain data: a copy shares
//! everything, and so does all but a small part of it after a change.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::crd::{Meta, Object};
use crate::name::{Kind, Ref};
use crate::sorted::{self, Sorted};
use crate::tls::Pem;

/// What there is to serve.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub settings: Arc<Settings>,
    objects: Sorted<Object>,
    /// Written, but refused, and no earlier version of them serves. A guard among them has to fail
    /// closed.
    refused: Arc<BTreeMap<Ref, Arc<Meta>>>,
    files: Arc<BTreeMap<Arc<str>, File>>,
}

/// What is in a file that an object names, or why that is not known.
pub type File = Result<Pem, Arc<str>>;

/// An object that is not the same in two snapshots.
pub type Difference<'s> = sorted::Difference<'s, Object>;

impl Difference<'_> {
    pub fn kind(&self) -> Kind {
        self.name().kind
    }
}

/// What the process was told about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `AMBASSADOR_ID`.
    pub ambassador_id: Arc<str>,
    /// The gateway's own namespace: `AMBASSADOR_NAMESPACE`.
    pub namespace: Arc<str>,
    /// `AMBASSADOR_SINGLE_NAMESPACE`: only objects of the own namespace count.
    pub single_namespace: bool,
    /// `AMBASSADOR_ENVOY_BIND_ADDRESS`.
    pub bind_address: IpAddr,
    /// Without any Listener: listen on 8080 and 8443 as Emissary's manifests do.
    pub default_listeners: bool,
    pub service_resolution: ServiceResolution,
    /// The zone that the gateway runs in, as in the label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// Where the probe and diagnostics Mappings lead; none without an admin server.
    pub admin_address: Option<SocketAddr>,
    /// Off with `DISABLE_STRICT_LABEL_SELECTORS`: a Host's selector then needs any of its labels,
    /// or the hostname.
    pub strict_selectors: bool,
}

/// How a Service that is named by no resolver is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceResolution {
    /// By DNS, as Emissary's default resolver does.
    Dns,
    #[default]
    Endpoints,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ambassador_id: "default".into(),
            namespace: "default".into(),
            single_namespace: false,
            bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            default_listeners: false,
            service_resolution: ServiceResolution::default(),
            zone: None,
            admin_address: None,
            strict_selectors: true,
        }
    }
}

impl Snapshot {
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), ..Self::default() }
    }

    /// Adds an object, or replaces the one of that name.
    pub fn insert(&mut self, object: Arc<Object>) {
        let name = &object.meta.object;
        if self.refused.contains_key(name) {
            Arc::make_mut(&mut self.refused).remove(name);
        }
        self.objects.insert(object);
    }

    /// Notes an object that was refused. An earlier version of it stays.
    pub fn refuse(&mut self, meta: Arc<Meta>) {
        if self.objects.get(&meta.object).is_none() {
            Arc::make_mut(&mut self.refused).insert(meta.object.clone(), meta);
        }
    }

    /// Removes an object, refused or not.
    pub fn remove(&mut self, name: &Ref) {
        self.objects.remove(name);
        if self.refused.contains_key(name) {
            Arc::make_mut(&mut self.refused).remove(name);
        }
    }

    pub fn object(&self, name: &Ref) -> Option<&Arc<Object>> {
        self.objects.get(name)
    }

    /// All objects, by kind, namespace, name.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.iter()
    }

    /// The objects of one kind, by namespace and name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.row(move |name| name.kind < kind, move |name| name.kind > kind)
    }

    /// The objects that are not those of an earlier snapshot, by kind, namespace, name. Takes time
    /// by what differs, where this one was made from that.
    pub fn differences<'s>(&'s self, before: &'s Self) -> Vec<Difference<'s>> {
        self.objects.differences(&before.objects)
    }

    /// Whether nothing but objects may differ from an earlier snapshot.
    pub fn differs_in_objects_alone(&self, before: &Self) -> bool {
        Arc::ptr_eq(&self.settings, &before.settings)
            && Arc::ptr_eq(&self.refused, &before.refused)
            && Arc::ptr_eq(&self.files, &before.files)
    }

    /// Refused objects of one kind of which nothing serves.
    pub fn refused_of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Meta>> {
        let first = Ref::new(kind, "", "");
        self.refused.range(first..).take_while(move |(name, _)| name.kind == kind).map(|(_, m)| m)
    }

    /// A file that an object names, by the path as written; `None` where nobody looked.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Replaces the files: see [`crate::resolve::files`] for those that are looked at.
    pub fn set_files(&mut self, files: BTreeMap<Arc<str>, File>) {
        if *self.files != files {
            self.files = Arc::new(files);
        }
    }

    pub fn files(&self) -> &BTreeMap<Arc<str>, File> {
        &self.files
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

#[cfg(test)]
mod tests;
