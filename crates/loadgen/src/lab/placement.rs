//! Which CPUs each part of the lab runs on.
//!
//! CPU time per call depends on who shares a cache and a core with whom. So where
//! the machine allows it, the proxy has a core of its own, as it would have in
//! production, and every peer meets the same placement.

use std::collections::BTreeMap;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use scenario::Placement;

/// CPUs by part; an empty list is wherever the kernel likes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpus {
    pub(crate) generator: Vec<u32>,
    pub(crate) proxy: Vec<u32>,
    pub(crate) backends: Vec<u32>,
}

/// A scenario names a CPU that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("placement: CPU {cpu} is not available here; there are {available:?}")]
pub(crate) struct NoSuchCpu {
    cpu: u32,
    available: Vec<u32>,
}

impl Cpus {
    /// What a scenario asks for, on a machine with these CPUs.
    ///
    /// # Errors
    /// When it names a CPU that is not there.
    pub(crate) fn of(placement: &Placement, available: &[u32]) -> Result<Self, NoSuchCpu> {
        match placement {
            Placement::None => Ok(Self::default()),
            Placement::Auto => Ok(Self::suggested(available)),
            Placement::Cpus { generator, proxy, backends } => {
                let all = [generator, proxy, backends];
                let missing = all.into_iter().flatten().find(|cpu| !available.contains(cpu));
                match missing {
                    Some(&cpu) => Err(NoSuchCpu { cpu, available: available.to_vec() }),
                    None => Ok(Self {
                        generator: generator.clone(),
                        proxy: proxy.clone(),
                        backends: backends.clone(),
                    }),
                }
            }
        }
    }

    /// The last CPU for the proxy, a quarter for the generator, the rest for the
    /// backends; of two, one for generator and backends together.
    fn suggested(available: &[u32]) -> Self {
        let Some((&last, rest)) = available.split_last() else { return Self::default() };
        match rest.len() {
            0 => Self::default(),
            1 => Self { generator: rest.to_vec(), proxy: vec![last], backends: rest.to_vec() },
            _ => {
                let (generator, backends) = rest.split_at((available.len() / 4).max(1));
                Self {
                    generator: generator.to_vec(),
                    proxy: vec![last],
                    backends: backends.to_vec(),
                }
            }
        }
    }

    /// Whether the generator has cores of its own, and shares none of them.
    pub(crate) fn generator_is_alone(&self) -> bool {
        let others = [&self.proxy, &self.backends];
        !self.generator.is_empty()
            && others.iter().all(|cpus| {
                !cpus.is_empty() && cpus.iter().all(|cpu| !self.generator.contains(cpu))
            })
    }

    /// As it stands in the record of a run.
    pub(crate) fn recorded(&self) -> BTreeMap<String, Vec<u32>> {
        let parts =
            [("generator", &self.generator), ("proxy", &self.proxy), ("backends", &self.backends)];
        parts
            .into_iter()
            .filter(|(_, cpus)| !cpus.is_empty())
            .map(|(part, cpus)| (part.to_owned(), cpus.clone()))
            .collect()
    }
}

/// The CPUs this process may run on.
pub(crate) fn available() -> Vec<u32> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    let cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu));
    cpus.filter_map(|cpu| u32::try_from(cpu).ok()).collect()
}

/// Binds the calling thread to `cpus`; to none in particular when there are none.
pub(crate) fn pin_this_thread(cpus: &[u32]) -> std::io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if (cpu as usize) < CpuSet::MAX_CPU {
            set.set(cpu as usize);
        }
    }
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_has_a_core_of_its_own_where_there_are_two() {
        assert_eq!(Cpus::suggested(&[0]), Cpus::default());
        let two = Cpus::suggested(&[4, 5]);
        assert_eq!(two, Cpus { generator: vec![4], proxy: vec![5], backends: vec![4] });
        let eight = Cpus::suggested(&[0, 1, 2, 3, 4, 5, 6, 7]);
        let expected =
            Cpus { generator: vec![0, 1], proxy: vec![7], backends: vec![2, 3, 4, 5, 6] };
        assert_eq!(eight, expected);
        assert!(eight.generator_is_alone() && !two.generator_is_alone());
        assert!(!Cpus::default().generator_is_alone());
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named() {
        let asked = Placement::Cpus { generator: vec![0], proxy: vec![9], backends: vec![] };
        let error = Cpus::of(&asked, &[0, 1]).unwrap_err();
        assert_eq!(error, NoSuchCpu { cpu: 9, available: vec![0, 1] });
        assert_eq!(Cpus::of(&Placement::None, &[0, 1]), Ok(Cpus::default()));
    }

    #[test]
    fn a_thread_runs_where_it_was_put() {
        let first = available()[0];
        std::thread::spawn(move || {
            pin_this_thread(&[first]).unwrap();
            assert_eq!(available(), [first]);
        })
        .join()
        .unwrap();
    }
}
