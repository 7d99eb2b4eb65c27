//! The functions between layers, number by number, in single precision, as torch computes them.

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    Relu,
    Elu,
    LeakyRelu,
    Gelu,
    Selu,
    Silu,
    Tanh,
    Sigmoid,
}

impl Activation {
    /// Applies it to each number.
    #[inline(always)]
    pub(super) fn apply(self, numbers: &mut [f32]) {
        match self {
            // NaN stays NaN: the comparisons are this way round.
            Self::Relu => each(numbers, |x| if x < 0.0 { 0.0 } else { x }),
            Self::LeakyRelu => each(numbers, |x| if x < 0.0 { x * 0.01 } else { x }),
            Self::Elu => each(numbers, |x| if x < 0.0 { x.exp_m1() } else { x }),
            Self::Selu => each(numbers, |x| {
                const ALPHA: f32 = 1.673_263_2;
                const SCALE: f32 = 1.050_701;
                if x < 0.0 { x.exp_m1() * (ALPHA * SCALE) } else { x * SCALE }
            }),
            Self::Gelu => each(numbers, |x| (x * 0.5) * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))),
            Self::Silu => each(numbers, |x| x / (1.0 + (-x).exp())),
            Self::Tanh => each(numbers, f32::tanh),
            Self::Sigmoid => each(numbers, sigmoid),
        }
    }
}

#[inline(always)]
fn each(numbers: &mut [f32], function: impl Fn(f32) -> f32) {
    for number in numbers {
        *number = function(*number);
    }
}

/// The logistic function.
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The error function, within 2e-10 before it is rounded.
///
/// erfc(x) exp(x^2) is smooth in t = 1 / (1 + x/2): the polynomial interpolates it at Chebyshev's points for x from 0 to 4.
/// Beyond, the nearest single-precision number is 1.
fn erf(x: f32) -> f32 {
    const COEFFICIENTS: [f64; 11] = [
        6.607_544_119_932_837e-7,
        -7.546_641_918_245_52e-7,
        -9.857_082_496_012_021e-6,
        3.486_370_945_214_969e-5,
        1.003_652_818_686_811_5e-4,
        -8.613_909_514_178_66e-4,
        -1.602_017_985_444_792_5e-3,
        2.250_953_195_074_346_6e-2,
        1.424_270_017_155_608_3e-1,
        4.098_180_212_173_3e-1,
        4.275_835_761_558_071_7e-1,
    ];
    let size = f64::from(x.abs());
    if size >= 4.0 {
        return 1.0_f32.copysign(x);
    }
    // From [1/3, 1] to [-1, 1].
    let u = 3.0 / (1.0 + 0.5 * size) - 2.0;
    let scaled = COEFFICIENTS.iter().fold(0.0, |sum, coefficient| sum * u + coefficient);
    ((1.0 - scaled * (-size * size).exp()) as f32).copysign(x)
}
