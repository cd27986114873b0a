//! Energy of the processor packages, where the machine tells: the running average power limit's counters (RAPL), which
//! Linux shows for Intel and AMD processors under `/sys/class/powercap`. They count whole packages, whatever else runs on
//! them, and neither memory nor accelerators; many machines let only root read them, virtual ones have none.

use std::path::{Path, PathBuf};

/// Where Linux shows the counters.
const POWERCAP: &str = "/sys/class/powercap";

/// The counters of all packages.
#[derive(Debug)]
pub(crate) struct Meter {
    packages: Vec<Package>,
}

#[derive(Debug)]
struct Package {
    counter: PathBuf,
    /// The counter begins again at 0 after this value.
    range: u64,
    last: u64,
}

impl Meter {
    /// The machine's counters; none if it has none or does not let them be read.
    pub fn of_this_machine() -> Option<Self> {
        Self::under(Path::new(POWERCAP))
    }

    fn under(folder: &Path) -> Option<Self> {
        let mut packages = Vec::new();
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            // `intel-rapl:0` is a package, `intel-rapl:0:1` a part of it.
            let name = entry.file_name();
            let Some(number) = name.to_str()?.strip_prefix("intel-rapl:") else {
                continue;
            };
            if number.contains(':') {
                continue;
            }
            let counter = entry.path().join("energy_uj");
            packages.push(Package {
                last: number_in(&counter)?,
                range: number_in(&entry.path().join("max_energy_range_uj"))?,
                counter,
            });
        }
        (!packages.is_empty()).then_some(Self { packages })
    }

    /// Joules since the last call (or the beginning). A package's counter wraps after some minutes: call more often.
    pub fn joules(&mut self) -> f64 {
        let mut microjoules = 0;
        for package in &mut self.packages {
            let Some(now) = number_in(&package.counter) else {
                continue;
            };
            microjoules += if now >= package.last {
                now - package.last
            } else {
                package.range.saturating_sub(package.last) + now
            };
            package.last = now;
        }
        microjoules as f64 / 1e6
    }
}

fn number_in(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, zone: &str, file: &str, value: u64) {
        std::fs::create_dir_all(folder.join(zone)).unwrap();
        std::fs::write(folder.join(zone).join(file), format!("{value}\n")).unwrap();
    }

    #[test]
    fn packages_are_added_parts_are_not_and_a_wrap_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        for (zone, start) in [
            ("intel-rapl:0", 9_000_000),
            ("intel-rapl:1", 1_000_000),
            ("intel-rapl:0:0", 5),
        ] {
            put(at, zone, "energy_uj", start);
            put(at, zone, "max_energy_range_uj", 10_000_000);
        }
        put(at, "dtpm", "energy_uj", 77);
        let mut meter = Meter::under(at).unwrap();
        put(at, "intel-rapl:0", "energy_uj", 500_000);
        put(at, "intel-rapl:1", "energy_uj", 3_250_000);
        put(at, "intel-rapl:0:0", "energy_uj", 4_000_000);
        assert_eq!(meter.joules(), 1.5 + 2.25);
        assert_eq!(meter.joules(), 0.0);
    }

    #[test]
    fn machines_that_do_not_tell_have_no_meter() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Meter::under(folder.path()).is_none());
        assert!(Meter::under(&folder.path().join("absent")).is_none());
        put(folder.path(), "intel-rapl:0", "max_energy_range_uj", 1);
        assert!(
            Meter::under(folder.path()).is_none(),
            "a counter that cannot be read"
        );
    }
}
