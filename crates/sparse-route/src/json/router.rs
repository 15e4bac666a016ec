//! Routers as JSON.

use super::{require_object, unreadable};
use crate::drift::Profile;
use crate::features::check_names;
use crate::logistic::Logistic;
use crate::router::{PROBABILITY, Router, Training};
use serde::{Deserialize, Serialize};
use sparse_core::{Error, ErrorKind, Result};

/// What the field `format` says.
const FORMAT: &str = "sparse-router";

/// Version of the layout that this program writes, and the only one so far.
const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouterFile {
    format: String,
    version: u64,
    features: Vec<String>,
    model: Logistic,
    training: Training,
    profiles: Vec<Profile>,
}

/// The fields that all versions have.
#[derive(Deserialize)]
struct Head {
    format: Option<String>,
    version: Option<u64>,
}

impl Router {
    /// Returns the router as JSON, which [`from_json`](Self::from_json) reads.
    ///
    /// # Errors
    /// `Internal` if a number is not finite, which training excludes.
    ///
    /// # Examples
    ///
    /// ```
    /// use sparse_route::{Labels, Router};
    ///
    /// let mut labels = Labels::with_names(["size"])?;
    /// for i in 0..20 {
    ///     labels.push_features("s", vec![f64::from(i)], (i % 3 > 0, true))?;
    /// }
    /// let router = Router::train(&labels, 1.0)?;
    /// let again = Router::from_json(&router.to_json()?)?;
    /// assert!((again.probability(&[7.0])? - router.probability(&[7.0])?).abs() < 1e-12);
    /// # Ok::<(), sparse_core::Error>(())
    /// ```
    pub fn to_json(&self) -> Result<String> {
        let Router { features, model, training, profiles } = self.clone();
        let file = RouterFile {
            format: FORMAT.into(),
            version: VERSION,
            features,
            model,
            training,
            profiles,
        };
        let text = serde_json::to_string_pretty(&file).map_err(|e| {
            Error::new(ErrorKind::Internal, "the router cannot be written").with_source(e)
        })?;
        Ok(text + "\n")
    }

    /// Reads a router that [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// `InvalidInput` when the text is not a router, or its parts contradict each other;
    /// `UnsupportedVersion` when a newer program wrote it.
    pub fn from_json(text: &str) -> Result<Router> {
        require_object(text, "a router")?;
        let head: Head = serde_json::from_str(text).map_err(|e| unreadable(&e, ""))?;
        if head.format.as_deref() != Some(FORMAT) {
            return Err(invalid(
                "this is not a router: give a file that `sparse route train` wrote",
            ));
        }
        match head.version {
            Some(VERSION) => {}
            Some(newer) if newer > VERSION => {
                return Err(Error::new(
                    ErrorKind::UnsupportedVersion,
                    format!("a router of version {newer}, but this program reads {VERSION}"),
                ));
            }
            _ => return Err(invalid("the router has no version")),
        }
        let file: RouterFile = serde_json::from_str(text).map_err(|e| unreadable(&e, ""))?;
        let RouterFile { features, model, training, profiles, .. } = file;
        check_names(&features).map_err(|e| invalid(e.message().to_owned()))?;
        check_model(&model, features.len())?;
        check_training(&training)?;
        let names = features.iter().map(String::as_str).chain([PROBABILITY]);
        if !names.eq(profiles.iter().map(|p| &*p.name)) {
            return Err(invalid("profiles have to be those of the features, then of probability"));
        }
        for profile in &profiles {
            let named = |e| invalid(format!("the profile of {:?}: {e}", profile.name));
            profile.check().map_err(named)?;
        }
        Ok(Router { features, model, training, profiles })
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn check_model(model: &Logistic, width: usize) -> Result<()> {
    let lists = [&model.means, &model.deviations, &model.weights];
    if lists.iter().any(|list| list.len() != width) {
        return Err(invalid(format!(
            "the model has to have {width} means, deviations and weights"
        )));
    }
    let numbers = lists.iter().flat_map(|list| list.iter()).chain([&model.intercept]);
    let scales = model.deviations.iter().all(|&d| d > 0.0);
    if !scales || !numbers.into_iter().all(|x| x.is_finite()) {
        return Err(invalid("the model has a number that is not finite, or a deviation of 0"));
    }
    Ok(())
}

fn check_training(training: &Training) -> Result<()> {
    let shares = [training.weak_right, training.strong_right, training.weak_suffices];
    if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
        return Err(invalid("a share of the training is not 0 to 1"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::labels;

    fn text() -> String {
        Router::train(&labels(300, 3, 1), 1.0).unwrap().to_json().unwrap()
    }

    #[test]
    fn there_and_back() {
        let text = text();
        let router = Router::from_json(&text).unwrap();
        let original = Router::train(&labels(300, 3, 1), 1.0).unwrap();
        assert_eq!(router.training().subjects, original.training().subjects);
        for n in [0, 10, 100, 5000] {
            let prompt = "x".repeat(n);
            let [a, b] = [&router, &original].map(|r| r.judge_prompt(&prompt).unwrap());
            assert!((a.probability - b.probability).abs() < 1e-12);
            assert_eq!((a.class, a.basis), (b.class, b.basis));
        }
    }

    #[test]
    fn damage_is_an_error() {
        let good = text();
        let error = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}: {good}");
            let e = Router::from_json(&good.replacen(from, to, 1)).unwrap_err();
            (e.kind(), e.message().to_owned())
        };
        let invalid = |from, to, says: &str| {
            let (kind, message) = error(from, to);
            assert!(kind == ErrorKind::InvalidInput && message.contains(says), "{message}");
        };
        invalid("sparse-router", "sparse-delta", "not a router");
        invalid("{", "[", "not JSON");
        invalid("\"version\": 1", "\"version\": 0", "no version");
        invalid("\"version\": 1", "\"version\": 1, \"more\": 2", "unknown field `more`");
        invalid("\"rows\": 300", "\"rows\": -300", "line");
        invalid("\"log_characters\"", "\"\"", "has no name");
        invalid("\"log_characters\"", "\"other\"", "profiles have to be");
        invalid("\"weights\": [", "\"weights\": [1.0, ", "1 means");
        invalid("\"deviations\": [", "\"deviations\": [0.0], \"x\": [", "unknown field `x`");
        invalid("\"weak_right\": 0", "\"weak_right\": 7", "share");
        assert_eq!(error("\"version\": 1", "\"version\": 2").0, ErrorKind::UnsupportedVersion);
        for text in ["[]", "[\"sparse-router\", 1]", "\"a\""] {
            let message = Router::from_json(text).unwrap_err().message().to_owned();
            assert!(message.starts_with("this is not a router, which is an object"), "{message}");
        }
        for cut in [0, 10, good.len() / 2, good.len() - 3] {
            assert!(Router::from_json(&good[..cut]).is_err(), "{cut}");
        }
    }
}
