//! Who may ask: whoever has the key, from this machine or to its own name, and no web page of another site.

use super::answer::Refused;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST, ORIGIN};
use std::net::{IpAddr, SocketAddr};

/// Look at the header fields of a request.
pub(super) fn check(headers: &HeaderMap, key: Option<&str>, address: SocketAddr) -> Result<(), Refused> {
    let text = |name| headers.get(name).map(|value: &hyper::header::HeaderValue| value.to_str().unwrap_or_default());
    // A web page can make a browser ask here; it cannot hide where it comes from.
    if text(ORIGIN).is_some_and(|origin| !is_local(origin.split_once("://").map_or("", |(_, host)| host))) {
        return Err(Refused::new(403, "Requests of web pages from other sites are not answered", None));
    }
    if let Some(key) = key {
        let given = text(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !is_same(given.trim(), key) {
            let message = "Incorrect API key: send the header `Authorization: Bearer KEY` with the server's key";
            return Err(Refused::new(401, message, Some("invalid_api_key")));
        }
        return Ok(());
    }
    // Without a key a name that somebody else made mean this machine would open it to their page.
    let host = text(HOST).unwrap_or_default();
    let is_ours = host.parse::<SocketAddr>().is_ok_and(|host| host == address);
    if !is_local(host) && !is_ours {
        return Err(Refused::new(403, "This server answers only under the names localhost and 127.0.0.1", None));
    }
    Ok(())
}

/// `localhost`, `127.0.0.1` or `[::1]`, with or without a port.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Takes as long for a key that is nearly right as for one that is not.
fn is_same(given: &str, key: &str) -> bool {
    let different = given.bytes().zip(key.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == key.len() && different == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(fields: &[(&'static str, &str)], key: Option<&str>) -> u16 {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, value.parse().expect("a value"));
        }
        check(&headers, key, "127.0.0.1:8080".parse().expect("an address")).map_or_else(|r| r.status, |()| 200)
    }

    #[test]
    fn names_of_others_and_pages_of_others_are_refused() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(status(&[("host", host)], None), 200, "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "", "127.0.0.1.evil.example", "10.0.0.1"] {
            assert_eq!(status(&[("host", host)], None), 403, "{host}");
        }
        let origin = |origin| status(&[("host", "localhost"), ("origin", origin)], None);
        assert_eq!(origin("http://localhost:3000"), 200);
        for evil in ["https://evil.example", "null", "http://localhost.evil.example", "file://"] {
            assert_eq!(origin(evil), 403, "{evil}");
        }
    }

    #[test]
    fn a_key_is_right_or_it_is_not() {
        let key = Some("secret");
        assert_eq!(status(&[("authorization", "Bearer secret"), ("host", "studio.lan")], key), 200);
        for wrong in ["Bearer secre", "Bearer secrets", "secret", "Bearer ", "Basic secret"] {
            assert_eq!(status(&[("authorization", wrong)], key), 401, "{wrong}");
        }
        assert_eq!(status(&[("host", "localhost")], key), 401);
    }
}
