//! What to look for and where: everything `open` reads, so that tests and libraries need no environment variable.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::synthetic::SyntheticOptions;
use crate::dataset::DatasetName;

/// What to look for and where.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Which data set.
    pub dataset: DatasetName,
    /// The user's own copy (`--data-dir`): a folder in one of the layouts [`open`](crate::open) knows, or an official archive.
    pub data_dir: Option<PathBuf>,
    /// Stands in for `data_dir` where CIFAR-10 is wanted (`CIFAR10_DIR`).
    pub cifar10_dir: Option<PathBuf>,
    /// Stands in for `data_dir` where CIFAR-100 is wanted (`CIFAR100_DIR`).
    pub cifar100_dir: Option<PathBuf>,
    /// Bring the images of an image folder to this many pixels a side: the largest centred square, resized with antialiasing.
    /// `None` keeps images that all have one size, and brings others to [`Self::DEFAULT_IMAGE_SIZE`].
    pub image_size: Option<usize>,
    /// Ask no network (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// The Hub and its cache.
    pub hub: Hub,
    /// The files to take from the Hub; `None` is [`HubPin::of`] the data set.
    pub pin: Option<HubPin>,
    /// The official archive; `None` is [`Archive::of`] the data set.
    pub archive: Option<Archive>,
    /// The embedded set.
    pub synthetic: SyntheticOptions,
}

impl Default for SourceOptions {
    /// `auto`, no data folder, the public Hub with its cache below the home folder; reads no environment variable but `HOME`.
    fn default() -> Self {
        Self {
            dataset: DatasetName::Auto,
            data_dir: None,
            cifar10_dir: None,
            cifar100_dir: None,
            image_size: None,
            offline: false,
            hub: Hub::default(),
            pin: None,
            archive: None,
            synthetic: SyntheticOptions::default(),
        }
    }
}

impl SourceOptions {
    /// Pixels a side that photographs of several sizes are brought to where nothing else is said: small enough to train on a CPU,
    /// large enough to see what they show.
    pub const DEFAULT_IMAGE_SIZE: usize = 64;

    /// The defaults, changed by `CIFAR10_DIR`, `CIFAR100_DIR`, `HF_HOME` (else `XDG_CACHE_HOME`, followed by `huggingface`),
    /// `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`, and `CIFAR10_ARCHIVE_URL` / `CIFAR100_ARCHIVE_URL`
    /// (another address for the same pinned archive).
    pub fn from_env(dataset: DatasetName) -> Self {
        Self::from_lookup(dataset, |name| env::var(name).ok())
    }

    fn from_lookup(dataset: DatasetName, variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| {
            variable(name)
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let mut options = Self {
            dataset,
            ..Self::default()
        };
        options.cifar10_dir = get("CIFAR10_DIR").map(PathBuf::from);
        options.cifar100_dir = get("CIFAR100_DIR").map(PathBuf::from);
        if let Some(home) = get("HF_HOME") {
            options.hub.home = home.into();
        } else if let Some(caches) = get("XDG_CACHE_HOME") {
            options.hub.home = Path::new(&caches).join("huggingface");
        }
        options.hub.cache = get("HF_HUB_CACHE").map(PathBuf::from);
        if let Some(endpoint) = get("HF_ENDPOINT") {
            options.hub.endpoint = endpoint.trim_end_matches('/').to_owned();
        }
        options.hub.token = get("HF_TOKEN");
        options.offline = get("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())
        });
        let variable = match dataset {
            DatasetName::Cifar100 => "CIFAR100_ARCHIVE_URL",
            _ => "CIFAR10_ARCHIVE_URL",
        };
        options.archive = get(variable).map(|url| Archive {
            url,
            ..Archive::of(dataset)
        });
        options
    }

    /// The folder the user named for this data set, if any.
    pub fn data_folder(&self) -> Option<&Path> {
        let stand_in = match self.dataset {
            DatasetName::Auto | DatasetName::Cifar10 => &self.cifar10_dir,
            DatasetName::Cifar100 => &self.cifar100_dir,
            DatasetName::Synthetic | DatasetName::Folder => &None,
        };
        self.data_dir.as_deref().or(stand_in.as_deref())
    }

    /// What names that folder.
    pub(crate) fn named_by(&self) -> &'static str {
        match (&self.data_dir, self.dataset) {
            (Some(_), _) => "--data-dir",
            (None, DatasetName::Cifar100) => "CIFAR100_DIR",
            (None, _) => "CIFAR10_DIR",
        }
    }

    pub(crate) fn hub_pin(&self) -> HubPin {
        self.pin.clone().unwrap_or_else(|| HubPin::of(self.dataset))
    }

    pub(crate) fn official_archive(&self) -> Archive {
        self.archive
            .clone()
            .unwrap_or_else(|| Archive::of(self.dataset))
    }

    /// CIFAR-100 where that is asked for, else CIFAR-10.
    pub(crate) fn published(&self) -> DatasetName {
        match self.dataset {
            DatasetName::Cifar100 => DatasetName::Cifar100,
            _ => DatasetName::Cifar10,
        }
    }
}

/// The Hub, its cache, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Address without a trailing slash (`HF_ENDPOINT`).
    pub endpoint: String,
    /// The Hub's folder (`HF_HOME`): holds `hub/`, the cache, `token`, and `assets/cifar-data/` for official archives.
    pub home: PathBuf,
    /// The cache, if not `home/hub` (`HF_HUB_CACHE`).
    pub cache: Option<PathBuf>,
    /// Access token (`HF_TOKEN`); `None` reads `home/token`.
    pub token: Option<String>,
    /// How long an address, and each one it redirects to, may take to answer at all before it counts as unreachable.
    pub connect_timeout: Duration,
    /// How long a download may stand still.
    pub stall_timeout: Duration,
    /// How often a broken transfer is taken up again.
    pub retries: usize,
}

impl Default for Hub {
    fn default() -> Self {
        let home = env::home_dir().unwrap_or_else(|| PathBuf::from("."));
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            home: home.join(".cache").join("huggingface"),
            cache: None,
            token: None,
            connect_timeout: Duration::from_secs(4),
            stall_timeout: Duration::from_secs(30),
            retries: 3,
        }
    }
}

impl Hub {
    /// The cache folder.
    pub fn cache_dir(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| self.home.join("hub"))
    }

    /// Where official archives are kept.
    pub fn archive_dir(&self) -> PathBuf {
        self.home.join("assets").join("cifar-data")
    }
}

/// The files of a data set on the Hub, pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubPin {
    /// `owner/name` of the data set.
    pub repo: String,
    /// A commit.
    pub revision: String,
    /// Training images.
    pub train: HubFile,
    /// Test images.
    pub test: HubFile,
}

/// One pinned file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// Path within the repository.
    pub path: String,
    /// Lower-case hexadecimal; `None` accepts anything.
    pub sha256: Option<String>,
}

impl HubPin {
    /// The pin for CIFAR-100 where that is named, else for CIFAR-10. The values are those public sources print.
    pub fn of(dataset: DatasetName) -> Self {
        let file = |path: &str, sum: &str| HubFile {
            path: path.to_owned(),
            sha256: Some(sum.to_owned()),
        };
        match dataset {
            DatasetName::Cifar100 => Self {
                repo: "uoft-cs/cifar100".to_owned(),
                revision: "aadb3af77e9048adbea6b47c21a81e47dd092ae5".to_owned(),
                train: file(
                    "cifar100/train-00000-of-00001.parquet",
                    "694865d6b990e234804f01268586c41e88bcbbb75e20858432c05ad4081aca23",
                ),
                test: file(
                    "cifar100/test-00000-of-00001.parquet",
                    "98776c529bb146a9c791229df74a5cf076be9b43d82dbbd334b6a7788d73dc68",
                ),
            },
            _ => Self {
                repo: "uoft-cs/cifar10".to_owned(),
                revision: "0b2714987fa478483af9968de7c934580d0bb9a2".to_owned(),
                train: file(
                    "plain_text/train-00000-of-00001.parquet",
                    "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
                ),
                test: file(
                    "plain_text/test-00000-of-00001.parquet",
                    "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
                ),
            },
        }
    }
}

/// The official archive of a data set, pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Its address.
    pub url: String,
    /// The published MD5; `None` accepts anything.
    pub md5: Option<String>,
    /// Its size in bytes, where known.
    pub bytes: Option<u64>,
}

impl Archive {
    /// The archive of CIFAR-100 where that is named, else of CIFAR-10. The values are those public sources print.
    pub fn of(dataset: DatasetName) -> Self {
        match dataset {
            DatasetName::Cifar100 => Self {
                url: "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz".to_owned(),
                md5: Some("03b5dce01913d631647c71ecec9e9cb8".to_owned()),
                bytes: None,
            },
            _ => Self {
                url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz".to_owned(),
                md5: Some("c32a1d4ab5d03f1284b67883e8d87530".to_owned()),
                bytes: Some(170_052_171),
            },
        }
    }

    /// The file name a copy is kept under.
    pub(crate) fn file_name(dataset: DatasetName) -> &'static str {
        match dataset {
            DatasetName::Cifar100 => "cifar-100-binary.tar.gz",
            _ => "cifar-10-binary.tar.gz",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_honoured_and_empty_ones_ignored() {
        let lookup = |name: &str| {
            let value = match name {
                "CIFAR10_DIR" => "/data/c10",
                "CIFAR100_DIR" => " ",
                "HF_HOME" => "/hf",
                "HF_ENDPOINT" => "http://localhost:1/",
                "HF_TOKEN" => "secret",
                "HF_HUB_OFFLINE" => "True",
                "CIFAR10_ARCHIVE_URL" => "http://localhost:2/a.tar.gz",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let options = SourceOptions::from_lookup(DatasetName::Auto, lookup);
        assert_eq!(options.data_folder(), Some(Path::new("/data/c10")));
        assert_eq!(options.cifar100_dir, None);
        assert_eq!(options.hub.cache_dir(), Path::new("/hf/hub"));
        assert_eq!(options.hub.endpoint, "http://localhost:1");
        assert_eq!(options.hub.token.as_deref(), Some("secret"));
        assert!(options.offline);
        let archive = options.official_archive();
        assert_eq!(archive.url, "http://localhost:2/a.tar.gz");
        assert_eq!(archive.md5, Archive::of(DatasetName::Cifar10).md5);
        let synthetic = SourceOptions::from_lookup(DatasetName::Synthetic, lookup);
        assert_eq!(synthetic.data_folder(), None);
        let plain = SourceOptions::from_lookup(DatasetName::Cifar100, |_| None);
        assert!(!plain.offline && plain.hub_pin().repo == "uoft-cs/cifar100");
    }

    /// As in Python's huggingface_hub.
    #[test]
    fn the_cache_is_where_the_nearest_variable_says() {
        let cache = |set: &[&str]| {
            let lookup = |name: &str| set.contains(&name).then(|| format!("/{name}"));
            SourceOptions::from_lookup(DatasetName::Auto, lookup)
                .hub
                .cache_dir()
        };
        let all = ["XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE"];
        assert_eq!(cache(&all), Path::new("/HF_HUB_CACHE"));
        assert_eq!(cache(&all[..2]), Path::new("/HF_HOME/hub"));
        assert_eq!(
            cache(&all[..1]),
            Path::new("/XDG_CACHE_HOME/huggingface/hub")
        );
        let home = env::home_dir().unwrap();
        assert_eq!(cache(&[]), home.join(".cache/huggingface/hub"));
    }
}
