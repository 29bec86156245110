//! Each client has a backend of its own.

use std::{collections::HashMap, net::SocketAddr};

use crate::Links;

pub(crate) struct Hop {
    backends: Vec<SocketAddr>,
    next: usize,
    others: HashMap<usize, usize>,
}

impl Hop {
    pub(crate) fn new(backends: &[SocketAddr]) -> Self {
        Self { backends: backends.to_vec(), next: 0, others: HashMap::new() }
    }
}

impl crate::Hop for Hop {
    fn accepted(&mut self, links: &mut Links, client: usize) {
        let backend = links.connect(self.backends[self.next]);
        self.next = (self.next + 1) % self.backends.len();
        self.others.insert(client, backend);
        self.others.insert(backend, client);
    }

    fn read(&mut self, links: &mut Links, from: usize, input: &mut Vec<u8>) {
        let Some(output) = self.others.get(&from).and_then(|other| links.output(*other)) else {
            return;
        };
        if output.is_empty() {
            std::mem::swap(output, input);
        } else {
            output.append(input);
        }
    }

    fn closed(&mut self, links: &mut Links, which: usize) {
        if let Some(other) = self.others.remove(&which) {
            self.others.remove(&other);
            // What it is still owed goes first, in this turn.
            links.flush();
            links.all.remove(other);
        }
        links.all.remove(which);
    }
}
