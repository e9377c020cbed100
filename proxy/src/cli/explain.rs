// SPDX-License-Identifier: Apache-2.0
//! `ringway explain`: which route a request or a connection would take, asked of a folder or of the running
//! gateway's admin port.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ringway_sync::explain::{Question, explain as answer, written};
use ringway_sync::gateway::load;

use super::{environment, expansions};
use crate::args::{Explain, Output};

/// How long the admin port may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn explain(explain: &Explain) -> anyhow::Result<ExitCode> {
    let text = match &explain.folder {
        Some(folder) => {
            let settings = explain.meaning.settings(&environment());
            let loaded = load(folder, settings, expansions())?;
            let question = Question {
                method: explain.method.clone(),
                url: explain.url.clone(),
                headers: explain.headers.clone(),
                port: explain.port,
            };
            let story = answer(&loaded.table, &question, &written).map_err(anyhow::Error::msg)?;
            match explain.ask.output {
                Output::Text => format!("{story}\n"),
                Output::Json => format!("{}\n", serde_json::to_string_pretty(&story)?),
            }
        }
        None => ask(&explain.ask.admin, &query(explain))?,
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn query(explain: &Explain) -> String {
    let mut query = format!(
        "/api/v1/explain?method={}&url={}",
        encoded(&explain.method),
        encoded(&explain.url)
    );
    for header in &explain.headers {
        query += &format!("&header={}", encoded(header));
    }
    if let Some(port) = explain.port {
        query += &format!("&port={port}");
    }
    if explain.ask.output == Output::Text {
        query += "&format=text";
    }
    query
}

/// Percent-encodes all but unreserved characters (RFC 3986 §2.3).
pub(super) fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// GETs from the admin port.
pub(super) fn ask(admin: &str, target: &str) -> anyhow::Result<String> {
    let authority = admin.strip_prefix("http://").unwrap_or(admin).trim_end_matches('/');
    let address = authority
        .to_socket_addrs()
        .with_context(|| format!("{authority} is no address; write it as http://127.0.0.1:8877"))?
        .next()
        .with_context(|| format!("{authority} has no address"))?;
    let said = || format!("asking the gateway at {authority} (is it running? --admin says where)");
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(said)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET {target} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n")
            .as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(said)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(said)?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("{}", body.trim());
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests;
