//! Whose requests an operator's endpoint takes.
//!
//! The endpoints have no passwords: whoever reaches them may use them. A browser
//! on an operator's machine reaches them too, and runs what strangers wrote. A
//! page can send requests across sites; and under a name that is first resolved
//! to the page's own server and then to this one (DNS rebinding) it can read the
//! answers as well. Both show in fields that a browser sets and no script can
//! change: `Host` (RFC 9110, section 7.2), `Origin` (RFC 6454) and
//! `Sec-Fetch-Site` (W3C, Fetch Metadata Request Headers).
//!
//! A request without `Host` can't come from a browser. HTTP/1.0 allows it, so
//! there it is served; HTTP/1.1 does not.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use super::Refusal;

/// The port of a `Host` that names none.
const HTTP_PORT: u16 = 80;

/// A name by which an endpoint may be asked for, beside its own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    name: String,
    /// Any when left out.
    port: Option<u16>,
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            let inner = name.trim_start_matches('[').trim_end_matches(']');
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
            !inner.is_empty() && inner.bytes().all(is_part)
        };
        match split(text) {
            Some((name, port)) if is_name(name) => {
                Ok(Self { name: name.to_ascii_lowercase(), port })
            }
            _ => {
                Err("expected HOST or HOST:PORT, as in metrics.example or proxy-1:9901".to_owned())
            }
        }
    }
}

/// The names given by [`HostArgs`]. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts(Arc<[AllowedHost]>);

/// The flag for further names of an operator's endpoints.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct HostArgs {
    /// A further HOST or HOST:PORT by which metrics and the admin API may be
    /// asked for; give the flag once for each. Requests by other names than
    /// these, localhost, or the address that is listened on get status 421.
    #[arg(long = "admin-allowed-host", value_name = "HOST[:PORT]")]
    hosts: Vec<AllowedHost>,
}

impl HostArgs {
    /// The names that were given.
    pub fn allowed(&self) -> AllowedHosts {
        AllowedHosts(self.hosts.clone().into())
    }
}

/// What a request says of where it was made, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    pub(super) host: Option<String>,
    origin: Option<String>,
    fetch_site: Option<String>,
}

/// What one connection's requests are held against.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Where the endpoint listens, and where this connection reached it.
    pub(crate) addresses: [SocketAddr; 2],
    pub(crate) allowed: AllowedHosts,
}

impl Site {
    /// Whether a request is for this endpoint, and from no other site's page.
    pub(super) fn check(&self, source: &Source) -> Result<(), Refusal> {
        if source.host.as_deref().is_some_and(|host| !self.is_named(host)) {
            return Err(Refusal::Status(
                421,
                "This endpoint is not known by the name in Host. Ask for it by the address it \
                 listens on, or start the server with --admin-allowed-host and that name.",
            ));
        }
        if source.is_cross_site() {
            return Err(Refusal::Status(403, "Requests from other sites' web pages are refused."));
        }
        Ok(())
    }

    fn is_named(&self, host: &str) -> bool {
        let Some((name, port)) = split(host) else { return false };
        let allows = |allowed: &AllowedHost| {
            allowed.name.eq_ignore_ascii_case(name)
                && allowed.port.is_none_or(|wanted| port.unwrap_or(HTTP_PORT) == wanted)
        };
        if self.allowed.0.iter().any(allows) {
            return true;
        }
        let port = port.unwrap_or(HTTP_PORT);
        let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        self.addresses.iter().any(|own| {
            let is_own = |ip: IpAddr| ip.to_canonical() == own.ip().to_canonical();
            let is_it = name.eq_ignore_ascii_case("localhost") || ip.is_some_and(is_own);
            is_it && port == own.port()
        })
    }
}

impl Source {
    /// Where the value of a field belongs; `None` for those that say nothing here.
    pub(super) fn field(&mut self, name: &str) -> Option<&mut Option<String>> {
        let fields = [
            ("host", &mut self.host),
            ("origin", &mut self.origin),
            ("sec-fetch-site", &mut self.fetch_site),
        ];
        fields
            .into_iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known))
            .map(|(_, field)| field)
    }

    fn is_cross_site(&self) -> bool {
        let is_own = |origin: &str| {
            let authority = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
            let host = self.host.as_deref();
            authority.zip(host).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other))
        };
        let is_near = |site: &str| matches!(site, "same-origin" | "none");
        self.origin.as_deref().is_some_and(|origin| !is_own(origin))
            || self.fetch_site.as_deref().is_some_and(|site| !is_near(site))
    }
}

/// Name and port of `name`, `name:port`, `[::1]` or `[::1]:port`.
fn split(host: &str) -> Option<(&str, Option<u16>)> {
    let name_end = host.find(']').map_or(0, |at| at + 1);
    let (name, port) = match host[name_end..].split_once(':') {
        None => (host, None),
        Some((rest, port)) => (&host[..name_end + rest.len()], Some(port)),
    };
    // Digits only: `parse` alone would take a leading plus sign.
    let is_port = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
    match port {
        None => Some((name, None)),
        Some(port) => Some((name, Some(Some(port).filter(is_port)?.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(allowed: &[&str]) -> Site {
        let addresses = ["0.0.0.0:9901", "192.0.2.7:9901"].map(|text| text.parse().unwrap());
        let hosts = allowed.iter().map(|text| text.parse().unwrap()).collect();
        Site { addresses, allowed: HostArgs { hosts }.allowed() }
    }

    fn status(site: &Site, host: &str, origin: Option<&str>, fetch_site: Option<&str>) -> u16 {
        let source = Source {
            host: Some(host.to_owned()),
            origin: origin.map(str::to_owned),
            fetch_site: fetch_site.map(str::to_owned),
        };
        match site.check(&source) {
            Ok(()) => 200,
            Err(Refusal::Status(status, _)) => status,
            Err(Refusal::Closed) => 0,
        }
    }

    #[test]
    fn an_endpoint_is_known_by_its_address_and_by_what_was_allowed() {
        let site = site(&["proxy-1", "Metrics.Example:80", "[2001:db8::1]:7"]);
        for (host, expected) in [
            ("192.0.2.7:9901", 200),
            ("0.0.0.0:9901", 200),
            ("localhost:9901", 200),
            ("LocalHost:9901", 200),
            ("proxy-1", 200),
            ("PROXY-1:5", 200),
            ("metrics.example", 200),
            ("metrics.example:80", 200),
            ("[2001:db8::1]:7", 200),
            ("192.0.2.7", 421),
            ("192.0.2.7:9902", 421),
            ("192.0.2.8:9901", 421),
            ("localhost", 421),
            ("localhost:80", 421),
            ("metrics.example:81", 421),
            ("proxy-1.evil.example:9901", 421),
            ("evil.example:9901", 421),
            ("127.0.0.1.evil.example:9901", 421),
            ("192.0.2.7:9901:9901", 421),
            ("192.0.2.7:+9901", 421),
            ("user@192.0.2.7:9901", 421),
            ("2001:db8::1", 421),
            ("", 421),
        ] {
            assert_eq!(status(&site, host, None, None), expected, "{host}");
        }
    }

    #[test]
    fn an_address_of_ip_version_6_is_known_in_brackets() {
        let addresses = ["[::]:9901", "[::ffff:127.0.0.1]:9901"].map(|text| text.parse().unwrap());
        let site = Site { addresses, allowed: AllowedHosts::default() };
        for host in ["[::]:9901", "127.0.0.1:9901", "[::ffff:127.0.0.1]:9901", "localhost:9901"] {
            assert_eq!(status(&site, host, None, None), 200, "{host}");
        }
        assert_eq!(status(&site, "[::1]:9901", None, None), 421);
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        let site = site(&["ops.example"]);
        let own = "192.0.2.7:9901";
        for (host, origin, fetch_site, expected) in [
            (own, Some("http://192.0.2.7:9901"), Some("same-origin"), 200),
            (own, None, Some("none"), 200),
            ("ops.example", Some("https://ops.example"), Some("same-origin"), 200),
            (own, Some("http://evil.example"), None, 403),
            (own, Some("http://192.0.2.7:9902"), None, 403),
            (own, Some("http://192.0.2.7:9901.evil.example"), None, 403),
            (own, Some("null"), None, 403),
            (own, Some(""), None, 403),
            (own, None, Some("cross-site"), 403),
            (own, None, Some("same-site"), 403),
            (own, None, Some("new-word"), 403),
            ("evil.example:9901", Some("http://evil.example:9901"), Some("same-origin"), 421),
        ] {
            let found = status(&site, host, origin, fetch_site);
            assert_eq!(found, expected, "{host} {origin:?} {fetch_site:?}");
        }
    }

    #[test]
    fn who_names_no_host_is_no_browser() {
        assert_eq!(site(&[]).check(&Source::default()), Ok(()));
    }

    #[test]
    fn a_name_that_is_none_is_refused_with_what_was_expected() {
        for text in ["", "http://proxy", "proxy/x", "proxy:", "proxy:x", "a b", "::1", ":80"] {
            let error = text.parse::<AllowedHost>().unwrap_err();
            assert!(error.contains("HOST:PORT"), "{text}: {error}");
        }
    }
}
