//! A viewer of remote desktops, as much of RFB 3.8 (RFC 6143) as a test needs: no authentication, raw pixels. The bytes
//! come in binary messages of a WebSocket, however they are cut.

use std::collections::BTreeSet;

use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::PATIENCE;

/// Security type "None" (section 7.2.1).
const NO_SECURITY: u8 = 1;
/// Bytes of a pixel, as this viewer asks for them.
const PIXEL: usize = 4;

/// A connection to a desktop.
pub struct Viewer {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pending: Vec<u8>,
    /// What the desktop says of itself.
    pub desktop: Desktop,
}

/// ServerInit (section 7.3.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desktop {
    /// In pixels.
    pub width: u16,
    /// In pixels.
    pub height: u16,
    /// Its name.
    pub name: String,
}

/// Everything that is shown at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture(Vec<u8>);

impl Picture {
    /// The colours in it.
    pub fn colours(&self) -> BTreeSet<[u8; 3]> {
        self.0.chunks_exact(PIXEL).map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect()
    }

    /// How many pixels differ.
    pub fn changes(&self, other: &Self) -> usize {
        let (mine, others) = (self.0.chunks_exact(PIXEL), other.0.chunks_exact(PIXEL));
        mine.zip(others).filter(|(mine, other)| mine[..3] != other[..3]).count()
    }
}

impl Viewer {
    /// Connects to a WebSocket and opens the desktop behind it.
    pub async fn open(url: &str) -> Result<Self, Error> {
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", "binary".parse().unwrap());
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        let mut viewer = Self { socket, pending: Vec::new(), desktop: Desktop::default() };
        viewer.shake_hands().await;
        Ok(viewer)
    }

    async fn shake_hands(&mut self) {
        // Section 7.1.1: both sides name their version.
        assert_eq!(self.take(12).await, b"RFB 003.008\n");
        self.send(b"RFB 003.008\n").await;
        // Section 7.1.2: the desktop offers ways to log in, the viewer chooses.
        let count = self.byte().await;
        let offered = self.take(count.into()).await;
        assert!(offered.contains(&NO_SECURITY), "it asks for a login: {offered:?}");
        self.send(&[NO_SECURITY]).await;
        // Section 7.1.3: zero is success.
        assert_eq!(self.take(4).await, [0; 4], "the login failed");
        // Section 7.3.1: others may look on.
        self.send(&[1]).await;
        // Section 7.3.2. The desktop's own pixel format is replaced by ours.
        let size = self.take(4).await;
        self.take(16).await;
        let length = self.number().await;
        let name = self.take(length).await;
        self.desktop = Desktop {
            width: u16::from_be_bytes([size[0], size[1]]),
            height: u16::from_be_bytes([size[2], size[3]]),
            name: String::from_utf8(name).unwrap(),
        };
        // SetPixelFormat (section 7.5.1): 32 bits, little-endian, true colour, with blue in the lowest byte.
        self.send(&[0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]).await;
        // SetEncodings (section 7.5.2): Raw alone.
        self.send(&[2, 0, 0, 1, 0, 0, 0, 0]).await;
    }

    /// Asks for everything that is shown, and waits for it.
    pub async fn picture(&mut self) -> Picture {
        let Desktop { width, height, .. } = self.desktop;
        let (columns, rows) = (usize::from(width), usize::from(height));
        // FramebufferUpdateRequest (section 7.5.3): all of it, whether it has changed or not.
        let mut request = vec![3, 0, 0, 0, 0, 0];
        request.extend(width.to_be_bytes());
        request.extend(height.to_be_bytes());
        self.send(&request).await;
        let mut shown = vec![0; columns * rows * PIXEL];
        let mut seen = vec![false; columns * rows];
        while !seen.iter().all(|seen| *seen) {
            match self.byte().await {
                // FramebufferUpdate (section 7.6.1).
                0 => {
                    self.take(1).await;
                    let rectangles = self.short().await;
                    for _ in 0..rectangles {
                        let (x, y) = (self.short().await, self.short().await);
                        let (w, h) = (self.short().await, self.short().await);
                        // Raw (section 7.7.1) is the only encoding that was asked for.
                        assert_eq!(self.take(4).await, [0; 4], "another encoding than Raw");
                        let pixels = self.take(w * h * PIXEL).await;
                        for row in 0..h {
                            let start = (y + row) * columns + x;
                            shown[start * PIXEL..(start + w) * PIXEL]
                                .copy_from_slice(&pixels[row * w * PIXEL..(row + 1) * w * PIXEL]);
                            seen[start..start + w].fill(true);
                        }
                    }
                }
                // Bell (section 7.6.3).
                2 => {}
                // ServerCutText (section 7.6.4).
                3 => {
                    self.take(3).await;
                    let length = self.number().await;
                    self.take(length).await;
                }
                other => panic!("a message of type {other} (section 7.6)"),
            }
        }
        Picture(shown)
    }

    /// Presses keys and lets them go: KeyEvent (section 7.5.4). A line feed is the key Return.
    pub async fn type_text(&mut self, text: &str) {
        for character in text.chars() {
            let key = if character == '\n' { 0xff0d } else { u32::from(character) };
            for down in [1, 0] {
                let mut event = vec![4, down, 0, 0];
                event.extend(key.to_be_bytes());
                self.send(&event).await;
            }
        }
    }

    /// Presses the first button somewhere and lets it go: PointerEvent (section 7.5.5).
    pub async fn click(&mut self, x: u16, y: u16) {
        for buttons in [0, 1, 0] {
            let mut event = vec![5, buttons];
            event.extend(x.to_be_bytes());
            event.extend(y.to_be_bytes());
            self.send(&event).await;
        }
    }

    /// Leaves.
    pub async fn close(mut self) {
        self.socket.close(None).await.unwrap();
    }

    /// Waits until the other side ends the connection, whatever it sends before.
    pub async fn ended(&mut self) {
        let ending = async { while let Some(Ok(_)) = self.socket.next().await {} };
        tokio::time::timeout(PATIENCE, ending).await.expect("the connection does not end");
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.pending.len() < count {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match message.expect("the desktop is silent").expect("the desktop is gone").unwrap() {
                Message::Binary(bytes) => self.pending.extend_from_slice(&bytes),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a part of RFB: {other:?}"),
            }
        }
        let rest = self.pending.split_off(count);
        std::mem::replace(&mut self.pending, rest)
    }

    async fn byte(&mut self) -> u8 {
        self.take(1).await[0]
    }

    async fn short(&mut self) -> usize {
        let bytes = self.take(2).await;
        u16::from_be_bytes([bytes[0], bytes[1]]).into()
    }

    async fn number(&mut self) -> usize {
        let bytes = self.take(4).await;
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).try_into().unwrap()
    }
}
