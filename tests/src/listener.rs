//! A web server on this machine whose answers a test decides, and which remembers what it was asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// A request that came in whole.
#[derive(Clone, Debug)]
pub struct Heard {
    /// `GET` and the like.
    pub method: String,
    /// Behind the host, with the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Heard {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status, header fields, body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Header fields, then pieces of the body with a pause before each, then the end of the connection.
    Pieces(Vec<(&'static str, String)>, Vec<(Duration, Vec<u8>)>),
    /// Nothing for so long, then the end of the connection.
    Silence(Duration),
    /// The end of the connection.
    HangUp,
}

impl Reply {
    /// A JSON document.
    pub fn json(status: u16, document: &serde_json::Value) -> Self {
        Self::Answer(status, vec![("content-type", "application/json".to_owned())], document.to_string().into_bytes())
    }

    /// Plain text.
    pub fn text(status: u16, text: &str) -> Self {
        Self::Answer(status, Vec::new(), text.as_bytes().to_vec())
    }
}

/// A running server. It ends with the process.
pub struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Heard>>>,
}

impl Server {
    /// A server that answers with `answer`.
    pub fn new(answer: impl Fn(&Heard) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (answer, heard) = (Arc::new(answer), Arc::clone(&log));
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, heard) = (Arc::clone(&answer), Arc::clone(&heard));
                spawn(move || {
                    // Whoever asked may be gone by now.
                    let _answered = serve(stream, &*answer, &heard);
                });
            }
        });
        Self { address, log }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked since the last look.
    pub fn take_log(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.log.lock().expect("no test thread panics with it"))
    }
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&Heard) -> Reply, log: &Mutex<Vec<Heard>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let heard = Heard { method, path, headers, body };
    let reply = answer(&heard);
    let is_head = heard.method == "HEAD";
    log.lock().expect("no test thread panics with it").push(heard);
    match reply {
        Reply::Answer(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                write!(head, "{name}: {value}\r\n").expect("a String takes everything");
            }
            stream.write_all(format!("{head}\r\n").as_bytes())?;
            if is_head { Ok(()) } else { stream.write_all(&body) }
        }
        Reply::Pieces(headers, pieces) => {
            let mut head = "HTTP/1.1 200 X\r\nconnection: close\r\n".to_owned();
            for (name, value) in headers {
                write!(head, "{name}: {value}\r\n").expect("a String takes everything");
            }
            stream.write_all(format!("{head}\r\n").as_bytes())?;
            for (pause, piece) in pieces {
                sleep(pause);
                stream.write_all(&piece)?;
            }
            Ok(())
        }
        Reply::Silence(time) => {
            sleep(time);
            Ok(())
        }
        Reply::HangUp => Ok(()),
    }
}
