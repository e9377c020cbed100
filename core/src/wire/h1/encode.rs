// SPDX-License-Identifier: Apache-2.0
//! Heads and chunks as bytes, appended to a buffer that the caller keeps.
//!
//! What came out of [`super::parse`] or [`super::body`] is written as it is; text from anywhere
//! else goes through [`composed_field`].

use std::fmt;

/// `HTTP/1.1 200 OK` and its CRLF. `status` is 100 to 999; `reason` may be empty.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    debug_assert!((100..=999).contains(&status));
    debug_assert!(is_one_line(reason));
    let digit = |n: u16| b'0' + (n % 10) as u8;
    let mut start = *b"HTTP/1.1 ??? ";
    start[9..12].copy_from_slice(&[digit(status / 100), digit(status / 10), digit(status)]);
    out.extend_from_slice(&start);
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// One field line. `name` is a token, and `value` has been parsed: without CR, LF and NUL.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(!name.is_empty());
    debug_assert!(is_one_line(value));
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// As [`field`], for a value that was put together from parts: CR, LF and NUL become spaces, so
/// that none of them can start a line of its own.
pub fn composed_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if is_one_line(value) {
        return field(out, name, value);
    }
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend(value.iter().map(|&b| if matches!(b, b'\r' | b'\n' | 0) { b' ' } else { b }));
    out.extend_from_slice(b"\r\n");
}

/// `n` in decimal digits.
pub fn decimal(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// What precedes a chunk of `len` bytes; 0 would end the body and is refused by an assertion:
/// see [`last_chunk`].
pub fn chunk_head(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len > 0);
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut left = len;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[left % 16];
        left /= 16;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// What follows a chunk's data.
pub fn chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// The end of a chunked body. `trailers`: lines of `name: value` with CRLF after each, as
/// [`super::body::Decoder::trailers`] gives them.
pub fn last_chunk(out: &mut Vec<u8>, trailers: &[u8]) {
    debug_assert!(trailers.is_empty() || trailers.ends_with(b"\r\n"));
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

/// The registered reason phrase (RFC 9110 §15 and the IANA registry); `Unknown` for others.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "Unknown",
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7), up to the year 9999.
pub fn http_date(unix_seconds: u64) -> [u8; 29] {
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    const LAST: u64 = 253_402_300_799;
    let seconds = unix_seconds.min(LAST);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut text = *b"???, ?? ??? ???? ??:??:?? GMT";
    let weekday = (days % 7) as usize * 3;
    let month = (month as usize - 1) * 3;
    text[..3].copy_from_slice(&DAYS[weekday..weekday + 3]);
    text[5..7].copy_from_slice(&two_digits(day));
    text[8..11].copy_from_slice(&MONTHS[month..month + 3]);
    text[12..14].copy_from_slice(&two_digits(year / 100));
    text[14..16].copy_from_slice(&two_digits(year % 100));
    text[17..19].copy_from_slice(&two_digits(of_day / 3600));
    text[20..22].copy_from_slice(&two_digits(of_day / 60 % 60));
    text[23..25].copy_from_slice(&two_digits(of_day % 60));
    text
}

fn two_digits(n: u64) -> [u8; 2] {
    debug_assert!(n < 100);
    [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8]
}

/// Year, month and day of month, from days since 1970-01-01, in the proleptic Gregorian calendar:
/// years counted from March, in eras of 400.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day)
}

/// The current date's text, made once per second.
#[derive(Clone)]
pub struct HttpDate {
    second: u64,
    text: [u8; 29],
}

impl HttpDate {
    pub fn new(unix_seconds: u64) -> Self {
        Self { second: unix_seconds, text: http_date(unix_seconds) }
    }

    pub fn at(&mut self, unix_seconds: u64) -> &[u8; 29] {
        if self.second != unix_seconds {
            *self = Self::new(unix_seconds);
        }
        &self.text
    }
}

impl fmt::Debug for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

fn is_one_line(value: &[u8]) -> bool {
    memchr::memchr3(b'\r', b'\n', 0, value).is_none()
}

#[cfg(test)]
mod tests;
