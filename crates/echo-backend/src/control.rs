//! What the lab tells a backend that runs, line by line over its control pipe,
//! and what the backend says to it on standard output.
//!
//! | line | what it does |
//! |---|---|
//! | `speed 0.2` | its servers work at this speed from the next call on |
//!
//! Every line is answered with its number, so that the lab knows which of them
//! was heeded: `b1: command 3: speed is 0.2`. A pipe rather than a port: it needs
//! no address, nobody else can reach it, and it is there in any network namespace.

use crate::{Backend, config::Speed};

/// Heeds the lines, in their order.
#[derive(Debug)]
pub(crate) struct Control {
    backend: Backend,
    lines: u64,
}

impl Control {
    pub(crate) fn new(backend: Backend) -> Self {
        Self { backend, lines: 0 }
    }

    /// Does what a line says; returns the answer.
    pub(crate) fn obey(&mut self, line: &str) -> String {
        self.lines += 1;
        let answer = match line.split_once(' ') {
            Some(("speed", factor)) => match factor.parse::<Speed>() {
                Ok(speed) => {
                    self.backend.set_speed(speed);
                    format!("speed is {}", self.backend.speed())
                }
                Err(error) => error.to_string(),
            },
            _ => format!("`{line}` is no command; there is `speed FACTOR`"),
        };
        format!("{}: command {}: {answer}", self.backend.id(), self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[tokio::test]
    async fn the_speed_changes_and_every_line_is_answered() {
        let backend = Backend::new(Config::new("b1")).unwrap();
        let mut control = Control::new(backend.clone());
        assert_eq!(control.obey("speed 0.2"), "b1: command 1: speed is 0.2");
        assert_eq!(backend.speed().factor(), 0.2);
        let refused = control.obey("speed 0");
        assert!(refused.starts_with("b1: command 2: `0` is no speed"), "{refused}");
        assert!(control.obey("sleep").contains("no command"));
        assert_eq!(backend.speed().factor(), 0.2);
    }
}
