//! Rotary positions.
//!
//! Frequencies are computed in f64 as the library that defines the settings computes them:
//! `modeling_rope_utils.py` of transformers 5.

use crate::error::unsupported;
use crate::json::Fields;
use sparse_core::Result;
use std::f64::consts::PI;

/// Rotary positions of a model.
///
/// # Examples
///
/// See [`RopeScaling`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// How the frequencies are stretched for longer texts.
    pub scaling: RopeScaling,
}

/// How frequencies are stretched for texts longer than those of training.
///
/// # Examples
///
/// ```
/// use sparse_eval::{ModelConfig, RopeScaling};
///
/// let json = br#"{"model_type": "llama", "vocab_size": 512, "hidden_size": 64,
///     "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 160,
///     "rope_scaling": {"type": "linear", "factor": 2.0}}"#;
/// let rope = ModelConfig::parse(json)?.rope.unwrap();
/// assert_eq!(rope.scaling, RopeScaling::Linear { factor: 2.0 });
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All by one factor.
    Linear {
        /// Divides every frequency.
        factor: f64,
    },
    /// Only texts longer than `original`, by their length, which this crate refuses.
    Dynamic {
        /// Number of positions up to which nothing is stretched.
        original: usize,
    },
    /// Low frequencies, as Llama 3.1 does.
    Llama3 {
        /// Divides the lowest frequencies.
        factor: f64,
        /// Wavelengths above `original / low` are stretched wholly.
        low: f64,
        /// Wavelengths below `original / high` are not.
        high: f64,
        /// Number of positions of training.
        original: f64,
    },
    /// Low frequencies, and scores of attention with them (YaRN).
    Yarn {
        /// Divides the lowest frequencies.
        factor: f64,
        /// Number of positions of training.
        original: f64,
        /// Turns within `original` above which a frequency is kept.
        beta_fast: f64,
        /// Turns within `original` below which a frequency is divided by `factor`.
        beta_slow: f64,
        /// Whether the ends of the ramp are rounded to whole dimensions.
        truncate: bool,
        /// Multiplies queries and keys each.
        attention: f64,
    },
    /// Each frequency by its own factor, as GGUF files have it.
    Divided {
        /// Divides the frequencies.
        divisors: Vec<f64>,
    },
}

impl Rope {
    /// Parses the settings, which older files have in `rope_theta` and `rope_scaling`, and newer
    /// ones in `rope_parameters`.
    pub(crate) fn parse(fields: &Fields, max_positions: usize) -> Result<Rope> {
        let nested = match fields.object("rope_parameters")? {
            Some(parameters) => Some(parameters),
            None => fields.object("rope_scaling")?,
        };
        let number = |name: &str| match &nested {
            Some(n) if n.number(name)?.is_some() => n.number(name),
            _ => fields.number(name),
        };
        if let Some(part) = number("partial_rotary_factor")?
            && part != 1.0
        {
            return Err(unsupported(format!(
                "rotary positions of a part of each head (partial_rotary_factor {part}) are not \
                 supported"
            )));
        }
        let theta = number("rope_theta")?.unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 0.0) {
            return Err(unsupported(format!("rope_theta must be positive, and is {theta}")));
        }
        let scaling = match &nested {
            None => RopeScaling::None,
            Some(scaling) => RopeScaling::parse(scaling, fields, max_positions)?,
        };
        Ok(Rope { theta, scaling })
    }

    /// Returns the length beyond which the frequencies change with the text, if they do.
    pub(crate) fn longest(&self) -> Option<usize> {
        match self.scaling {
            RopeScaling::Dynamic { original } => Some(original),
            _ => None,
        }
    }

    /// Returns the length up to which a model of `positions` was made to work.
    ///
    /// Configurations differ in whether `max_position_embeddings` is that before or after scaling;
    /// the longer one counts.
    pub(crate) fn stretched(&self, positions: usize) -> usize {
        let scaled = match self.scaling {
            RopeScaling::Linear { factor } => positions as f64 * factor,
            RopeScaling::Llama3 { factor, original, .. }
            | RopeScaling::Yarn { factor, original, .. } => original * factor,
            RopeScaling::Divided { .. } => return usize::MAX,
            RopeScaling::None | RopeScaling::Dynamic { .. } => 0.0,
        };
        positions.max(scaled as usize)
    }

    /// Returns the `dim / 2` frequencies, in radians per position.
    pub(crate) fn frequencies(&self, dim: usize) -> Vec<f64> {
        let theta = self.theta;
        let plain = move |i: usize| theta.powf(-((2 * i) as f64) / dim as f64);
        let half = 0..dim / 2;
        match self.scaling {
            RopeScaling::Divided { ref divisors } => {
                half.zip(divisors).map(|(i, by)| plain(i) / by).collect()
            }
            RopeScaling::None | RopeScaling::Dynamic { .. } => half.map(plain).collect(),
            RopeScaling::Linear { factor } => half.map(|i| plain(i) / factor).collect(),
            RopeScaling::Llama3 { factor, low, high, original } => {
                half.map(|i| llama3(plain(i), factor, low, high, original)).collect()
            }
            RopeScaling::Yarn { factor, original, beta_fast, beta_slow, truncate, .. } => {
                let dim_of = |turns: f64| {
                    dim as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln())
                };
                let (mut from, mut to) = (dim_of(beta_fast), dim_of(beta_slow));
                if truncate {
                    (from, to) = (from.floor(), to.ceil());
                }
                let (from, mut to) = (from.max(0.0), to.min(dim as f64 - 1.0));
                if from == to {
                    to += 0.001;
                }
                half.map(|i| {
                    let stretched = ((i as f64 - from) / (to - from)).clamp(0.0, 1.0);
                    plain(i) * (1.0 - stretched) + plain(i) / factor * stretched
                })
                .collect()
            }
        }
    }

    /// Returns the factor of queries and keys.
    pub(crate) fn attention(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention, .. } => attention,
            _ => 1.0,
        }
    }
}

fn llama3(frequency: f64, factor: f64, low: f64, high: f64, original: f64) -> f64 {
    let wavelength = 2.0 * PI / frequency;
    if wavelength < original / high {
        frequency
    } else if wavelength > original / low {
        frequency / factor
    } else {
        let kept = (original / wavelength - low) / (high - low);
        (1.0 - kept) * frequency / factor + kept * frequency
    }
}

impl RopeScaling {
    fn parse(scaling: &Fields, config: &Fields, max_positions: usize) -> Result<RopeScaling> {
        let kind = match scaling.text_or("rope_type", "")? {
            "" => scaling.text_or("type", "default")?,
            kind => kind,
        };
        let positive = |name: &str| -> Result<f64> {
            let value = scaling.needed_number(name)?;
            if value.is_finite() && value > 0.0 {
                return Ok(value);
            }
            Err(unsupported(format!("{name} must be positive, and is {value}")))
        };
        let original = || -> Result<f64> {
            const NAME: &str = "original_max_position_embeddings";
            let stated = match scaling.count(NAME)? {
                Some(n) => Some(n),
                None => config.count(NAME)?,
            };
            Ok(stated.unwrap_or(max_positions).max(1) as f64)
        };
        Ok(match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: positive("factor")? },
            "dynamic" => RopeScaling::Dynamic { original: max_positions },
            "llama3" => {
                let (low, high) = (positive("low_freq_factor")?, positive("high_freq_factor")?);
                if low >= high {
                    return Err(unsupported(format!(
                        "low_freq_factor {low} must be less than high_freq_factor {high}"
                    )));
                }
                RopeScaling::Llama3 {
                    factor: positive("factor")?,
                    low,
                    high,
                    original: original()?,
                }
            }
            "yarn" => {
                let factor = positive("factor")?;
                RopeScaling::Yarn {
                    factor,
                    original: original()?,
                    beta_fast: scaling.number("beta_fast")?.unwrap_or(32.0),
                    beta_slow: scaling.number("beta_slow")?.unwrap_or(1.0),
                    truncate: scaling.flag("truncate")?.unwrap_or(true),
                    attention: yarn_attention(scaling, factor)?,
                }
            }
            _ => {
                return Err(unsupported(format!(
                    "rotary positions of the kind {kind:?} are not supported: default, linear, \
                     llama3, yarn and dynamic are"
                )));
            }
        })
    }
}

fn yarn_attention(scaling: &Fields, factor: f64) -> Result<f64> {
    if let Some(stated) = scaling.number("attention_factor")? {
        return Ok(stated);
    }
    let grown = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
    Ok(match (scaling.number("mscale")?, scaling.number("mscale_all_dim")?) {
        (Some(scale), Some(all)) if scale != 0.0 && all != 0.0 => grown(scale) / grown(all),
        _ => grown(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(json: &str) -> Result<Rope> {
        Rope::parse(&Fields::parse(json.as_bytes()).unwrap(), 4096)
    }

    #[test]
    fn both_forms_of_the_file() {
        let old = rope(r#"{"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}}"#);
        let new =
            rope(r#"{"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 4}}"#);
        assert_eq!(old.unwrap(), new.unwrap());
        assert_eq!(rope("{}").unwrap(), Rope { theta: 1e4, scaling: RopeScaling::None });
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for (json, word) in [
            (r#"{"rope_scaling": {"rope_type": "longrope"}}"#, "longrope"),
            (r#"{"rope_scaling": {"rope_type": "linear"}}"#, "factor"),
            (r#"{"rope_scaling": {"rope_type": "linear", "factor": 0}}"#, "positive"),
            (r#"{"rope_parameters": {"partial_rotary_factor": 0.5}}"#, "part of each head"),
            (r#"{"partial_rotary_factor": 0.5}"#, "part of each head"),
            (r#"{"rope_theta": -1}"#, "rope_theta"),
        ] {
            assert!(rope(json).unwrap_err().to_string().contains(word), "{json}");
        }
    }

    #[test]
    fn frequencies_of_each_kind() {
        let plain = rope("{}").unwrap().frequencies(8);
        assert_eq!(plain.len(), 4);
        assert!((plain[1] - 0.1).abs() < 1e-12, "{plain:?}");
        let linear = rope(r#"{"rope_scaling": {"type": "linear", "factor": 2}}"#).unwrap();
        assert!((linear.frequencies(8)[1] - 0.05).abs() < 1e-12);
        let dynamic = rope(r#"{"rope_scaling": {"type": "dynamic", "factor": 2}}"#).unwrap();
        assert_eq!((dynamic.frequencies(8), dynamic.longest()), (plain.clone(), Some(4096)));

        // 8192 positions: wavelengths of up to 2048 stay, those above 8192 are divided by 8.
        let llama3 = rope(
            r#"{"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192}}"#,
        );
        let (llama3, plain) = (llama3.unwrap().frequencies(128), rope(r#"{"rope_theta": 5e5}"#));
        let plain = plain.unwrap().frequencies(128);
        let wavelength = |i: usize| 2.0 * PI / plain[i];
        for i in 0..64 {
            let ratio = plain[i] / llama3[i];
            match wavelength(i) {
                w if w < 2048.0 => assert_eq!(ratio, 1.0),
                w if w > 8192.0 => assert!((ratio - 8.0).abs() < 1e-12),
                _ => assert!(ratio > 1.0 && ratio < 8.0),
            }
        }
    }

    #[test]
    fn yarn_between_its_ends() {
        let json = r#"{"rope_theta": 1e6, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
            "original_max_position_embeddings": 32768}}"#;
        let yarn = rope(json).unwrap();
        assert!((yarn.attention() - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-15);
        let plain = rope(r#"{"rope_theta": 1e6}"#).unwrap().frequencies(128);
        let ratios: Vec<f64> =
            yarn.frequencies(128).iter().zip(&plain).map(|(y, p)| p / y).collect();
        assert_eq!(ratios[0], 1.0);
        assert!((ratios[63] - 4.0).abs() < 1e-12);
        assert!(ratios.is_sorted());
        let scales = json.replace("4.0,", r#"4.0, "mscale": 1.0, "mscale_all_dim": 1.0,"#);
        assert_eq!(rope(&scales).unwrap().attention(), 1.0);
    }
}
