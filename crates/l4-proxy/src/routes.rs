//! Which group of backends a TLS server name belongs to.

use std::{collections::BTreeMap, str::FromStr};

/// One route: `NAME=GROUP`. The name is a host name, or `*.` and a domain for
/// all names below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SniRoute {
    /// The name, in lower case.
    pub name: String,
    /// The group of backends.
    pub group: String,
}

/// Why a text is no route. The message quotes the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no route; write NAME=GROUP, as in api.example.com=api or *.example.com=web")]
pub struct SniRouteError(pub String);

impl FromStr for SniRoute {
    type Err = SniRouteError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || SniRouteError(text.to_owned());
        let (name, group) = text.split_once('=').ok_or_else(wrong)?;
        let (name, group) = (name.trim(), group.trim());
        let host = name.strip_prefix("*.").unwrap_or(name);
        let is_host = !host.is_empty()
            && host.split('.').all(|label| {
                !label.is_empty()
                    && label
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            });
        if !is_host || group.is_empty() {
            return Err(wrong());
        }
        Ok(Self { name: name.to_ascii_lowercase(), group: group.to_owned() })
    }
}

/// The routes of a proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    by_name: BTreeMap<String, String>,
    /// By domain, the star taken off.
    below: BTreeMap<String, String>,
}

impl Routes {
    /// Of two routes for one name the later counts.
    pub(crate) fn new(routes: &[SniRoute]) -> Self {
        let mut all = Self::default();
        for SniRoute { name, group } in routes {
            match name.strip_prefix("*.") {
                Some(domain) => all.below.insert(domain.to_owned(), group.clone()),
                None => all.by_name.insert(name.clone(), group.clone()),
            };
        }
        all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.below.is_empty()
    }

    /// The group for a name in lower case: that of the name itself, or else of
    /// the longest domain above it. `None` for the backends without a group.
    pub(crate) fn group(&self, server_name: &str) -> Option<&str> {
        if let Some(group) = self.by_name.get(server_name) {
            return Some(group);
        }
        let mut rest = server_name;
        while let Some((_, domain)) = rest.split_once('.') {
            if let Some(group) = self.below.get(domain) {
                return Some(group);
            }
            rest = domain;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_itself_counts_first_and_then_the_longest_domain() {
        let routes = ["api.example.com=api", "*.example.com=web", "*.eu.example.com=eu"]
            .map(|text| text.parse().unwrap());
        let routes = Routes::new(&routes);
        let group = |name| routes.group(name);
        assert_eq!(group("api.example.com"), Some("api"));
        assert_eq!(group("www.example.com"), Some("web"));
        assert_eq!(group("a.b.example.com"), Some("web"));
        assert_eq!(group("www.eu.example.com"), Some("eu"));
        assert_eq!((group("example.com"), group("example.org"), group("")), (None, None, None));
    }

    #[test]
    fn a_wrong_route_is_quoted() {
        for text in ["", "api", "=g", "a.b=", "a..b=g", "*=g", "a b=g", "*.=g"] {
            let error = text.parse::<SniRoute>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
        assert_eq!("API.x=g".parse::<SniRoute>().unwrap().name, "api.x");
    }
}
