//! Connections that are balanced: where each leads to, and when it is replaced.

use balance::Tried;

use crate::{
    calls::{Link, NONE},
    distribution::unit,
    events::Kind,
    run::Simulation,
    setup::Layer,
};

/// How far the age of a connection may lie from what was set, as gRPC has it.
const AGE_JITTER: f64 = 0.1;

/// What an age is multiplied by, with jitter by 64 random bits.
fn age_factor(random: u64) -> f64 {
    1.0 + AGE_JITTER * (2.0 * unit(random) - 1.0)
}

impl Simulation<'_> {
    /// The link that a call of a connection goes out on, with its backend; none where no
    /// backend can be reached.
    pub(crate) fn link_for_call(&mut self, connection: u32) -> Option<(u32, u32)> {
        let own = &mut self.connections[connection as usize];
        let is_used_up = self.setup.load.connection_calls.is_some_and(|most| own.made >= most);
        if is_used_up || own.link == NONE {
            self.connect(connection);
        }
        let own = &mut self.connections[connection as usize];
        own.made += 1;
        let link = self.links.get_mut(own.link as usize)?;
        link.in_flight += 1;
        Some((own.link, link.backend))
    }

    /// A call on a link ended.
    pub(crate) fn leave(&mut self, key: u32) {
        let link = &mut self.links[key as usize];
        link.in_flight -= 1;
        if link.is_closing && link.in_flight == 0 {
            self.close(key);
        }
    }

    /// A connection leads to a backend from now on, in place of the one before.
    pub(crate) fn connect(&mut self, connection: u32) {
        let before = self.connections[connection as usize].link;
        let found = match self.setup.layer {
            Layer::L4 => self.pick_for_connection(connection),
            _ => self.next_in_turn(connection).map(|backend| (backend, NONE)),
        };
        if let Some(link) = self.links.get_mut(before as usize) {
            link.is_closing = true;
            if link.in_flight == 0 {
                self.close(before);
            }
        }
        let own = &mut self.connections[connection as usize];
        (own.link, own.made) = (NONE, 0);
        let Some((backend, place)) = found else { return };
        let stamp = self.next_stamp();
        let link = Link {
            connection,
            backend,
            place,
            in_flight: 0,
            opened_ns: self.now_ns,
            stamp,
            is_closing: false,
        };
        let key = self.links.insert(link) as u32;
        self.connections[connection as usize].link = key;
        if let Some(age_ns) = self.setup.connection_age_ns {
            let at_ns = self.now_ns + (age_ns as f64 * age_factor(self.word())) as u64;
            self.events.push(at_ns, Kind::Age, key, stamp);
        }
    }

    /// When the first of a client's connections to all backends will be closed for its age,
    /// if they are. Its calls go on: only the name is resolved again.
    pub(crate) fn watch_age_of(&mut self, view: u32) {
        let Some(age_ns) = self.setup.connection_age_ns else { return };
        let known = self.views[view as usize].listed().max(1);
        let factors = (0..known).map(|_| age_factor(self.word()));
        let first = factors.fold(f64::INFINITY, f64::min);
        let at_ns = self.now_ns + (age_ns as f64 * first) as u64;
        self.events.push(at_ns, Kind::ViewAge, view, 0);
    }

    /// A backend closes a connection for its age.
    pub(crate) fn age(&mut self, key: u32, stamp: u16) {
        let link = self.links.get(key as usize);
        // One that was closed before has another's stamp, or none.
        let open = link.filter(|link| link.stamp == stamp && !link.is_closing);
        if let Some(connection) = open.map(|link| link.connection) {
            self.connect(connection);
        }
    }

    /// All connections to a backend are replaced by others.
    pub(crate) fn reconnect_all(&mut self, backend: u32) {
        let lost = self.links.iter().map(|(_, link)| link);
        let lost = lost.filter(|link| link.backend == backend && !link.is_closing);
        let connections: Vec<u32> = lost.map(|link| link.connection).collect();
        connections.into_iter().for_each(|connection| self.connect(connection));
    }

    fn pick_for_connection(&mut self, connection: u32) -> Option<(u32, u32)> {
        let view = self.view_of(connection);
        let mut tried = Tried::default();
        loop {
            let input = self.pick_input(connection);
            let picked = self.views[view].pick(&input, &tried)?;
            let seen = self.views[view].seen(picked.place);
            if self.stations[picked.backend as usize].is_up() {
                if self.counts_own {
                    seen.begin();
                }
                return Some((picked.backend, picked.place));
            }
            seen.failed(self.now_ns);
            tried.insert(picked.listed());
        }
    }

    fn next_in_turn(&mut self, connection: u32) -> Option<u32> {
        let own = &mut self.connections[connection as usize];
        for _ in 0..self.members.len() {
            let backend = self.members[own.turn as usize % self.members.len()];
            own.turn = own.turn.wrapping_add(1);
            if self.stations[backend as usize].is_up() {
                return Some(backend);
            }
        }
        None
    }

    fn close(&mut self, key: u32) {
        let link = self.links.remove(key as usize);
        if link.place != NONE {
            let seen = self.views[self.view_of(link.connection)].seen(link.place);
            if self.counts_own {
                seen.finish();
            }
            seen.answered(self.now_ns, self.now_ns - link.opened_ns);
        }
    }
}
