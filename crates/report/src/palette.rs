//! Colours, named by what they mean.
//!
//! A drawing says [`Paint::Ink`] or [`Paint::Series`], never a colour. In the
//! page each becomes a CSS class over a custom property, which follows light
//! and dark; in a PNG it becomes the light colour. The first of each layer's
//! series has a hue of Okabe and Ito (*Color Universal Design*, 2008), darkened
//! for light paper and lightened for dark until text in it has the contrast of
//! WCAG AA. The others of a layer keep to its side of the colour wheel, and are
//! those that are furthest from each other in Oklab, as seen with full vision and
//! with the two common kinds of colour blindness, on light and on dark paper.

use analysis::model::{MARKS, Mark};

/// How many different series colours there are.
const SERIES: u8 = MARKS;
/// Steps of the heat map's ramp.
pub(crate) const HEAT_STEPS: u8 = 8;
/// Colours that tell the parts of a stack apart.
pub(crate) const PARTS: u8 = 8;

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
    /// What held.
    Good,
    /// A peer; below `SERIES`.
    Series(u8),
    /// A part of a stack, a backend say, whose neighbours differ; below `PARTS`.
    Part(u8),
    /// A step of a ramp from nearly nothing to a lot; below `HEAT_STEPS`.
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
        use Paint::{Axis, Bad, Good, Grid, Ink, Paper, Soft};
        [Paper, Ink, Soft, Axis, Grid, Bad, Good]
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
            Self::Good => "good".to_owned(),
            Self::Series(index) => format!("series-{index}"),
            Self::Part(index) => format!("part-{index}"),
            Self::Heat(step) => format!("heat-{step}"),
        }
    }

    /// On light paper, and in every PNG.
    pub fn light(self) -> Rgb {
        hex(self.colours().0)
    }

    /// On dark paper.
    pub(crate) fn dark(self) -> Rgb {
        hex(self.colours().1)
    }

    /// The colours on light paper and on dark.
    fn colours(self) -> (u32, u32) {
        match self {
            Self::Paper => (0xfd_fd_fb, 0x14_16_1a),
            Self::Ink => (0x1a_1d_21, 0xe9_e9_e5),
            Self::Soft => (0x59_5f_68, 0xa6_ab_b3),
            Self::Axis => (0x94_98_9c, 0x6c_72_7b),
            Self::Grid => (0xe5_e5_e0, 0x2a_2e_35),
            Self::Bad => (0xc1_12_1f, 0xff_7b_7b),
            Self::Good => (0x00_7b_5a, 0x35_c7_9b),
            Self::Series(index) => (pick(index, &LIGHT_SERIES), pick(index, &DARK_SERIES)),
            Self::Part(index) => (pick(index, &LIGHT_PARTS), pick(index, &DARK_PARTS)),
            Self::Heat(step) => (pick(step, &LIGHT_HEAT), pick(step, &DARK_HEAT)),
        }
    }
}

// A row a layer: blues and violets for L7, from orange to brown for L4, greens for clients,
// purples for what the lab did not start, and greys without a balancer.
const LIGHT_SERIES: [u32; SERIES as usize] = [
    0x00_65_a4, 0x51_03_78, 0x4e_7a_7f, 0x17_2d_5f, 0x3a_32_9f, 0x0f_74_91, 0x03_49_4f, 0x2c_58_bf,
    0x2d_45_7a, 0x39_5c_78, 0x06_28_8e, 0x34_56_5c, 0x02_45_66, 0x41_68_6e, // l7
    0xc2_4c_00, 0x85_6e_46, 0x88_4f_3b, 0x3c_2e_01, 0x5c_34_26, 0x72_41_30, 0x61_40_04, 0x9d_40_04,
    0x00_7b_5a, 0x54_81_06, 0x5f_67_03, 0x29_48_34, 0x2f_34_00, 0x13_4d_01, 0x4f_53_33, 0x01_3a_2f,
    0xa4_3f_80, 0x6c_02_28, 0x62_01_56, 0x6b_31_4f, 0x33_38_3f, 0x6a_6e_74,
];
const DARK_SERIES: [u32; SERIES as usize] = [
    0x5c_b7_ee, 0xa5_6e_cf, 0x9b_e5_ec, 0x67_80_b2, 0x8d_93_fb, 0x77_da_fe, 0x00_a9_b5, 0xa1_c0_fd,
    0x85_9f_d4, 0x91_ba_dd, 0x5b_86_e5, 0x74_b7_c2, 0x04_9f_e6, 0x83_ce_da, // l7
    0xff_93_4f, 0xed_d2_a6, 0xe4_b3_a2, 0x9c_7c_03, 0xc1_84_6e, 0xd8_99_83, 0xd4_90_0d, 0xfd_a8_81,
    0x35_c7_9b, 0xb5_ea_7c, 0xbd_cb_4c, 0x6b_a4_7f, 0x7e_89_07, 0x5e_ab_4d, 0xa8_b1_74, 0x11_95_7c,
    0xec_98_c8, 0xd4_5e_76, 0xc0_63_ae, 0xc7_8a_a7, 0xdf_df_da, 0x9a_a0_a8,
];

// Neighbours alternate between dark and light, so that the seams show without
// colour too. No hue is one of a usual peer's: a band is a backend, not a peer.
const LIGHT_PARTS: [u32; PARTS as usize] = [
    0x6b_3f_73, 0xcf_b1_da, 0x1f_7a_78, 0x9f_d6_d0, 0x8a_6a_00, 0xe6_d0_8a, 0x74_50_38, 0xd9_bb_9f,
];
const DARK_PARTS: [u32; PARTS as usize] = [
    0xdc_bc_e8, 0x80_50_8a, 0x9f_de_d8, 0x2b_80_7c, 0xf0_d8_90, 0x94_76_1c, 0xe4_c4_a8, 0x8c_66_4a,
];

// One hue from paper to ink, so that it reads in grey as well. The first step has to be told
// from the paper, also by a printer.
const LIGHT_HEAT: [u32; HEAT_STEPS as usize] = [
    0xcf_e1_ed, 0xb3_d1_e5, 0x92_bc_d9, 0x6c_a4_cc, 0x45_89_bc, 0x22_6c_a4, 0x0e_4e_83, 0x05_2f_57,
];
const DARK_HEAT: [u32; HEAT_STEPS as usize] = [
    0x1e_35_48, 0x1f_47_63, 0x23_5a_80, 0x2b_6f_9f, 0x3b_88_ba, 0x5c_a4_d4, 0x93_c8_ec, 0xd2_ea_fb,
];

fn pick(index: u8, colours: &[u32]) -> u32 {
    colours[usize::from(index) % colours.len()]
}

fn hex(value: u32) -> Rgb {
    let [_, red, green, blue] = value.to_be_bytes();
    (red, green, blue)
}

/// The custom properties of all paints, and the classes of those that a page uses, as CSS:
/// light by default, dark where the reader prefers it, and light again on paper.
pub(crate) fn css(page: &str) -> String {
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
        .map(Paint::name)
        .filter(|name| ["f", "s", "c"].iter().any(|kind| page.contains(&format!("{kind}-{name}"))))
        .map(|name| {
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
    use analysis::model::marks_of;
    use measure::record::Layer;

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
        let texts = [Paint::Ink, Paint::Soft, Paint::Bad, Paint::Good];
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
        let layers = [Layer::L7, Layer::L4, Layer::Client, Layer::None];
        let usual = layers.map(|layer| Paint::Series(marks_of(layer).start));
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
    fn a_layer_has_its_hue() {
        for colour in [Paint::light, Paint::dark] {
            let all = |layer| marks_of(layer).map(move |mark| colour(Paint::Series(mark)));
            assert!(all(Layer::L7).all(|(red, green, blue)| blue > red && blue > green));
            assert!(all(Layer::L4).all(|(red, green, blue)| red > green && green > blue));
            assert!(all(Layer::Client).all(|(red, green, blue)| green > red && green > blue));
            assert!(all(Layer::External).all(|(red, green, blue)| red > blue && blue > green));
        }
    }

    /// Björn Ottosson, *A perceptual color space for image processing*, 2020.
    fn oklab((red, green, blue): Rgb, seen_as: Option<&[[f64; 3]; 3]>) -> [f64; 3] {
        let linear = [red, green, blue].map(|value| (f64::from(value) / 255.0).powf(2.2));
        let dot = |row: &[f64; 3], of: &[f64; 3]| row.iter().zip(of).map(|(a, b)| a * b).sum();
        let seen = seen_as.map_or(linear, |matrix| {
            [0, 1, 2].map(|row| dot(&matrix[row], &linear)).map(|value: f64| value.max(0.0))
        });
        let cones = [
            [0.412_221, 0.536_333, 0.051_446],
            [0.211_903, 0.680_700, 0.107_397],
            [0.088_302, 0.281_719, 0.629_979],
        ];
        let cones = cones.map(|row| dot(&row, &seen)).map(f64::cbrt);
        [
            [0.210_454, 0.793_618, -0.004_072],
            [1.977_998, -2.428_592, 0.450_594],
            [0.025_904, 0.782_772, -0.808_676],
        ]
        .map(|row| dot(&row, &cones))
    }

    /// A difference of 0.02 can just be seen.
    #[test]
    fn the_shades_of_a_layer_can_be_told_apart() {
        for layer in [Layer::L7, Layer::L4, Layer::Client, Layer::External, Layer::None] {
            for colour in [Paint::light, Paint::dark] {
                let shades: Vec<Rgb> =
                    marks_of(layer).map(|mark| colour(Paint::Series(mark))).collect();
                for (index, one) in shades.iter().enumerate() {
                    for (before, other) in shades[..index].iter().enumerate() {
                        for seen_as in [None, Some(&DEUTERANOPIA), Some(&PROTANOPIA)] {
                            let (a, b) = (oklab(*one, seen_as), oklab(*other, seen_as));
                            let apart: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
                            let apart = apart.sqrt();
                            assert!(apart > 0.03, "{layer:?} {index} {before}: {apart:.3}");
                        }
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
