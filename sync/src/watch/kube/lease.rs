// SPDX-License-Identifier: Apache-2.0
//! Of several gateways one writes: whoever holds a Lease of coordination.k8s.io, renewed while it
//! lives, given back when it begins to drain, and taken over when it was silent for too long.
//!
//! How long a holder was silent is measured by this process's own clock, from when it saw the last
//! renewal: clocks of other machines may be wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use http::Method;
use ringway_core::limits;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::api::{Api, Failure};
use super::follow::unreadable;
use crate::log::{self, Timestamp};
use crate::progress::{Followed, Progress};
use crate::watch::backoff::jittered;

/// Who wants which Lease.
pub(super) struct Lease {
    pub(super) api: Api,
    pub(super) namespace: String,
    pub(super) name: String,
    /// This process, unlike any other.
    pub(super) identity: String,
    pub(super) followed: Arc<Followed>,
}

/// What was last seen of it.
#[derive(Default)]
struct Seen {
    version: String,
    at: Option<Instant>,
}

impl Lease {
    /// Tries for it until the process drains, and says whether it is held.
    pub(super) async fn keep(self, held: watch::Sender<bool>, progress: &Progress) {
        tokio::select! {
            () = self.contend(&held) => {}
            () = progress.drains() => {}
        }
        // Whoever writes stops before anybody else may begin.
        held.send_replace(false);
        match self.release().await {
            Ok(()) | Err(Failure::Absent) => {}
            Err(failure) => super::say("the Lease", &failure, &mut None),
        }
        self.followed.leads.store(false, Ordering::Release);
    }

    /// Tries for it for ever.
    async fn contend(&self, held: &watch::Sender<bool>) {
        let mut seen = Seen::default();
        let mut renewed: Option<Instant> = None;
        let mut said = None;
        loop {
            match self.once(&mut seen).await {
                Ok(true) => renewed = Some(Instant::now()),
                Ok(false) => renewed = None,
                Err(failure) => super::say("the Lease", &failure, &mut said),
            }
            // Whoever cannot renew stops before anybody else may begin.
            let holds = renewed.is_some_and(|at| at.elapsed() < limits::KUBE_LEASE_RENEW_TIMEOUT);
            if *held.borrow() != holds {
                log::info(match holds {
                    true => "this gateway writes statuses now",
                    false => "another gateway writes statuses now",
                });
                self.followed.leads.store(holds, Ordering::Release);
                held.send_replace(holds);
            }
            tokio::time::sleep(jittered(limits::KUBE_LEASE_RETRY)).await;
        }
    }

    fn collection(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace)
    }

    /// Takes or renews it where that may be done; whether it is held then.
    async fn once(&self, seen: &mut Seen) -> Result<bool, Failure> {
        let mut lease = match self.read().await {
            Ok(lease) => lease,
            Err(Failure::Absent) => {
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {"name": self.name, "namespace": self.namespace},
                    "spec": self.spec(0),
                });
                return self.write(Method::POST, &self.collection(), &lease).await;
            }
            Err(failure) => return Err(failure),
        };
        let version = lease["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if version != seen.version {
            *seen = Seen { version: version.to_owned(), at: Some(Instant::now()) };
        }
        let holder = holder(&lease);
        let is_ours = holder == self.identity;
        let is_over = seen.at.is_some_and(|at| at.elapsed() >= limits::KUBE_LEASE_TIME);
        if !is_ours && !holder.is_empty() && !is_over {
            return Ok(false);
        }
        let transitions = lease["spec"]["leaseTransitions"].as_i64().unwrap_or(0);
        let acquired = lease["spec"]["acquireTime"].take();
        lease["spec"] = self.spec(transitions + i64::from(!is_ours));
        if is_ours {
            lease["spec"]["acquireTime"] = acquired;
        }
        self.write(Method::PUT, &self.path(), &lease).await
    }

    /// Gives it back where it is ours, so that nobody has to wait until it is over.
    async fn release(&self) -> Result<(), Failure> {
        let mut lease = self.read().await?;
        if holder(&lease) == self.identity {
            lease["spec"]["holderIdentity"] = Value::Null;
            self.write(Method::PUT, &self.path(), &lease).await?;
        }
        Ok(())
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.name)
    }

    async fn read(&self) -> Result<Value, Failure> {
        serde_json::from_str(&self.api.get(&self.path(), false).await?).map_err(unreadable)
    }

    fn spec(&self, transitions: i64) -> Value {
        let now = micro_time(SystemTime::now());
        json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": limits::KUBE_LEASE_TIME.as_secs(),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        })
    }

    async fn write(&self, method: Method, path: &str, lease: &Value) -> Result<bool, Failure> {
        let body = lease.to_string().into_bytes();
        match self.api.send(method, path, "application/json", body).await {
            Ok(_) => Ok(true),
            // Somebody else was faster.
            Err(Failure::Conflict) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}

fn holder(lease: &Value) -> &str {
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default()
}

/// RFC 3339 with exactly six digits behind the point, as Kubernetes' MicroTime.
pub(super) fn micro_time(time: SystemTime) -> String {
    let milliseconds = Timestamp(time).to_string();
    format!("{}000Z", milliseconds.trim_end_matches('Z'))
}

/// RFC 3339 in whole seconds, as Kubernetes' Time.
pub(super) fn time(time: SystemTime) -> String {
    let text = Timestamp(time).to_string();
    format!("{}Z", text.get(..19).unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn times_as_kubernetes_reads_them() {
        let at = UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(micro_time(at), "1970-01-01T00:00:01.500000Z");
        assert_eq!(time(at), "1970-01-01T00:00:01Z");
    }
}
