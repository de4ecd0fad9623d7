//! One request to the hub: redirects by hand, the token to the hub alone, and no wait without an end.

use crate::settings::{Settings, Token};
use crate::trouble::Trouble;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Body, Client, Method, Response, StatusCode, Url, redirect};
use std::error::Error;
use std::time::Duration;
use tokio::time::timeout;

/// Redirects of one request.
const HOPS: usize = 10;
/// Longest JSON document or small file that is held in memory.
pub(crate) const DOCUMENT_BYTES: usize = 64 << 20;

/// The connections to one hub.
pub(crate) struct Http {
    client: Client,
    endpoint: Url,
    authorization: Option<HeaderValue>,
    stall: Duration,
}

/// An answer, with what the hub itself said on the way to it.
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// It comes from another host than the hub.
    pub(crate) is_foreign: bool,
    /// The hub's own headers: those of the answer, or of the redirect that led to it.
    pub(crate) hub_headers: HeaderMap,
}

impl Http {
    /// Opens no socket.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Trouble> {
        let authorization = settings.token.as_ref().map(bearer).transpose()?;
        Ok(Self {
            client: client(settings.patience.stall)?,
            endpoint: settings.endpoint.clone(),
            authorization,
            stall: settings.patience.stall,
        })
    }

    /// An address below the endpoint: each segment is one, also where it holds a slash.
    pub(crate) fn address<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Who is asked, for messages.
    pub(crate) fn host(&self) -> String {
        let host = self.endpoint.host_str().unwrap_or_default();
        self.endpoint.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Ask, and follow where the answer leads. The status is the caller's to judge.
    pub(crate) async fn get(&self, url: Url, from: Option<u64>) -> Result<Answer, Trouble> {
        self.send(Method::GET, url, from).await
    }

    /// Only the hub's own headers: a redirect to another host is not followed.
    pub(crate) async fn head(&self, url: Url) -> Result<Answer, Trouble> {
        self.send(Method::HEAD, url, None).await
    }

    /// Send a document to the hub, or to where it says; the token goes to the hub alone. The status is the caller's to
    /// judge, and so is a redirect, unless it keeps the method and stays at the hub.
    pub(crate) async fn post(&self, mut url: Url, kind: &'static str, body: Vec<u8>) -> Result<Answer, Trouble> {
        for _ in 0..=HOPS {
            let is_foreign = !same_origin(&url, &self.endpoint);
            self.check_target(&url)?;
            let mut request = self.client.post(url.clone()).header(CONTENT_TYPE, kind).body(body.clone());
            if !is_foreign
                && may_carry_secrets(&url)
                && let Some(authorization) = &self.authorization
            {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            // A commit of many files takes the hub longer than a question.
            let response = match timeout(self.stall * 6, request.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(sorted(&error)),
                Err(_) => return Err(Trouble::Unreachable(format!("no answer within {:?}", self.stall * 6))),
            };
            let keeps_method = matches!(response.status().as_u16(), 307 | 308);
            match redirected(&response, &url)? {
                Some(next) if keeps_method && same_origin(&next, &self.endpoint) => url = next,
                _ => {
                    let hub_headers = if is_foreign { HeaderMap::new() } else { response.headers().clone() };
                    return Ok(Answer { response, is_foreign, hub_headers });
                }
            }
        }
        Err(Trouble::Confused(format!("it redirected {HOPS} times")))
    }

    /// Put `body` where the hub says, with the headers it says. The address is signed for this, and no token goes there,
    /// not even one that stands among those headers.
    pub(crate) async fn put(&self, url: Url, headers: &[(String, String)], body: Body) -> Result<Response, Trouble> {
        self.check_target(&url)?;
        let mut request = self.client.put(url).body(body);
        let own = self.authorization.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("Bearer ");
        let secret = own.trim_start_matches("Bearer ");
        for (name, value) in headers {
            if secret.is_empty() || !value.contains(secret) {
                request = request.header(name, value);
            }
        }
        request.send().await.map_err(|error| sorted(&error))
    }

    /// The hub names addresses; those that are weaker than its own or of this machine's network are not believed.
    fn check_target(&self, url: &Url) -> Result<(), Trouble> {
        let is_weaker = self.endpoint.scheme() == "https" && url.scheme() != "https";
        if !matches!(url.scheme(), "http" | "https") || is_weaker || is_link_local(url) {
            let host = url.host_str().unwrap_or("nowhere");
            return Err(Trouble::Confused(format!("it sent us to `{}` at {host}, which is not safe", url.scheme())));
        }
        Ok(())
    }

    async fn send(&self, method: Method, mut url: Url, from: Option<u64>) -> Result<Answer, Trouble> {
        let mut hub_headers = HeaderMap::new();
        for _ in 0..=HOPS {
            let is_foreign = !same_origin(&url, &self.endpoint);
            let mut request = self.client.request(method.clone(), url.clone()).header(ACCEPT_ENCODING, "identity");
            if let Some(start) = from {
                request = request.header(RANGE, format!("bytes={start}-"));
            }
            // Whoever else is asked gets an address that is signed for this one file, and no token.
            if !is_foreign
                && may_carry_secrets(&url)
                && let Some(authorization) = &self.authorization
            {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            let response = match timeout(self.stall, request.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(sorted(&error)),
                Err(_) => return Err(Trouble::Unreachable(format!("no answer within {:?}", self.stall))),
            };
            if !is_foreign {
                hub_headers = response.headers().clone();
            }
            let Some(next) = redirected(&response, &url)? else {
                return Ok(Answer { response, is_foreign, hub_headers });
            };
            if method == Method::HEAD && !same_origin(&next, &self.endpoint) {
                return Ok(Answer { response, is_foreign, hub_headers });
            }
            url = next;
        }
        Err(Trouble::Confused(format!("it redirected {HOPS} times")))
    }

    /// The whole body, at most `limit` bytes of it.
    pub(crate) async fn body(&self, mut response: Response, limit: usize) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::new();
        loop {
            match timeout(self.stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) if bytes.len() + chunk.len() <= limit => bytes.extend_from_slice(&chunk),
                Ok(Ok(Some(_))) => return Err(Trouble::Confused(format!("the answer is longer than {limit} bytes"))),
                Ok(Ok(None)) => return Ok(bytes),
                Ok(Err(error)) => return Err(broken(&error)),
                Err(_) => return Err(Trouble::Interrupted(format!("nothing came for {:?}", self.stall))),
            }
        }
    }
}

fn client(stall: Duration) -> Result<Client, Trouble> {
    // Where another part of the process was faster, its provider is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = || {
        Client::builder()
            .user_agent(concat!("peft-studio/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(stall)
            .pool_idle_timeout(Duration::from_secs(30))
    };
    // A system without certificates still reaches a hub that needs none; the others will say that they are not believed.
    builder()
        .build()
        .or_else(|_| builder().tls_certs_only([]).build())
        .map_err(|error| Trouble::Certificate(causes(&error)))
}

fn bearer(token: &Token) -> Result<HeaderValue, Trouble> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.secret())).map_err(|_| {
        let detail = "The Hugging Face token holds characters that no token has. Copy it again.";
        Trouble::fault(peft_plan::Fault::new("PS-AUTH-003", detail))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// Nobody reads along: encrypted, or it does not leave this machine.
fn may_carry_secrets(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "https" || is_here
}

/// Where the answer sends us, if it does.
fn redirected(response: &Response, from: &Url) -> Result<Option<Url>, Trouble> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(place) = response.headers().get(LOCATION).filter(|_| is_redirect) else { return Ok(None) };
    let target = place.to_str().ok().and_then(|place| from.join(place).ok());
    let Some(target) = target else { return Err(Trouble::Confused("it redirected to no address".to_owned())) };
    let is_weaker = from.scheme() == "https" && target.scheme() != "https";
    if !matches!(target.scheme(), "http" | "https") || is_weaker || is_link_local(&target) {
        let host = target.host_str().unwrap_or("nowhere");
        return Err(Trouble::Confused(format!("it redirected to `{}` at {host}, which is not safe", target.scheme())));
    }
    Ok(Some(target))
}

/// Addresses of the machine's own network equipment and of cloud metadata services.
fn is_link_local(url: &Url) -> bool {
    match url.host_str().unwrap_or_default().trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(address)) => address.is_link_local(),
        Ok(std::net::IpAddr::V6(address)) => address.is_unicast_link_local(),
        Err(_) => false,
    }
}

/// What the answer's status means where it is neither success nor a matter of this repository.
pub(crate) fn busy(response: &Response) -> Option<Trouble> {
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => Some(Trouble::TooMany(retry_after(response.headers()))),
        StatusCode::REQUEST_TIMEOUT => Some(Trouble::Busy(408)),
        status if status.is_server_error() => Some(Trouble::Busy(status.as_u16())),
        _ => None,
    }
}

/// `Retry-After: 30`, or the hub's own `RateLimit: "api";r=0;t=30`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let plain = text(RETRY_AFTER.as_str()).and_then(|value| value.trim().parse::<u64>().ok());
    let limit = || text("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse::<u64>().ok());
    plain.or_else(limit).map(Duration::from_secs)
}

/// The answer is a page for people.
pub(crate) fn is_web_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("text/html")
}

/// A request that got no answer.
fn sorted(error: &reqwest::Error) -> Trouble {
    if let Some(why) = certificate(error) {
        return Trouble::Certificate(why);
    }
    if error.is_connect() || error.is_timeout() {
        return Trouble::Unreachable(causes(error));
    }
    broken(error)
}

/// An answer that ended too early.
pub(crate) fn broken(error: &reqwest::Error) -> Trouble {
    certificate(error).map_or_else(|| Trouble::Interrupted(causes(error)), Trouble::Certificate)
}

/// Why the certificate is not believed, if that is the reason.
fn certificate(error: &reqwest::Error) -> Option<String> {
    use rustls::{CertificateError, Error as Tls};
    match tls(error)? {
        Tls::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => Some("its certificate is not valid today; is the clock of this computer right?".to_owned()),
        Tls::InvalidCertificate(why) => Some(format!("its certificate is not accepted ({why})")),
        other => Some(other.to_string()),
    }
}

/// The reason of the encrypting layer, however deep it is: an `io::Error` holds another one where `source` does not look.
fn tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    inside.and_then(|inside| tls(inside)).or_else(|| error.source().and_then(tls))
}

/// The innermost reason, without the address, which may be signed.
fn causes(error: &reqwest::Error) -> String {
    let mut innermost = None;
    let mut next = error.source();
    while let Some(current) = next {
        innermost = Some(current.to_string());
        next = current.source();
    }
    innermost.unwrap_or_else(|| {
        if error.is_timeout() { "it took too long".to_owned() } else { "no reason given".to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("an address")
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let hub = url("https://huggingface.co/a");
        assert!(same_origin(&url("https://huggingface.co:443/b"), &hub));
        for other in ["http://huggingface.co/", "https://huggingface.co:8443/", "https://cdn.huggingface.co/"] {
            assert!(!same_origin(&url(other), &hub), "{other}");
        }
        assert!(!same_origin(&url("https://huggingface.co.evil.example/"), &hub));
    }

    #[test]
    fn secrets_travel_encrypted_or_stay_here() {
        for good in ["https://mirror.example/", "http://localhost:8080/", "http://127.0.0.1/", "http://[::1]:1/"] {
            assert!(may_carry_secrets(&url(good)), "{good}");
        }
        for bad in ["http://mirror.example/", "http://10.0.0.1/", "http://localhost.example/"] {
            assert!(!may_carry_secrets(&url(bad)), "{bad}");
        }
    }

    #[test]
    fn metadata_services_are_out_of_reach() {
        assert!(is_link_local(&url("http://169.254.169.254/latest")) && is_link_local(&url("http://[fe80::1]/")));
        assert!(!is_link_local(&url("http://127.0.0.1/")) && !is_link_local(&url("https://huggingface.co/")));
    }

    #[test]
    fn a_wait_is_read_from_both_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert("ratelimit", HeaderValue::from_static("\"api\";r=0;t=55"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(55)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
    }
}
