//! Colours, named by what they mean.
//!
//! A drawing says [`Paint::Ink`] or [`Paint::Series`], never a colour. In the
//! page each becomes a CSS class over a custom property, which follows light
//! and dark; in a PNG it becomes the light colour. The series are the hues of
//! Okabe and Ito (*Color Universal Design*, 2008), darkened for light paper and
//! lightened for dark until text in them has the contrast of WCAG AA.

use analysis::model::{MARKS, Mark};

/// How many different series colours there are.
pub const SERIES: u8 = MARKS;
/// Steps of the heat map's ramp.
pub const HEAT_STEPS: u8 = 8;
/// Colours that tell the parts of a stack apart.
pub const PARTS: u8 = 8;

/// A colour by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Paint {
    /// The ground.
    Paper,
    /// Text and what must be seen.
    Ink,
    /// Text that stands back.
    Soft,
    /// Axes and reference lines.
    Axis,
    /// Grid lines.
    Grid,
    /// Failures.
    Bad,
    /// A peer; below [`SERIES`].
    Series(u8),
    /// A part of a stack, a backend say, whose neighbours differ; below [`PARTS`].
    Part(u8),
    /// A step of a ramp from nearly nothing to a lot; below [`HEAT_STEPS`].
    Heat(u8),
}

/// Red, green, blue.
pub type Rgb = (u8, u8, u8);

impl Paint {
    /// The colour of a peer.
    pub fn of(mark: Mark) -> Self {
        Self::Series(mark.series)
    }

    /// Every paint there is.
    pub fn all() -> Vec<Self> {
        let named = [Self::Paper, Self::Ink, Self::Soft, Self::Axis, Self::Grid, Self::Bad];
        named
            .into_iter()
            .chain((0..SERIES).map(Self::Series))
            .chain((0..PARTS).map(Self::Part))
            .chain((0..HEAT_STEPS).map(Self::Heat))
            .collect()
    }

    /// Its name in CSS, without the dashes in front.
    pub fn name(self) -> String {
        match self {
            Self::Paper => "paper".to_owned(),
            Self::Ink => "ink".to_owned(),
            Self::Soft => "soft".to_owned(),
            Self::Axis => "axis".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Bad => "bad".to_owned(),
            Self::Series(index) => format!("series-{index}"),
            Self::Part(index) => format!("part-{index}"),
            Self::Heat(step) => format!("heat-{step}"),
        }
    }

    /// On light paper, and in every PNG.
    pub fn light(self) -> Rgb {
        hex(match self {
            Self::Paper => 0xfd_fd_fb,
            Self::Ink => 0x1a_1d_21,
            Self::Soft => 0x59_5f_68,
            Self::Axis => 0x94_98_9c,
            Self::Grid => 0xe5_e5_e0,
            Self::Bad => 0xc1_12_1f,
            Self::Series(index) => pick(index, &LIGHT_SERIES),
            Self::Part(index) => pick(index, &LIGHT_PARTS),
            Self::Heat(step) => pick(step, &LIGHT_HEAT),
        })
    }

    /// On dark paper.
    pub fn dark(self) -> Rgb {
        hex(match self {
            Self::Paper => 0x14_16_1a,
            Self::Ink => 0xe9_e9_e5,
            Self::Soft => 0xa6_ab_b3,
            Self::Axis => 0x6c_72_7b,
            Self::Grid => 0x2a_2e_35,
            Self::Bad => 0xff_7b_7b,
            Self::Series(index) => pick(index, &DARK_SERIES),
            Self::Part(index) => pick(index, &DARK_PARTS),
            Self::Heat(step) => pick(step, &DARK_HEAT),
        })
    }
}

// blue, vermillion, green, purple, ochre, violet, slate
const LIGHT_SERIES: [u32; 7] =
    [0x00_65_a4, 0xc2_4c_00, 0x00_7b_5a, 0xa4_3f_80, 0x84_61_00, 0x5d_4f_b8, 0x33_38_3f];
const DARK_SERIES: [u32; 7] =
    [0x5c_b7_ee, 0xff_93_4f, 0x35_c7_9b, 0xec_98_c8, 0xe6_b8_40, 0xaf_a6_ff, 0xdf_df_da];

// Neighbours alternate between dark and light, so that the seams show without
// colour too. No hue is one of a usual peer's: a band is a backend, not a peer.
const LIGHT_PARTS: [u32; 8] = [
    0x6b_3f_73, 0xcf_b1_da, 0x1f_7a_78, 0x9f_d6_d0, 0x8a_6a_00, 0xe6_d0_8a, 0x74_50_38, 0xd9_bb_9f,
];
const DARK_PARTS: [u32; 8] = [
    0xdc_bc_e8, 0x80_50_8a, 0x9f_de_d8, 0x2b_80_7c, 0xf0_d8_90, 0x94_76_1c, 0xe4_c4_a8, 0x8c_66_4a,
];

// One hue from paper to ink, so that it reads in grey as well. The first step has to be told
// from the paper, also by a printer.
const LIGHT_HEAT: [u32; 8] = [
    0xcf_e1_ed, 0xb3_d1_e5, 0x92_bc_d9, 0x6c_a4_cc, 0x45_89_bc, 0x22_6c_a4, 0x0e_4e_83, 0x05_2f_57,
];
const DARK_HEAT: [u32; 8] = [
    0x1e_35_48, 0x1f_47_63, 0x23_5a_80, 0x2b_6f_9f, 0x3b_88_ba, 0x5c_a4_d4, 0x93_c8_ec, 0xd2_ea_fb,
];

fn pick(index: u8, colours: &[u32]) -> u32 {
    colours[usize::from(index) % colours.len()]
}

fn hex(value: u32) -> Rgb {
    let [_, red, green, blue] = value.to_be_bytes();
    (red, green, blue)
}

/// The custom properties and classes of all paints as CSS: light by default,
/// dark where the reader prefers it, and light again on paper.
pub fn css() -> String {
    let properties = |colour: fn(Paint) -> Rgb| -> String {
        Paint::all()
            .into_iter()
            .map(|paint| {
                let (red, green, blue) = colour(paint);
                format!("--{}:#{red:02x}{green:02x}{blue:02x};", paint.name())
            })
            .collect()
    };
    let classes: String = Paint::all()
        .into_iter()
        .map(|paint| {
            let name = paint.name();
            format!(
                ".f-{name}{{fill:var(--{name})}}.s-{name}{{stroke:var(--{name})}}\
                 .c-{name}{{color:var(--{name})}}\n"
            )
        })
        .collect();
    format!(
        ":root{{color-scheme:light dark;{}}}\n\
         @media screen and (prefers-color-scheme:dark){{:root{{{}}}}}\n{classes}",
        properties(Paint::light),
        properties(Paint::dark),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, WCAG 2.2.
    fn luminance((red, green, blue): Rgb) -> f64 {
        let linear = |value: u8| {
            let v = f64::from(value) / 255.0;
            if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
    }

    fn contrast(one: Rgb, other: Rgb) -> f64 {
        let (a, b) = (luminance(one), luminance(other));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_colours_have_the_contrast_of_wcag_aa() {
        let texts = [Paint::Ink, Paint::Soft, Paint::Bad];
        for paint in texts.into_iter().chain((0..SERIES).map(Paint::Series)) {
            let light = contrast(paint.light(), Paint::Paper.light());
            let dark = contrast(paint.dark(), Paint::Paper.dark());
            assert!(light >= 4.5, "{paint:?} on light paper: {light:.2}");
            assert!(dark >= 4.5, "{paint:?} on dark paper: {dark:.2}");
        }
    }

    #[test]
    fn the_first_step_of_the_ramp_shows_on_paper() {
        for colour in [Paint::light, Paint::dark] {
            let contrast = contrast(colour(Paint::Heat(0)), colour(Paint::Paper));
            assert!(contrast >= 1.3, "{contrast:.2}");
        }
    }

    #[test]
    fn the_ramp_goes_one_way() {
        for step in 1..HEAT_STEPS {
            let (before, after) = (Paint::Heat(step - 1), Paint::Heat(step));
            assert!(luminance(before.light()) > luminance(after.light()));
            assert!(luminance(before.dark()) < luminance(after.dark()));
        }
    }

    /// Machado, Oliveira and Fernandes, *A Physiologically-based Model for
    /// Simulation of Color Vision Deficiency*, 2009, severity 1.
    const DEUTERANOPIA: [[f64; 3]; 3] = [
        [0.367_322, 0.860_646, -0.227_968],
        [0.280_085, 0.672_501, 0.047_413],
        [-0.011_820, 0.042_940, 0.968_881],
    ];
    const PROTANOPIA: [[f64; 3]; 3] = [
        [0.152_286, 1.052_583, -0.204_868],
        [0.114_503, 0.786_281, 0.099_216],
        [-0.003_882, -0.048_116, 1.051_998],
    ];

    #[test]
    fn the_usual_peers_stay_apart_for_the_colour_blind() {
        let seen = |matrix: &[[f64; 3]; 3], (red, green, blue): Rgb| {
            let rgb = [f64::from(red), f64::from(green), f64::from(blue)];
            matrix.map(|row| row.iter().zip(rgb).map(|(a, b)| a * b).sum::<f64>())
        };
        // l7, l4, client-side, direct.
        let usual = [0, 1, 2, 6].map(Paint::Series);
        for matrix in [DEUTERANOPIA, PROTANOPIA] {
            for colour in [Paint::light, Paint::dark] {
                for (index, one) in usual.iter().enumerate() {
                    for other in &usual[index + 1..] {
                        let (a, b) = (seen(&matrix, colour(*one)), seen(&matrix, colour(*other)));
                        let distance: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
                        assert!(distance.sqrt() > 30.0, "{one:?} {other:?} {}", distance.sqrt());
                    }
                }
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<String> =
            Paint::all().into_iter().map(Paint::name).collect();
        assert_eq!(names.len(), Paint::all().len());
    }
}
