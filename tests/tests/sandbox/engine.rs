//! An engine made up for the tests: it notes what it is asked and can stop answering.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// The engine. It ends with the async runtime of its test.
pub struct MadeUpEngine {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    busy: Arc<AtomicBool>,
}

/// How it behaves.
#[derive(Clone)]
struct Manner {
    answers: bool,
    busy: Arc<AtomicBool>,
}

impl MadeUpEngine {
    /// An engine with one network of ours and one container of somebody else's.
    pub fn start() -> Self {
        Self::serve(true)
    }

    /// An engine that accepts connections and then says nothing at all.
    pub fn silent() -> Self {
        Self::serve(false)
    }

    fn serve(answers: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let busy = Arc::new(AtomicBool::new(false));
        let manner = Manner { answers, busy: Arc::clone(&busy) };
        let noted = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&noted), manner.clone()));
            }
        });
        Self { _dir: dir, socket, requests, busy }
    }

    /// From now on it answers that it cannot answer now, or as before.
    pub fn is_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Release);
    }

    /// How often somebody agreed on a version with it.
    pub fn agreements(&self) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.ends_with("/version")).count()
    }

    /// Its place, as the operator's configuration has it.
    pub fn target(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Methods and paths of all requests so far, but for the agreement on a version.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|request| !request.ends_with("/version")).cloned().collect()
    }
}

async fn converse(mut stream: UnixStream, requests: Arc<Mutex<Vec<String>>>, manner: Manner) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_buf(&mut head).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let request = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let path = request.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
    requests.lock().unwrap().push(request);
    if !manner.answers {
        // Holds the connection open until the other side has enough.
        let _ = stream.read_to_end(&mut Vec::new()).await;
        return;
    }
    let (status, body) = if path.ends_with("/version") {
        ("200 OK", r#"{"ApiVersion": "1.44", "Version": "25.0.0"}"#)
    } else if manner.busy.load(Ordering::Acquire) {
        ("503 Service Unavailable", r#"{"message": "not now"}"#)
    } else if path.ends_with("/info") {
        ("200 OK", "{}")
    } else if path.ends_with("/networks") {
        (
            "200 OK",
            r#"[{"Name": "ss-sessions", "Id": "1", "Labels": {"streamspace.controller": "ctrl-test"}}]"#,
        )
    } else if path.ends_with("/containers/json") {
        // None of ours.
        ("200 OK", "[]")
    } else if path.ends_with("/containers/ss-of-somebody-else/json") {
        (
            "200 OK",
            r#"{"Id": "1", "Name": "/ss-of-somebody-else", "Config": {"Labels": {"streamspace.controller": "ctrl-other"}}}"#,
        )
    } else {
        ("404 Not Found", r#"{"message": "there is no such thing"}"#)
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}
