// SPDX-License-Identifier: Apache-2.0
//! Converts objects for an API server whose definitions ask a webhook for it: HTTPS at the path
//! where Emissary's own answers.
//!
//! It answers from the first moment on, as the gateway's own lists may need it. Whoever can reach
//! the port may ask: what is answered is what was sent, in another shape.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ringway_core::crd::convert::{PATH, convert};
use ringway_core::limits;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::admin::http::accept;
use crate::log;

/// Where it answers, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub address: SocketAddr,
    /// A folder with `tls.crt` and `tls.key`, as a Secret is mounted. Both are read anew for every
    /// connection: one that is renewed counts at once.
    pub certificate: PathBuf,
}

impl Webhook {
    /// Answers until dropped. An address that somebody has, as the process before this one may, is
    /// waited for.
    pub(crate) async fn serve(self) {
        let mut is_said = false;
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(error) => {
                    if !std::mem::replace(&mut is_said, true) {
                        let address = self.address;
                        log::warn(format!("nobody converts objects on {address} for now: {error}"));
                    }
                    tokio::time::sleep(limits::SIDE_PORT_RETRY).await;
                }
            }
        };
        let connections = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS_MAX));
        let reviews = Arc::new(Semaphore::new(limits::CONVERSIONS_MAX));
        let mut said = String::new();
        loop {
            let (stream, _, permit) = accept(&listener, &connections).await;
            let acceptor = match acceptor(&self.certificate) {
                Ok(acceptor) => acceptor,
                Err(error) => {
                    let error = format!("{error:#}");
                    if said != error {
                        log::error(format!("objects are not converted: {error}"));
                        said = error;
                    }
                    continue;
                }
            };
            said.clear();
            let reviews = Arc::clone(&reviews);
            tokio::spawn(async move {
                // The peer's faults end its connection and concern nobody else.
                let _ = connection(stream, &acceptor, reviews).await;
                drop(permit);
            });
        }
    }
}

/// Shows the certificate in a folder.
fn acceptor(folder: &Path) -> anyhow::Result<TlsAcceptor> {
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let chain = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("the certificate in {}", certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(&key)
        .with_context(|| format!("the key in {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| format!("the certificate in {}", folder.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    reviews: Arc<Semaphore>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let stream = timeout(limits::ADMIN_TIMEOUT, acceptor.accept(stream)).await??;
    let service = service_fn(|request| answer(request, &reviews));
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::CONVERSION_IDLE_TIMEOUT)
        .max_buf_size(limits::ADMIN_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

async fn answer(
    request: Request<Incoming>,
    reviews: &Semaphore,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match respond(request, reviews).await {
        Ok(review) => (StatusCode::OK, review),
        Err((status, why)) => (status, format!("{why}\n").into_bytes()),
    };
    let kind = if status == StatusCode::OK { "application/json" } else { "text/plain" };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    Ok(response)
}

async fn respond(
    request: Request<Incoming>,
    reviews: &Semaphore,
) -> Result<Vec<u8>, (StatusCode, String)> {
    if request.uri().path() != PATH {
        return Err((StatusCode::NOT_FOUND, format!("objects are converted at {PATH}")));
    }
    if request.method() != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "only POST".into()));
    }
    // A body is in memory until it is answered: so many at a time.
    let _permit = reviews.acquire().await;
    let body = Limited::new(request.into_body(), limits::CONVERSION_BYTES_MAX).collect();
    let body = match timeout(limits::ADMIN_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => return Err((StatusCode::PAYLOAD_TOO_LARGE, error.to_string())),
        Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "too slow".into())),
    };
    let converted = tokio::task::spawn_blocking(move || review(&body)).await;
    let failed = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, error);
    converted
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

/// Kubernetes: `ConversionReview` of apiextensions.k8s.io/v1, on its way here.
#[derive(Deserialize)]
struct Asked<'b> {
    #[serde(rename = "apiVersion")]
    api_version: String,
    #[serde(borrow)]
    request: Objects<'b>,
}

#[derive(Deserialize)]
struct Objects<'b> {
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired: String,
    /// Read one after the other: a tree takes many times the memory of its text.
    #[serde(borrow)]
    objects: Vec<&'b RawValue>,
}

/// The same on its way back.
#[derive(Serialize)]
struct Answered {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: &'static str,
    response: Converted,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Converted {
    uid: String,
    result: Value,
    converted_objects: Vec<Box<RawValue>>,
}

/// Answers a review: with all of its objects, or with why one of them is none of ours.
fn review(body: &[u8]) -> serde_json::Result<Vec<u8>> {
    let Asked { api_version, request } = serde_json::from_slice(body)?;
    let all = request.objects.iter().map(|object| converted(object, &request.desired));
    let (result, converted_objects) = match all.collect::<Result<_, _>>() {
        Ok(objects) => (json!({"status": "Success"}), objects),
        Err(error) => (json!({"status": "Failure", "message": error}), Vec::new()),
    };
    let response = Converted { uid: request.uid, result, converted_objects };
    serde_json::to_vec(&Answered { api_version, kind: "ConversionReview", response })
}

fn converted(object: &RawValue, to: &str) -> Result<Box<RawValue>, String> {
    let mut object: Value = serde_json::from_str(object.get()).map_err(|e| e.to_string())?;
    convert(&mut object, to).map_err(|error| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        format!("{name}: {error}")
    })?;
    to_raw_value(&object).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
