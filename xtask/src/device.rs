//! `--device auto|cpu|cuda[:N]|metal`: what was asked for, and the device behind it.

use std::{fmt, str::FromStr};

use anyhow::Result;
use candle_core::Device;

use crate::exit::bad_input;

/// What `--device` asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A GPU this binary was built for and finds, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU of this ordinal.
    Cuda(usize),
    /// The Apple GPU.
    Metal,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|ordinal| ordinal.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "expected auto, cpu, cuda, cuda:N or metal".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Metal => write!(f, "metal"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device; a GPU named explicitly and not to be had is bad input, never replaced.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(ordinal) => {
                if !cfg!(feature = "cuda") {
                    return Err(bad_input(format!(
                        "--device {self}: this program was built without CUDA; run it as `cargo xtask-cuda`, or use --device cpu"
                    )));
                }
                Device::new_cuda(ordinal).map_err(|error| {
                    bad_input(format!(
                        "--device {self}: no such GPU can be opened ({}); check nvidia-smi, or use --device cpu",
                        first_line(&error)
                    ))
                })
            }
            Self::Metal => {
                if !cfg!(feature = "metal") {
                    return Err(bad_input(
                        "--device metal: this program was built without Metal; run it as `cargo xtask-metal` on a Mac, or use --device cpu".to_owned(),
                    ));
                }
                Device::new_metal(0).map_err(|error| {
                    bad_input(format!(
                        "--device metal: no GPU can be opened ({}); use --device cpu",
                        first_line(&error)
                    ))
                })
            }
            Self::Auto => Ok(Self::auto()),
        }
    }

    fn auto() -> Device {
        let gpu = if cfg!(feature = "cuda") {
            Device::new_cuda(0)
        } else if cfg!(feature = "metal") {
            Device::new_metal(0)
        } else {
            return Device::Cpu;
        };
        gpu.unwrap_or_else(|error| {
            tracing::warn!(
                "no GPU can be opened ({}); using the CPU",
                first_line(&error)
            );
            Device::Cpu
        })
    }
}

/// The name `--device` would take for this device.
pub fn name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for name in ["auto", "cpu", "cuda:0", "cuda:3", "metal"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for name in ["", "tpu", "cuda:", "cuda:x", "CPU"] {
            assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_gpu_that_is_not_built_in_is_bad_input() {
        let error = DeviceChoice::Cuda(0).open().unwrap_err();
        assert_eq!(crate::exit::code(&error), 2);
        assert!(error.to_string().contains("xtask-cuda"));
    }
}
