// SPDX-License-Identifier: Apache-2.0
//! Requests to an API server: bytes out of it as they are, and what a failure means for whoever
//! asked.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;

use futures_util::io::{AsyncBufRead, AsyncBufReadExt as _};
use http::{Method, Request, header};
use kube::Client;
use ringway_core::limits;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Why a request brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// 404: nothing is served there.
    Absent,
    /// 410: what was asked for is too old to go on from.
    Gone,
    /// 409: somebody else was faster.
    Conflict,
    /// 403.
    Forbidden(String),
    /// Objects are stored in another version, and whoever converts them does not answer.
    Unconverted(String),
    /// 422 and other refusals of what was sent.
    Refused(String),
    /// It may be better the next time.
    Passing(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no such resource"),
            Self::Gone => f.write_str("the version is too old"),
            Self::Conflict => f.write_str("it was changed meanwhile"),
            Self::Forbidden(why)
            | Self::Unconverted(why)
            | Self::Refused(why)
            | Self::Passing(why) => f.write_str(why),
        }
    }
}

impl Failure {
    fn of_status(code: u16, message: &str) -> Self {
        let message = || message.to_owned();
        match code {
            404 => Self::Absent,
            409 => Self::Conflict,
            410 => Self::Gone,
            403 => Self::Forbidden(message()),
            500..=599 if message().contains("conversion webhook") => Self::Unconverted(message()),
            400 | 405 | 406 | 415 | 422 => Self::Refused(message()),
            _ => Self::Passing(format!("it answers {code}: {}", message())),
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        if let kube::Error::Api(status) = &error {
            return Self::of_status(status.code, &status.message);
        }
        // The outermost says that there was an error, the innermost which.
        let mut inner: &dyn std::error::Error = &error;
        while let Some(source) = inner.source() {
            inner = source;
        }
        Self::Passing(format!("it cannot be reached: {inner}"))
    }
}

/// A client, cheap to copy.
#[derive(Clone)]
pub(super) struct Api {
    client: Client,
}

/// Only names and versions of a resource, as a list and as single objects.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
                             application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const JSON: &str = "application/json";

impl Api {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// One answer, whole.
    pub(super) async fn get(&self, target: &str, metadata_only: bool) -> Result<String, Failure> {
        self.ask(request(Method::GET, target, metadata_only, "", Vec::new())?).await
    }

    /// The same with something to write.
    pub(super) async fn send(
        &self,
        method: Method,
        target: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<String, Failure> {
        self.ask(request(method, target, false, content_type, body)?).await
    }

    async fn ask(&self, request: Request<Vec<u8>>) -> Result<String, Failure> {
        let limit = limits::KUBE_REQUEST_TIMEOUT;
        let answer = tokio::time::timeout(limit, self.client.request_text(request)).await;
        let too_slow = |_| Failure::Passing(format!("no answer within {} s", limit.as_secs()));
        Ok(answer.map_err(too_slow)??)
    }

    /// An answer that comes line by line.
    pub(super) async fn watch(&self, target: &str, metadata_only: bool) -> Result<Lines, Failure> {
        let request = request(Method::GET, target, metadata_only, "", Vec::new())?;
        let limit = limits::KUBE_REQUEST_TIMEOUT;
        let answer = tokio::time::timeout(limit, self.client.request_stream(request)).await;
        let too_slow = |_| Failure::Passing(format!("no answer within {} s", limit.as_secs()));
        let reader = answer.map_err(too_slow)??;
        Ok(Lines { reader: Box::pin(reader), line: Vec::new() })
    }
}

fn request(
    method: Method,
    target: &str,
    metadata_only: bool,
    content_type: &str,
    body: Vec<u8>,
) -> Result<Request<Vec<u8>>, Failure> {
    let accept = if metadata_only { METADATA_ONLY } else { JSON };
    let mut request = Request::builder().method(method).uri(target).header(header::ACCEPT, accept);
    if !content_type.is_empty() {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    request.body(body).map_err(|error| Failure::Refused(error.to_string()))
}

/// The lines of an answer that does not end.
pub(super) struct Lines {
    reader: Pin<Box<dyn AsyncBufRead + Send>>,
    line: Vec<u8>,
}

impl Lines {
    /// The next line; `None` at the end, or after a silence in which a living API server would
    /// have said something.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        self.line.clear();
        // What a large object took is not kept for the small ones.
        self.line.shrink_to(limits::KUBE_LINE_BYTES_KEPT);
        let silence = limits::KUBE_SILENCE_MAX;
        match tokio::time::timeout(silence, fill(&mut self.reader, &mut self.line)).await {
            Ok(Ok(true)) => Ok(Some(&self.line)),
            Ok(Ok(false)) | Err(_) => Ok(None),
            Ok(Err(error)) => Err(Failure::Passing(format!("the stream broke off: {error}"))),
        }
    }
}

/// Reads up to a line's end; false at the stream's. A line that is cut off is none.
async fn fill(
    reader: &mut Pin<Box<dyn AsyncBufRead + Send>>,
    line: &mut Vec<u8>,
) -> std::io::Result<bool> {
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(false);
        }
        let end = memchr(chunk);
        let taken = end.map_or(chunk.len(), |at| at + 1);
        line.extend_from_slice(&chunk[..end.unwrap_or(taken)]);
        reader.consume_unpin(taken);
        if end.is_some() {
            return Ok(true);
        }
        if line.len() > limits::KUBE_OBJECT_BYTES_MAX {
            let most = limits::KUBE_OBJECT_BYTES_MAX >> 20;
            return Err(std::io::Error::other(format!("an object of more than {most} MiB")));
        }
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

/// One line of a watch.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow)]
    pub(super) r#type: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// One page of a list.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    #[serde(borrow)]
    pub(super) metadata: PageMeta<'a>,
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
pub(super) struct PageMeta<'a> {
    #[serde(borrow, default, rename = "resourceVersion")]
    pub(super) version: Cow<'a, str>,
    /// Where the next page begins; empty on the last.
    #[serde(borrow, default, rename = "continue")]
    pub(super) next: Cow<'a, str>,
}

/// What has to be known of an object before anybody reads it.
#[derive(Deserialize)]
pub(super) struct Head<'a> {
    #[serde(borrow)]
    pub(super) metadata: HeadMeta<'a>,
    #[serde(borrow, default)]
    pub(super) status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct HeadMeta<'a> {
    #[serde(borrow, default)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) uid: Cow<'a, str>,
    #[serde(default)]
    pub(super) generation: i64,
    #[serde(borrow, default, rename = "resourceVersion")]
    pub(super) version: Cow<'a, str>,
}

/// What an ERROR event holds.
#[derive(Deserialize)]
struct Status<'a> {
    #[serde(default)]
    code: u16,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

/// Why a watch says that it cannot go on.
pub(super) fn failure(object: &RawValue) -> Failure {
    match serde_json::from_str::<Status<'_>>(object.get()) {
        Ok(status) => Failure::of_status(status.code, &status.message),
        Err(error) => Failure::Passing(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_by_their_status() {
        assert_eq!(Failure::of_status(410, "too old"), Failure::Gone);
        let dead = "conversion webhook for getambassador.io/v2, Kind=Mapping failed";
        assert_eq!(Failure::of_status(500, dead), Failure::Unconverted(dead.into()));
        assert!(matches!(Failure::of_status(500, "etcd"), Failure::Passing(_)));
        assert!(matches!(Failure::of_status(429, "slow down"), Failure::Passing(_)));
    }

    #[test]
    fn lines_end_where_they_end_and_a_cut_one_is_none() {
        let text: &[u8] = b"one\ntwo\nthr";
        let mut lines =
            Lines { reader: Box::pin(futures_util::io::Cursor::new(text)), line: Vec::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            assert_eq!(lines.next().await, Ok(Some(&b"one"[..])));
            assert_eq!(lines.next().await, Ok(Some(&b"two"[..])));
            assert_eq!(lines.next().await, Ok(None));
        });
    }
}
