//! What will come of a run, said before it is measured.
//!
//! Each peer at each point is simulated with the times of each repeat of the calibration by
//! itself, and each of those with many seeds: how far the repeats differ tells what the
//! machine does to the figures, and how far the seeds do, what chance does.

use measure::{
    figure::{Figure, Figures},
    folder::Run,
    prediction::{Predicted, PredictedPoint, Predictions},
    record::FORMAT_VERSION,
    statistics::prediction::of_trials_to_come,
    summary::is_measured,
};
use scenario::Scenario;

use super::{
    super::{Observer, order::Turn, points::Point},
    calibrate::Calibrated,
    convert::{self, Conditions},
    trial,
};
use crate::peers::ReadyPeer;

/// What is predicted of each peer at each point.
const FIGURES: [Figure; 4] =
    [Figure::LatencyMean, Figure::LatencyP50, Figure::LatencyP99, Figure::MaxShare];
/// Their values in a simulation; none where it has none, as a latency without a call.
type Values = [Option<f64>; FIGURES.len()];
/// The chance with which a figure is to lie inside its interval.
const LEVEL: f64 = 0.95;
/// Repeats that no run has, so that what is simulated is not the very calls that will be
/// measured.
const FIRST_SEED: u32 = 1 << 20;

/// A calibration to predict from.
#[derive(Clone, Debug)]
pub(crate) struct Forecast {
    calibrated: Calibrated,
    /// The same with the times of each repeat alone.
    by_repeat: Vec<Conditions>,
    seeds: u32,
}

impl Forecast {
    /// Takes times from a run.
    ///
    /// # Errors
    /// In a sentence, what the run lacks.
    pub(crate) fn of(run: &Run, name: &str, seeds: u32) -> Result<Self, String> {
        let calibrated = Calibrated::of(run, name, |_| true)?;
        let measured = run.trials.iter().filter(|trial| is_measured(trial));
        let mut repeats: Vec<u32> = measured.map(|trial| trial.repeat).collect();
        repeats.sort_unstable();
        repeats.dedup();
        if repeats.len() < 2 {
            return Err(format!(
                "{name} has one repeat, and how far repeats differ decides how wide an interval \
                 is; run its scenario again with --repeats 3 or more"
            ));
        }
        let alone = |repeat: u32| {
            let calibrated = Calibrated::of(run, name, |own| own == repeat)?;
            Ok(Conditions { calibrated: Some(calibrated), ..Conditions::default() })
        };
        let by_repeat = repeats.into_iter().map(alone).collect::<Result<_, String>>()?;
        Ok(Self { calibrated, by_repeat, seeds })
    }

    /// Predicts the means over the scenario's repeats.
    ///
    /// # Errors
    /// In a sentence, why it can't be simulated.
    pub(crate) fn predict(
        &self,
        scenario: &Scenario,
        points: &[Point],
        peers: &[ReadyPeer],
        observer: &mut dyn Observer,
    ) -> Result<Predictions, String> {
        if scenario.load.search.is_some() {
            return Err("it searches for the highest rate, which CPU time decides, and a \
                        simulation has none; predict a rate, with a scenario that has no \
                        [load.search]"
                .to_owned());
        }
        super::check_own(scenario, Some(&self.calibrated))?;
        let pairs: Vec<(&Point, &ReadyPeer)> =
            points.iter().flat_map(|point| peers.iter().map(move |peer| (point, peer))).collect();
        let simulated = self.simulate(&pairs, observer)?;
        let each = self.by_repeat.len() * self.seeds as usize;
        let predicted = pairs.iter().zip(simulated.chunks(each)).map(|((point, peer), values)| {
            PredictedPoint {
                peer: peer.peer.name.clone(),
                point: point.value.clone(),
                extrapolated: self.calibrated.beyond(&point.scenario, peer),
                figures: self.intervals(values, scenario.repeats),
            }
        });
        Ok(Predictions {
            format: FORMAT_VERSION,
            calibration: self.calibrated.record(&[], &[]),
            leaves_out: convert::leaves_out(scenario, &self.by_repeat[0]),
            seeds: self.seeds,
            level: LEVEL,
            repeats: scenario.repeats,
            points: predicted.collect(),
        })
    }

    /// The figures of each pair: with the times of one repeat by all seeds, then of the
    /// next.
    fn simulate(
        &self,
        pairs: &[(&Point, &ReadyPeer)],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Values>, String> {
        let of_pair = |pair| {
            let conditions = self.by_repeat.iter();
            conditions.flat_map(move |one| (0..self.seeds).map(move |seed| (pair, one, seed)))
        };
        let jobs: Vec<_> = pairs.iter().flat_map(of_pair).collect();
        let simulated = super::in_parallel(&jobs, observer, |((point, peer), one, seed)| {
            let turn = Turn { point: 0, peer: 0, repeat: FIRST_SEED + seed };
            let record = trial::simulate(point, peer, one, turn, 0);
            record.map(|record| {
                let figures = Figures::of_trial(&record);
                FIGURES.map(|figure| figures.get(figure))
            })
        });
        simulated.into_iter().collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    /// The figures that every simulation has.
    fn intervals(&self, simulated: &[Values], repeats: u32) -> Vec<Predicted> {
        let interval = |(index, figure): (usize, Figure)| {
            let values: Option<Vec<f64>> = simulated.iter().map(|one| one[index]).collect();
            let rows: Vec<Vec<f64>> =
                values?.chunks(self.seeds as usize).map(<[f64]>::to_vec).collect();
            let estimate = of_trials_to_come(&rows, repeats, LEVEL)?;
            let interval = estimate.interval?;
            let most = if figure.is_part_of_a_whole() { 1.0 } else { f64::INFINITY };
            let (low, high) = (interval.low, interval.high.min(most));
            Some(Predicted { figure, value: estimate.centre, low, high })
        };
        FIGURES.into_iter().enumerate().filter_map(interval).collect()
    }
}

#[cfg(test)]
mod tests {
    use scenario::{Library, Setting};

    use super::*;
    use crate::{
        root::Root,
        run::{Event, points},
    };

    /// Watches nothing.
    struct Nobody;

    impl Observer for Nobody {
        fn on(&mut self, _: Event<'_>) {}
    }

    fn example() -> Run {
        Run::open(&Root::find().results().join("example")).unwrap()
    }

    fn predicted(settings: &[(&str, &str)]) -> Predictions {
        let library = Library::open(Root::find().scenarios()).unwrap();
        let quick = [("load.duration", "1s"), ("load.warm_up", "0ms"), ("run.repeats", "3")];
        let settings: Vec<Setting> = quick
            .iter()
            .chain(settings)
            .map(|(key, value)| Setting::new(key, value, *key))
            .collect();
        let source = library.find("single-conn-flood").unwrap();
        let scenario = source.resolve(false, &settings).unwrap();
        let ready = |name: &str| {
            let peer = library.peer(name).unwrap();
            ReadyPeer { peer, program: None, version: None, external: None }
        };
        let peers = ["l7"].map(ready);
        let forecast = Forecast::of(&example(), "example", 3).unwrap();
        forecast.predict(&scenario, &points::planned(&scenario), &peers, &mut Nobody).unwrap()
    }

    #[test]
    fn every_figure_has_an_interval_around_it() {
        let predictions = predicted(&[]);
        let point = &predictions.points[0];
        assert_eq!(point.figures.iter().map(|one| one.figure).collect::<Vec<_>>(), FIGURES);
        assert!(point.extrapolated.is_empty(), "{:?}", point.extrapolated);
        for one in &point.figures {
            assert!(0.0 < one.low && one.low < one.value && one.value < one.high, "{one:?}");
        }
        let mean_ms = point.figures[0].value / 1e6;
        assert!((4.0..6.0).contains(&mean_ms), "a service of 4 ms and the way: {mean_ms}");
        assert!(predictions.leaves_out.iter().any(|sentence| sentence.contains("CPU time")));
    }

    #[test]
    fn what_was_not_measured_is_extrapolated_in_so_many_words() {
        for (key, value, word) in [
            ("load.rate", "6000/s", "load"),
            ("balance.policy", "p2c", "policy"),
            ("backends.count", "5", "backends"),
        ] {
            let predictions = predicted(&[(key, value)]);
            let extrapolated = predictions.points[0].extrapolated.join(" ");
            assert!(extrapolated.contains(word), "{key}: {extrapolated}");
        }
    }

    #[test]
    fn one_repeat_is_too_few() {
        let mut run = example();
        run.trials.retain(|trial| trial.repeat == 0);
        let reason = Forecast::of(&run, "example", 3).unwrap_err();
        assert!(reason.contains("--repeats 3"), "{reason}");
    }
}
