//! Just enough HTTP/1.1 to talk to a Docker engine or a registry on this machine: one request, one
//! connection.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};

/// An answer.
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Response {
    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Fails unless the status says success.
    pub fn successful(self, what: &str) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let text = String::from_utf8_lossy(&self.body);
        let message = self.json()["message"].as_str().map_or_else(|| text.trim().to_owned(), str::to_owned);
        bail!("{what}: the answer was {} {message}", self.status)
    }
}

/// Sends a request and reads the whole answer.
pub fn exchange<S: Read + Write>(
    mut stream: S,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes())?;
    // An answer may come, and say why, before the whole body was taken.
    let sent = stream.write_all(body).and_then(|()| stream.flush());
    read_response(BufReader::new(stream)).or_else(|error| sent.map_err(Into::into).and(Err(error)))
}

fn read_response(mut from: impl BufRead) -> Result<Response> {
    let status_line = line(&mut from)?;
    let status = status_line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("not an HTTP answer: {status_line:?}"))?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let header = line(&mut from)?;
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.trim().parse::<u64>()?),
            "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = line(&mut from)?;
            let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
            if size == 0 {
                break;
            }
            exactly(&mut from, size, &mut body)?;
            line(&mut from)?;
        }
    } else if let Some(length) = length {
        exactly(&mut from, length, &mut body)?;
    } else if status != 204 && status != 304 {
        from.read_to_end(&mut body)?;
    }
    Ok(Response { status, body })
}

fn exactly(from: &mut impl BufRead, size: u64, into: &mut Vec<u8>) -> Result<()> {
    if from.take(size).read_to_end(into)? as u64 != size {
        bail!("the answer ended early");
    }
    Ok(())
}

fn line(from: &mut impl BufRead) -> Result<String> {
    let mut bytes = Vec::new();
    from.take(65536).read_until(b'\n', &mut bytes)?;
    match bytes.strip_suffix(b"\n") {
        Some(bytes) => Ok(String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes)).into_owned()),
        None => bail!("the answer ended early"),
    }
}

/// Text as it stands in a query string.
pub fn query_value(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Response> {
        read_response(text.as_bytes())
    }

    #[test]
    fn bodies_of_every_kind_are_read() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello trailing",
            "HTTP/1.0 200 OK\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        ] {
            let response = read(text).unwrap();
            assert_eq!((response.status, response.body.as_slice()), (200, b"hello".as_slice()), "{text:?}");
        }
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n").unwrap().status, 204);
    }

    #[test]
    fn a_broken_answer_is_an_error() {
        for text in
            ["", "SSH-2.0\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", "HTTP/1.1 200 OK\r\n"]
        {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_refusal_carries_its_message() {
        let response = read("HTTP/1.1 404 Not Found\r\n\r\n{\"message\":\"no such image\"}").unwrap();
        let error = response.successful("inspecting").err().unwrap().to_string();
        assert_eq!(error, "inspecting: the answer was 404 no such image");
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(query_value("CMD [\"/a\"]"), "CMD%20%5B%22%2Fa%22%5D");
    }
}
