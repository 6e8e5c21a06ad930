//! A server made up for the tests. It reads requests by itself, so that what is noted is what was on the wire.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Number of the connection, from 1 on.
    pub connection: usize,
    /// `GET /path`.
    pub line: String,
    /// The head as it was on the wire.
    pub head: String,
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub whole: bool,
}

impl Seen {
    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<String> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    }
}

/// The server. It ends with the async runtime of its test.
#[derive(Clone)]
pub struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    _dir: Arc<Option<tempfile::TempDir>>,
}

impl Server {
    pub async fn start() -> Self {
        Self::on_tcp("http", None).await
    }

    pub async fn with_tls(config: ServerConfig) -> Self {
        Self::on_tcp("https", Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    fn at(url: String, dir: Option<tempfile::TempDir>) -> Self {
        Self {
            url,
            seen: Arc::default(),
            connections: Arc::default(),
            open: Arc::default(),
            _dir: Arc::new(dir),
        }
    }

    async fn on_tcp(scheme: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server =
            Self::at(format!("{scheme}://127.0.0.1:{}", listener.local_addr().unwrap().port()), None);
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, tls) = (accepting.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => server.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                server.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    pub fn on_unix() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket: PathBuf = dir.path().join("api.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = Self::at(format!("unix://{}", socket.display()), Some(dir));
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = accepting.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request so far.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.into_iter().next().unwrap()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let number = self.connections.fetch_add(1, Ordering::SeqCst) + 1;
        self.open.fetch_add(1, Ordering::SeqCst);
        // Errors are what tests provoke; what matters is noted.
        let _ = self.converse(number, &mut stream).await;
        let _ = stream.shutdown().await;
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    async fn converse(
        &self,
        number: usize,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = find(&buffer, b"\r\n\r\n") {
                    break at + 4;
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end);
            let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
            let at = {
                let mut seen = self.seen.lock().unwrap();
                let request =
                    Seen { connection: number, line: line.clone(), head, body: Vec::new(), whole: false };
                seen.push(request);
                seen.len() - 1
            };
            let request = self.seen.lock().unwrap()[at].clone();
            let path = line.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
            if path.ends_with("/early") {
                stream
                    .write_all(b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch")
                    .await?;
                // Takes nothing more, but leaves the connection open for a while: a close would be a reset, in which
                // the answer may get lost.
                tokio::time::sleep(Duration::from_secs(20)).await;
                return Ok(());
            }
            let chunked = request.header("transfer-encoding") == ["chunked"];
            let length =
                request.header("content-length").first().and_then(|text| text.parse().ok()).unwrap_or(0);
            let body = match chunked {
                true => read_chunks(stream, &mut buffer).await?,
                false => read_exactly(stream, &mut buffer, length).await?,
            };
            {
                let mut seen = self.seen.lock().unwrap();
                seen[at].whole = true;
                seen[at].body.clone_from(&body);
            }
            if !answer(&path, &request.line, &body, stream).await? {
                return Ok(());
            }
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

async fn read_exactly(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    length: usize,
) -> io::Result<Vec<u8>> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.drain(..length).collect())
}

async fn read_chunks(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = find(buffer, b"\r\n") {
                break at;
            }
            if stream.read_buf(buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&buffer[..end]).unwrap(), 16).unwrap();
        buffer.drain(..end + 2);
        let chunk = read_exactly(stream, buffer, size + 2).await?;
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Answers as the path says. Gives whether the connection stays.
async fn answer(
    path: &str,
    line: &str,
    body: &[u8],
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<bool> {
    let last = path.rsplit('/').next().unwrap_or_default();
    let ok = |headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    match last {
        "echo" => stream.write_all(&ok("X-Kind: Echo\r\n", body)).await?,
        "odd" => stream.write_all(b"HTTP/1.1 500 got no storage 'x'\r\nContent-Length: 3\r\nX-B: 1\r\nX-A: 2\r\nX-B: 3\r\n\r\nodd").await?,
        "redirect" => stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /echo\r\nContent-Length: 0\r\n\r\n").await?,
        "gzip" => stream.write_all(&ok("Content-Encoding: gzip\r\n", b"\x1f\x8bnot unpacked")).await?,
        "silent" => {
            stream.read_to_end(&mut Vec::new()).await?;
            return Ok(false);
        }
        "stalls" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome").await?;
            stream.flush().await?;
            stream.read_to_end(&mut Vec::new()).await?;
            return Ok(false);
        }
        "dies" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome").await?;
            return Ok(false);
        }
        "hangs-up" => return Ok(false),
        "garbage" => {
            stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await?;
            return Ok(false);
        }
        "long-head" => {
            let value = "x".repeat(1 << 20);
            stream.write_all(format!("HTTP/1.1 200 OK\r\nX-Long: {value}\r\n\r\n").as_bytes()).await?;
        }
        "closes" => {
            stream.write_all(&ok("", b"bye")).await?;
            return Ok(false);
        }
        "chunks" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
            for piece in ["3\r\none\r\n", "3\r\ntwo\r\n", "5\r\nthree\r\n", "0\r\n\r\n"] {
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(300)).await;
                stream.write_all(piece.as_bytes()).await?;
            }
        }
        "enter" => stream.write_all(&ok("Set-Cookie: folder=base\r\n", b"in")).await?,
        "login" => {
            let cookies = "Set-Cookie: sid=abc; Path=/; HttpOnly\r\nSet-Cookie: gone=x; Path=/; Max-Age=0\r\nSet-Cookie: other=x; Domain=example.org\r\n";
            stream.write_all(&ok(cookies, b"in")).await?;
        }
        bytes if path.contains("/bytes/") => {
            let size: usize = bytes.parse().unwrap();
            if line.starts_with("HEAD ") {
                stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes()).await?;
            } else {
                stream.write_all(&ok("", &vec![b'y'; size])).await?;
            }
        }
        _ => stream.write_all(&ok("", b"hello")).await?,
    }
    stream.flush().await?;
    Ok(true)
}
