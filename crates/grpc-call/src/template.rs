//! Text that differs from call to call: JSON requests and metadata as templates.
//!
//! A text is a template where it has `{{` or `{%`. What it may call is listed in
//! [`Templates::new`]. Values of environment variables are kept apart: they are
//! taken out of every error.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};

use crate::{error::Reason, message::MOST_MESSAGE_BYTES};

/// The value of an environment variable, if it is set.
pub type Variables = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;
/// The next random number.
pub type Chance = Box<dyn FnMut() -> u64 + Send>;

/// Where environment variables and chance come from.
pub struct Sources {
    /// Environment variables.
    pub variable: Variables,
    /// Random numbers, from the seed.
    pub random: Chance,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

/// The engine, and what its functions give for the call at hand.
pub(crate) struct Templates {
    environment: Environment<'static>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    sequence: AtomicU64,
    message: AtomicU64,
    /// Bytes of the request that was recorded for the call.
    request_bytes: Mutex<Option<u32>>,
    /// A function was called whose result is another for the next call.
    varies: AtomicBool,
    secrets: Mutex<Vec<String>>,
    rows: Vec<BTreeMap<String, String>>,
}

impl Templates {
    pub(crate) fn new(sources: Sources, rows: Vec<BTreeMap<String, String>>) -> Self {
        let state = Arc::new(State { rows, ..State::default() });
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        add_counters(&mut environment, &state);
        add_chance(&mut environment, &state, sources.random);
        add_inputs(&mut environment, &state, sources.variable);
        Self { environment, state }
    }

    /// The call that the next renderings are for, with the size of its request where that
    /// was recorded.
    pub(crate) fn begin(&self, sequence: u64, request_bytes: Option<u32>) {
        *guard(&self.state.request_bytes) = request_bytes;
        self.state.sequence.store(sequence, Ordering::Relaxed);
        self.state.message.store(0, Ordering::Relaxed);
        self.state.varies.store(false, Ordering::Relaxed);
    }

    /// The message of its stream.
    pub(crate) fn set_message(&self, message: u32) {
        self.state.message.store(message.into(), Ordering::Relaxed);
    }

    /// Whether anything that was rendered since differs from call to call.
    pub(crate) fn varies(&self) -> bool {
        self.state.varies.load(Ordering::Relaxed)
    }

    /// The text, rendered where it is a template.
    pub(crate) fn render(&self, text: &str) -> Result<String, String> {
        if !is_template(text) {
            return Ok(text.to_owned());
        }
        self.environment
            .render_str(text, ())
            .map_err(|error| self.without_secrets(&message_of(&error)))
    }

    /// An error's text without the values of environment variables.
    pub(crate) fn without_secrets(&self, text: &str) -> String {
        let secrets = self.state.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = |text: String, secret: &String| text.replace(secret.as_str(), "***");
        secrets.iter().filter(|secret| !secret.is_empty()).fold(text.to_owned(), cut)
    }
}

/// Whether a text has to be rendered.
fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

fn add_counters(environment: &mut Environment<'static>, state: &Arc<State>) {
    let of = Arc::clone(state);
    environment.add_function("seq", move || {
        of.varies.store(true, Ordering::Relaxed);
        of.sequence.load(Ordering::Relaxed)
    });
    let of = Arc::clone(state);
    environment.add_function("message", move || of.message.load(Ordering::Relaxed));
    let of = Arc::clone(state);
    environment.add_function("request_bytes", move || {
        of.varies.store(true, Ordering::Relaxed);
        guard(&of.request_bytes).ok_or_else(|| {
            let message = "request_bytes(): no trace says how large the request is; it takes \
                           `load.arrivals = \"trace:FILE\"` and the column `request_bytes`";
            invalid(message.to_owned())
        })
    });
}

fn add_chance(environment: &mut Environment<'static>, state: &Arc<State>, random: Chance) {
    let random = Arc::new(Mutex::new(random));
    let of = Arc::clone(state);
    let next = move || {
        of.varies.store(true, Ordering::Relaxed);
        (*guard(&random))()
    };
    let chance = next.clone();
    environment.add_function("uuid", move || uuid(chance(), chance()));
    let chance = next.clone();
    environment.add_function("int", move |low: i64, high: i64| match high.checked_sub(low) {
        Some(span) if span >= 0 => {
            let count = span.unsigned_abs().saturating_add(1);
            Ok(low.wrapping_add_unsigned(chance() % count))
        }
        _ => Err(invalid(format!("int({low}, {high}): expected the smaller number first"))),
    });
    let chance = next.clone();
    environment.add_function("text", move |bytes: usize| {
        if bytes > MOST_MESSAGE_BYTES {
            return Err(invalid(format!("text({bytes}): expected at most {MOST_MESSAGE_BYTES}")));
        }
        Ok(letters(bytes, &chance))
    });
    environment.add_function("choice", move |values: Vec<Value>| {
        let count = values.len() as u64;
        if count == 0 {
            return Err(invalid("choice([]): expected at least one value".to_owned()));
        }
        Ok(values[(next() % count) as usize].clone())
    });
}

fn add_inputs(environment: &mut Environment<'static>, state: &Arc<State>, variable: Variables) {
    let of = Arc::clone(state);
    environment.add_function("column", move |name: String| {
        of.varies.store(true, Ordering::Relaxed);
        let count = of.rows.len() as u64;
        if count == 0 {
            return Err(invalid(format!("column({name:?}): there is no `service.data`")));
        }
        let row = &of.rows[(of.sequence.load(Ordering::Relaxed) % count) as usize];
        row.get(&name).cloned().ok_or_else(|| {
            let known = crate::error::list(&row.keys().cloned().collect::<Vec<_>>());
            invalid(format!("column({name:?}): the file has no such column; it has {known}"))
        })
    });
    let of = Arc::clone(state);
    environment.add_function("env", move |name: String| {
        let value = variable(&name).ok_or_else(|| {
            invalid(format!("the environment variable {name} is not set; export it"))
        })?;
        let mut secrets = guard(&of.secrets);
        if !secrets.contains(&value) {
            secrets.push(value.clone());
        }
        Ok(value)
    });
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn invalid(message: String) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, message)
}

/// What the engine says, without its name for the text.
fn message_of(error: &minijinja::Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match (error.kind(), error.line()) {
        // Said by a function of ours, whole.
        (ErrorKind::InvalidOperation, _) | (_, None) => detail,
        (kind, Some(line)) if error.detail().is_some() => {
            format!("{kind} in line {line}: {detail}")
        }
        (_, Some(line)) => format!("{detail} in line {line}"),
    }
}

/// So many random letters.
fn letters(count: usize, chance: &impl Fn() -> u64) -> String {
    let mut text = String::with_capacity(count + 8);
    while text.len() < count {
        text.extend(chance().to_le_bytes().map(|byte| char::from(b'a' + byte % 26)));
    }
    text.truncate(count);
    text
}

/// A random UUID (RFC 9562, version 4).
fn uuid(high: u64, low: u64) -> String {
    let high = high & 0xffff_ffff_ffff_0fff | 0x4000;
    let low = low & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// Reads a CSV file with a head.
pub(crate) fn read_rows(file: &Path) -> Result<Vec<BTreeMap<String, String>>, Reason> {
    let wrong = |message: String| Reason::Data { file: file.to_owned(), message };
    let content =
        std::fs::read(file).map_err(|error| Reason::Read { file: file.to_owned(), error })?;
    let mut reader = csv::Reader::from_reader(content.as_slice());
    let rows: Vec<BTreeMap<String, String>> = reader
        .deserialize()
        .collect::<Result<_, _>>()
        .map_err(|error: csv::Error| wrong(error.to_string()))?;
    if rows.is_empty() {
        return Err(wrong("expected a line of names and at least one line of values".to_owned()));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates() -> Templates {
        let mut last = 0;
        let random = Box::new(move || {
            last += 7;
            last
        });
        let variable = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        let row = |id: &str| BTreeMap::from([("id".to_owned(), id.to_owned())]);
        Templates::new(Sources { variable: Box::new(variable), random }, vec![row("u1"), row("u2")])
    }

    #[test]
    fn texts_differ_from_call_to_call() {
        let all = templates();
        all.begin(3, None);
        assert_eq!(all.render("{{ seq() }} {{ column('id') }}").unwrap(), "3 u2");
        assert!(all.varies());
        all.begin(4, None);
        assert_eq!(all.render("{{ env('TOKEN') }} {{ message() }}").unwrap(), "s3cret 0");
        assert!(!all.varies(), "a token is the same for every call");
        assert_eq!(all.render("{{ int(1, 6) }} {{ choice(['a', 'b']) }}").unwrap(), "2 a");
        let id = all.render("{{ uuid() }}").unwrap();
        assert_eq!((id.len(), id.as_bytes()[14], id.as_bytes()[19]), (36, b'4', b'8'));
        assert_eq!(all.render("{ \"a\": { } }").unwrap(), "{ \"a\": { } }");
        all.begin(5, Some(9));
        let text = all.render("{{ text(request_bytes() - 4) }}").unwrap();
        assert!(text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_lowercase()), "{text}");
        assert!(all.varies());
        all.begin(6, None);
        let error = all.render("{{ request_bytes() }}").unwrap_err();
        assert!(error.contains("the column `request_bytes`"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told_and_no_secret_with_it() {
        let all = templates();
        for (text, expected) in [
            ("{{ env('TOKE') }}", "the environment variable TOKE is not set"),
            ("{{ column('name') }}", "it has `id`"),
            ("{{ int(2, 1) }}", "smaller number first"),
            ("{{ choice([]) }}", "at least one value"),
            ("{{ text(9000000) }}", "expected at most 8388608"),
            ("{{ nothing }}", "line 1"),
            ("{% if %}", "line 1"),
        ] {
            let error = all.render(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        all.render("{{ env('TOKEN') }}").unwrap();
        assert_eq!(all.without_secrets("found s3cret"), "found ***");
    }
}
