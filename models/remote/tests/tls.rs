//! Certificates: one that is believed, and three that are not, each told as PS-NET-006 and never passed over.
//!
//! Which roots are believed is a matter of the environment, so the question is asked by this same program in a second
//! process.

use peft_remote::{Hub, Search, Settings};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(name)
}

/// A hub with the certificate `name` that finds nothing; its port.
fn serve(name: &str) -> u16 {
    let read = |ending: &str| std::fs::read(file(&format!("{name}.{ending}"))).expect("a fixture");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(read("key.der")));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(read("der"))], key)
        .expect("a certificate and its key");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut stream = StreamOwned::new(connection, stream);
            let mut head = Vec::new();
            let mut byte = [0];
            // Whoever does not believe us hangs up.
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                head.push(byte[0]);
            }
            let answer =
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]";
            let _answered = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
        }
    });
    port
}

/// What a second process says of the hub at `port`, believing `root` if given.
fn asked(port: u16, root: Option<&Path>) -> String {
    let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
    command.args(["--exact", "ask", "--ignored", "--nocapture"]);
    command.env("HF_ENDPOINT", format!("https://localhost:{port}")).env("HF_HOME", "/nowhere");
    command.env_remove("SSL_CERT_DIR").env_remove("HTTPS_PROXY").env_remove("https_proxy");
    match root {
        Some(root) => command.env("SSL_CERT_FILE", root),
        None => command.env_remove("SSL_CERT_FILE"),
    };
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.split_once("SAID ")).map_or(text.clone(), |(_, said)| said.to_owned())
}

#[test]
#[ignore = "started by the others, in an environment of its own"]
#[expect(clippy::print_stdout, reason = "whoever started it reads what it says")]
fn ask() {
    let settings = Settings::from_environment(None).expect("settings");
    let search = Search { text: "x".into(), limit: 1, sort: "downloads" };
    match Hub::new(settings).and_then(|hub| hub.search(&search)) {
        Ok(found) => println!("SAID found {}", found.len()),
        Err(fault) => println!("SAID {}: {}", fault.code, fault.detail),
    }
}

#[test]
fn a_certificate_that_the_system_believes_is_believed() {
    assert_eq!(asked(serve("good"), Some(&file("root.pem"))), "found 0");
}

#[test]
fn strangers_expired_ones_and_those_of_others_are_not() {
    let root = file("root.pem");
    let stranger = asked(serve("good"), None);
    assert!(stranger.starts_with("PS-NET-006"), "{stranger}");
    let other = asked(serve("other"), Some(&root));
    assert!(other.starts_with("PS-NET-006"), "{other}");
    let expired = asked(serve("expired"), Some(&root));
    assert!(expired.starts_with("PS-NET-006") && expired.contains("clock"), "{expired}");
    // A system that believes nobody says so, too.
    let nobody = asked(serve("good"), Some(Path::new("/nowhere.pem")));
    assert!(nobody.starts_with("PS-NET-006"), "{nobody}");
}
