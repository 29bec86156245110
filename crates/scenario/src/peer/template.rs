//! Texts with placeholders: words of a command, and configuration files.
//!
//! ```text
//! {name}                     a value
//! {each backend}...{end}     once for every backend
//! {each zone}...{end}        once for every zone that something is called from
//! {{name}}                   the text {name} itself
//! ```
//!
//! Only a lower-case word between braces is a placeholder, so the braces of
//! nginx, JSON and YAML stay what they are. A misspelled placeholder is an
//! error rather than text: a proxy would fail on it far from its cause. A line
//! that holds nothing but `{each backend}`, `{each zone}` or `{end}` leaves no line behind.

use crate::error::{Problem, did_you_mean, list_of};

/// A value of the whole peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Global {
    Program,
    Loadgen,
    Listen,
    ListenHost,
    ListenPort,
    Admin,
    AdminHost,
    AdminPort,
    Policy,
    Threads,
    Value,
    Config,
    Dir,
    BackendCount,
    MaxStreams,
    ClientTls,
    BackendTls,
    TlsCa,
    TlsCert,
    TlsKey,
    TlsName,
    OwnZone,
    ZoneProxies,
}

/// What a block is repeated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Each {
    Backend,
    Zone,
}

/// A value of one backend, within `{each backend}`, or of one zone, within `{each zone}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Local {
    Addr,
    Host,
    Port,
    Weight,
    Id,
    Index,
    Zone,
    Proxies,
}

const GLOBALS: [(&str, Global); 23] = [
    ("program", Global::Program),
    ("loadgen", Global::Loadgen),
    ("listen", Global::Listen),
    ("listen_host", Global::ListenHost),
    ("listen_port", Global::ListenPort),
    ("admin", Global::Admin),
    ("admin_host", Global::AdminHost),
    ("admin_port", Global::AdminPort),
    ("policy", Global::Policy),
    ("threads", Global::Threads),
    ("value", Global::Value),
    ("config", Global::Config),
    ("dir", Global::Dir),
    ("backend_count", Global::BackendCount),
    ("max_streams", Global::MaxStreams),
    ("client_tls", Global::ClientTls),
    ("backend_tls", Global::BackendTls),
    ("tls_ca", Global::TlsCa),
    ("tls_cert", Global::TlsCert),
    ("tls_key", Global::TlsKey),
    ("tls_name", Global::TlsName),
    ("own_zone", Global::OwnZone),
    ("zone_proxies", Global::ZoneProxies),
];

const LOCALS: [(&str, Local); 8] = [
    ("addr", Local::Addr),
    ("host", Local::Host),
    ("port", Local::Port),
    ("weight", Local::Weight),
    ("id", Local::Id),
    ("index", Local::Index),
    ("zone", Local::Zone),
    ("proxies", Local::Proxies),
];

const BLOCKS: [(&str, Each); 2] = [("each backend", Each::Backend), ("each zone", Each::Zone)];
const END: &str = "end";

impl Each {
    /// The block that a tag begins.
    fn begun_by(tag: &str) -> Option<Self> {
        BLOCKS.iter().find(|(known, _)| *known == tag).map(|(_, each)| *each)
    }

    fn tag(self) -> &'static str {
        BLOCKS[self as usize].0
    }

    /// Whether it has such a value.
    fn has(self, local: Local) -> bool {
        match self {
            Self::Backend => local != Local::Proxies,
            Self::Zone => matches!(local, Local::Zone | Local::Proxies),
        }
    }
}

/// A text with placeholders, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Global(Global),
    Local(Local),
    Each(Each, Vec<Part>),
}

/// What is wrong with a template, and on which of its lines, from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateError {
    pub(crate) line: usize,
    pub(crate) reason: String,
}

/// What placeholders stand for.
pub(crate) trait Values {
    /// The value of a placeholder; `None` when the peer has no such thing.
    fn global(&self, global: Global) -> Option<String>;
    /// How many there are.
    fn count(&self, each: Each) -> usize;
    /// The value of a placeholder for one of them.
    fn local(&self, each: Each, index: usize, local: Local) -> String;
}

impl Template {
    /// Understands a text.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut outer = Vec::new();
        let mut inner: Option<(usize, Each, Vec<Part>)> = None;
        for Token { line, kind } in tokens(text) {
            let error = |reason: String| Err(TemplateError { line, reason });
            let part = match kind {
                TokenKind::Text(text) => Part::Text(text),
                TokenKind::Tag(END) => match inner.take() {
                    Some((_, each, parts)) => Part::Each(each, parts),
                    None => return error("`{end}` without `{each backend}`".to_owned()),
                },
                TokenKind::Tag(tag) => match (Each::begun_by(tag), &inner) {
                    (Some(_), Some((_, outer, _))) => {
                        return error(format!("`{{{tag}}}` within `{{{}}}`", outer.tag()));
                    }
                    (Some(each), None) => {
                        inner = Some((line, each, Vec::new()));
                        continue;
                    }
                    (None, within) => {
                        match placeholder(tag, within.as_ref().map(|(_, each, _)| *each)) {
                            Ok(part) => part,
                            Err(reason) => return error(reason),
                        }
                    }
                },
            };
            match &mut inner {
                Some((_, _, parts)) => parts.push(part),
                None => outer.push(part),
            }
        }
        match inner {
            Some((line, each, _)) => {
                let reason = format!("`{{{}}}` without `{{end}}`", each.tag());
                Err(TemplateError { line, reason })
            }
            None => Ok(Self { parts: outer }),
        }
    }

    /// The text with all values in place.
    pub(crate) fn render(&self, values: &dyn Values) -> Result<String, Global> {
        let mut text = String::new();
        render(&self.parts, values, None, &mut text)?;
        Ok(text)
    }

    /// The words of a command, of which each of these makes one or more.
    pub(crate) fn render_all<'a>(
        templates: impl IntoIterator<Item = &'a Self>,
        values: &dyn Values,
    ) -> Result<Vec<String>, Global> {
        let words = templates.into_iter().map(|template| template.render_words(values));
        Ok(words.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Words of a command: one, or one a backend when the whole is an
    /// `{each backend}`, and likewise of zones.
    fn render_words(&self, values: &dyn Values) -> Result<Vec<String>, Global> {
        let [Part::Each(each, parts)] = self.parts.as_slice() else {
            return Ok(vec![self.render(values)?]);
        };
        let word = |index| {
            let mut text = String::new();
            render(parts, values, Some((*each, index)), &mut text)?;
            Ok(text)
        };
        (0..values.count(*each)).map(word).collect()
    }

    /// Whether it uses a placeholder.
    pub(crate) fn uses(&self, global: Global) -> bool {
        fn found(parts: &[Part], global: Global) -> bool {
            parts.iter().any(|part| match part {
                Part::Global(used) => *used == global,
                Part::Each(_, parts) => found(parts, global),
                Part::Text(_) | Part::Local(_) => false,
            })
        }
        found(&self.parts, global)
    }

    /// Whether it uses a placeholder of backends.
    pub(crate) fn uses_local(&self, locals: &[Local]) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Each(Each::Backend, parts) => parts
                .iter()
                .any(|part| matches!(part, Part::Local(local) if locals.contains(local))),
            _ => false,
        })
    }
}

fn placeholder(name: &str, within: Option<Each>) -> Result<Part, String> {
    if let Some((_, global)) = GLOBALS.iter().find(|(known, _)| *known == name) {
        return Ok(Part::Global(*global));
    }
    match LOCALS.iter().find(|(known, _)| *known == name) {
        Some((_, local)) if within.is_some_and(|each| each.has(*local)) => {
            return Ok(Part::Local(*local));
        }
        Some((_, local)) => {
            let each = if Each::Backend.has(*local) { Each::Backend } else { Each::Zone };
            return Err(format!("`{{{name}}}` stands outside `{{{}}}`", each.tag()));
        }
        None => {}
    }
    let mut known: Vec<&str> = BLOCKS.iter().map(|(tag, _)| *tag).chain([END]).collect();
    known.extend(GLOBALS.iter().map(|(name, _)| *name));
    known.extend(LOCALS.iter().map(|(name, _)| *name));
    let (hint, list) = (did_you_mean(name, &known), list_of(&known));
    Err(format!(
        "unknown placeholder `{{{name}}}`{hint}; known are {list}; `{{{{{name}}}}}` stands for the text itself"
    ))
}

fn render(
    parts: &[Part],
    values: &dyn Values,
    of: Option<(Each, usize)>,
    text: &mut String,
) -> Result<(), Global> {
    for part in parts {
        match (part, of) {
            (Part::Text(part), _) => text.push_str(part),
            (Part::Global(global), _) => {
                text.push_str(&values.global(*global).ok_or(*global)?);
            }
            (Part::Local(local), Some((each, index))) => {
                text.push_str(&values.local(each, index, *local));
            }
            // The parser lets locals stand only within a block.
            (Part::Local(_), None) => {}
            (Part::Each(each, parts), _) => {
                for index in 0..values.count(*each) {
                    render(parts, values, Some((*each, index)), text)?;
                }
            }
        }
    }
    Ok(())
}

struct Token<'a> {
    line: usize,
    kind: TokenKind<'a>,
}

enum TokenKind<'a> {
    Text(String),
    Tag(&'a str),
}

/// A text in its pieces: what stands for itself, and the names of placeholders as errors.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = Result<String, &str>> {
    tokens(text).into_iter().map(|token| match token.kind {
        TokenKind::Text(text) => Ok(text),
        TokenKind::Tag(name) => Err(name),
    })
}

/// Cuts a text into tags and what is between them.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (index, whole_line) in text.split_inclusive('\n').enumerate() {
        let line = index + 1;
        let mut push = |kind| tokens.push(Token { line, kind });
        if let Some((tag, "")) = tag_at(whole_line.trim())
            && (tag == END || Each::begun_by(tag).is_some())
            && whole_line.ends_with('\n')
        {
            push(TokenKind::Tag(tag));
            continue;
        }
        let mut rest = whole_line;
        let mut literal = String::new();
        while let Some(at) = rest.find('{') {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some((name, after)) = escaped_tag_at(rest) {
                literal.push_str(&format!("{{{name}}}"));
                rest = after;
            } else if let Some((name, after)) = tag_at(rest) {
                if !literal.is_empty() {
                    push(TokenKind::Text(std::mem::take(&mut literal)));
                }
                push(TokenKind::Tag(name));
                rest = after;
            } else {
                literal.push('{');
                rest = &rest[1..];
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            push(TokenKind::Text(literal));
        }
    }
    tokens
}

/// The name of a tag at the start of a text, and what follows it. A number may be part of
/// the name, behind a dot.
fn tag_at(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix('{')?.split_once('}')?;
    let is_number = |number: &str| number.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = name.split_once('.').filter(|(_, number)| is_number(number));
    let word = numbered.map_or(name, |(word, _)| word);
    let is_word = word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.ends_with(|c: char| c.is_ascii_lowercase())
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b' '));
    is_word.then_some((name, after))
}

fn escaped_tag_at(text: &str) -> Option<(&str, &str)> {
    let (name, after) = tag_at(text.strip_prefix('{')?)?;
    Some((name, after.strip_prefix('}')?))
}

/// The template at a key of a file.
pub(super) fn template(key: &str, text: &str) -> Result<Template, Problem> {
    Template::parse(text).map_err(|error| Problem::new(key, error.reason))
}

pub(super) fn templates(key: &str, words: &[String]) -> Result<Vec<Template>, Problem> {
    let word = |(index, word): (usize, &String)| template(&format!("{key}[{index}]"), word);
    words.iter().enumerate().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;

    impl Values for Two {
        fn global(&self, global: Global) -> Option<String> {
            (global != Global::Config).then(|| format!("<{global:?}>"))
        }

        fn count(&self, _: Each) -> usize {
            2
        }

        fn local(&self, each: Each, index: usize, local: Local) -> String {
            match each {
                Each::Backend => format!("{local:?}{index}"),
                Each::Zone => format!("{each:?}{local:?}{index}"),
            }
        }
    }

    fn rendered(text: &str) -> String {
        Template::parse(text).unwrap().render(&Two).unwrap()
    }

    #[test]
    fn placeholders_are_replaced() {
        assert_eq!(rendered("--listen={listen}"), "--listen=<Listen>");
        assert_eq!(rendered("{dir}/x"), "<Dir>/x");
        assert_eq!(rendered("plain"), "plain");
        assert_eq!(rendered(""), "");
    }

    #[test]
    fn other_braces_stay() {
        for text in [
            "http {\n  server { listen 80; }\n}\n",
            r#"{"a": {"b": 1}}"#,
            "{ name: x }",
            "${HOME} {}",
            "{$ENV} { each backend}",
            "{",
            "}{",
        ] {
            assert_eq!(
                rendered(&text.replace("${HOME}", "$HOME")),
                text.replace("${HOME}", "$HOME")
            );
        }
        assert_eq!(rendered("respond {{host}} {{listen}}"), "respond {host} {listen}");
    }

    #[test]
    fn blocks_repeat_and_their_lines_vanish() {
        let text = "upstream b {\n  {each backend}\n  server {addr} weight={weight};\n  {end}\n}\n";
        let expected =
            "upstream b {\n  server Addr0 weight=Weight0;\n  server Addr1 weight=Weight1;\n}\n";
        assert_eq!(rendered(text), expected);
        assert_eq!(
            rendered("a{each backend} {id}@{listen_port}{end} z"),
            "a Id0@<ListenPort> Id1@<ListenPort> z"
        );
        assert_eq!(
            rendered("{each backend}{zone} {end}{each zone}{zone}={proxies} {end}"),
            "Zone0 Zone1 ZoneZone0=ZoneProxies0 ZoneZone1=ZoneProxies1 "
        );
    }

    #[test]
    fn a_word_that_is_a_block_becomes_several() {
        let words = |text: &str| Template::parse(text).unwrap().render_words(&Two).unwrap();
        assert_eq!(words("{each backend}--b={addr}{end}"), ["--b=Addr0", "--b=Addr1"]);
        assert_eq!(words("x{each backend},{index}{end}"), ["x,Index0,Index1"]);
        assert_eq!(words("{policy}"), ["<Policy>"]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(Template::parse("{config}").unwrap().render(&Two), Err(Global::Config));
    }

    #[test]
    fn slips_are_refused_with_their_line() {
        for (text, line, expected) in [
            ("a\n{lisen}", 2, "did you mean `listen`?"),
            ("{addr}", 1, "`{addr}` stands outside `{each backend}`"),
            ("{each zone}{addr}{end}", 1, "`{addr}` stands outside `{each backend}`"),
            ("{each backend}{proxies}{end}", 1, "`{proxies}` stands outside `{each zone}`"),
            ("{each zone}\n{each backend}\n{end}\n{end}\n", 2, "within `{each zone}`"),
            ("{each zone}", 1, "`{each zone}` without `{end}`"),
            ("a\n\n{each backend}\n", 3, "without `{end}`"),
            ("{end}", 1, "without `{each backend}`"),
            ("{each back end}", 1, "did you mean `each backend`?"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.reason.contains(expected), "{text}: {}", error.reason);
        }
    }

    proptest::proptest! {
        #[test]
        fn text_without_a_tag_is_unchanged(text in "[a-z{} \n\"0-9A-Z:.-]{0,60}") {
            if let Ok(template) = Template::parse(&text) {
                let rendered = template.render(&Two);
                let has_tag = tokens(&text).iter().any(|token| matches!(token.kind, TokenKind::Tag(_)));
                if !has_tag && !text.contains("{{") {
                    proptest::prop_assert_eq!(rendered, Ok(text));
                }
            }
        }
    }
}
