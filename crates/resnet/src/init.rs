//! Where a model's first weights come from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, HubConfig, LoadOptions, LoadReport, Parameters, Result};

/// The file that holds a model's weights in a Hub repository.
const HUB_FILE: &str = "model.safetensors";

/// Where a model's first weights come from; written `random`, `hub:owner/name`, `hub:owner/name@revision`, or a path.
///
/// ```
/// let init: resnet::Init = "hub:timm/resnet50.a1_in1k".parse()?;
/// assert_eq!(init.to_string(), "hub:timm/resnet50.a1_in1k");
/// # Ok::<(), resnet::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Init {
    /// The seeded initial values that the model was built with.
    #[default]
    Random,
    /// A `.safetensors` file.
    File(PathBuf),
    /// `model.safetensors` of a model repository on the Hub.
    Hub {
        /// The repository, `owner/name`.
        repo: String,
        /// A branch, tag or commit; `main` if none was named.
        revision: String,
    },
}

impl Init {
    /// The weight file, downloaded if it must be; `None` for random weights.
    ///
    /// `progress` is told the bytes that have arrived and their total.
    ///
    /// # Errors
    /// [`Error::Hub`] if the Hub does not give the file.
    pub fn resolve(
        &self,
        hub: &HubConfig,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<PathBuf>> {
        match self {
            Self::Random => Ok(None),
            Self::File(path) => Ok(Some(path.clone())),
            Self::Hub { repo, revision } => hub.fetch(repo, revision, HUB_FILE, progress).map(Some),
        }
    }

    /// Sets `params` from the weight file; random weights stay as they are and give `None`.
    ///
    /// A file of a whole classifier fits an encoder with [`LoadOptions::encoder`]. ImageNet weights do not fit a CIFAR
    /// stem: that is an error, unless [`LoadOptions::keeping_stem`] leaves the stem convolution at its initial values.
    ///
    /// # Errors
    /// If the file cannot be had, read, or does not fit; `params` is unchanged then.
    pub fn load(
        &self,
        params: &Parameters,
        options: &LoadOptions,
        hub: &HubConfig,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<LoadReport>> {
        self.resolve(hub, progress)?
            .map(|path| params.load(&path, options))
            .transpose()
    }
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Hub { repo, revision } if revision == "main" => write!(f, "hub:{repo}"),
            Self::Hub { repo, revision } => write!(f, "hub:{repo}@{revision}"),
        }
    }
}

impl FromStr for Init {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let Some(name) = s.strip_prefix("hub:") else {
            return match s {
                "random" => Ok(Self::Random),
                "" => Err(Error::config(
                    "init",
                    "\"\"",
                    "expected random, hub:owner/name, or a path",
                )),
                path => Ok(Self::File(path.into())),
            };
        };
        let (repo, revision) = name.split_once('@').unwrap_or((name, "main"));
        let word = |w: &str, more: &str| {
            w.chars().any(|c| c != '.')
                && w.chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c) || more.contains(c))
        };
        let good = repo.split('/').count() == 2 && repo.split('/').all(|w| word(w, ""));
        if !good || !revision.split('/').all(|w| word(w, "+")) {
            let expected = "expected hub:owner/name or hub:owner/name@revision, like hub:timm/resnet50.a1_in1k";
            return Err(Error::config("init", format!("{s:?}"), expected));
        }
        Ok(Self::Hub {
            repo: repo.into(),
            revision: revision.into(),
        })
    }
}

impl TryFrom<String> for Init {
    type Error = Error;

    fn try_from(s: String) -> Result<Self> {
        s.parse()
    }
}

impl From<Init> for String {
    fn from(init: Init) -> Self {
        init.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip() {
        for text in [
            "random",
            "hub:timm/resnet50.a1_in1k",
            "hub:a/b@v1.0",
            "dir/w.safetensors",
        ] {
            assert_eq!(text.parse::<Init>().unwrap().to_string(), text);
        }
        let hub = Init::Hub {
            repo: "a/b".into(),
            revision: "main".into(),
        };
        assert_eq!("hub:a/b".parse::<Init>().unwrap(), hub);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "hub:",
            "hub:resnet50",
            "hub:a/b/c",
            "hub:../b",
            "hub:a/b@",
            "hub:a/b@x/../y",
            "hub:a/b c",
        ] {
            let error = text.parse::<Init>().unwrap_err().to_string();
            assert!(
                error.starts_with("init = ") && error.contains("hub:owner/name"),
                "{text}: {error}"
            );
        }
    }
}
