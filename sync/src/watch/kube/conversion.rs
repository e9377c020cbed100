// SPDX-License-Identifier: Apache-2.0
//! Whether objects that are stored in another version are converted, where a webhook has to.
//!
//! An API server whose webhook has died goes on with watches as if nothing ever happened, and tells
//! of no change any more; only who lists hears why. So one kind is listed now and then, for all.

use ringway_core::limits;
use serde_json::Value;
use tokio::sync::watch;

use super::api::{Api, Failure};
use super::definitions::Installed;
use crate::watch::backoff::jittered;

const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?fieldSelector=\
                          metadata.name%3Dmappings.getambassador.io";

/// Looks after it for ever; `mappings` is the collection that is looked at.
pub(super) async fn follow(
    api: Api,
    mappings: String,
    mut installed: Installed,
    is_dead: watch::Sender<bool>,
) {
    let one = format!("{mappings}?limit=1");
    loop {
        let look = async {
            if !is_asked_for(&api).await {
                is_dead.send_if_modified(std::mem::take);
                return std::future::pending().await;
            }
            loop {
                let now = match api.get(&one, true).await {
                    Err(Failure::Unconverted(_)) => true,
                    Ok(_) => false,
                    // Of other failures others speak.
                    Err(_) => *is_dead.borrow(),
                };
                is_dead.send_if_modified(|dead| std::mem::replace(dead, now) != now);
                tokio::time::sleep(jittered(limits::KUBE_CONVERSION_CHECK)).await;
            }
        };
        tokio::select! {
            () = look => {}
            () = installed.changed() => {}
        }
    }
}

/// Whether the definition names a webhook. Where that cannot be known none is looked for.
async fn is_asked_for(api: &Api) -> bool {
    let Ok(text) = api.get(DEFINITION, false).await else { return false };
    let list: Value = serde_json::from_str(&text).unwrap_or_default();
    list["items"][0]["spec"]["conversion"]["strategy"] == "Webhook"
}
