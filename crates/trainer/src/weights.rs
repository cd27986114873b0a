//! Weights that arms begin with instead of random ones.

use crate::model::Encoder;
use crate::recipe::{CheckedRecipe, Recipe};
use crate::{Error, Event, Result};
use candle_core::Device;
use resnet::{HubConfig, Init};
use std::path::PathBuf;

/// A file of weights that arms begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialWeights {
    /// As the recipe names it.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// `sha256:…`
    pub checksum: String,
}

/// Finds the weights that a recipe's arms begin with, downloading them if need be, and checks that they fit its network.
/// None where all arms begin at random.
pub fn initial_weights(
    recipe: &CheckedRecipe,
    offline: bool,
    tell: &mut dyn FnMut(&Event),
) -> Result<Vec<InitialWeights>> {
    let mut all = Vec::new();
    for init in recipe.inits() {
        if let Some(weights) = InitialWeights::find(init, offline, tell)? {
            Encoder::new(&recipe.model, recipe.seed, &Device::Cpu)?.init(&weights.path)?;
            all.push(weights);
        }
    }
    Ok(all)
}

impl InitialWeights {
    /// The file that `init` names; none for random weights.
    pub(crate) fn find(
        init: &Init,
        offline: bool,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<Option<Self>> {
        if *init == Init::Random {
            return Ok(None);
        }
        if let Init::File(path) = init
            && !path.is_file()
        {
            return Err(Error::Unfit {
                message: format!(
                    "the first weights `{}` are no file; name a .safetensors file that is there, hub:OWNER/NAME, or random (--init)",
                    path.display()
                ),
            });
        }
        let mut hub = HubConfig::from_env()?;
        hub.offline |= offline;
        let name = init.to_string();
        let mut progress = |received, total| {
            let file = name.clone();
            tell(&Event::Download {
                file,
                received,
                total,
            });
        };
        let Some(path) = init.resolve(&hub, &mut progress)? else {
            return Ok(None);
        };
        let checksum = format!("sha256:{}", resnet::sha256(&path)?);
        Ok(Some(Self {
            name,
            path,
            checksum,
        }))
    }
}

impl Recipe {
    /// The initial weights of the arms that are on.
    fn inits(&self) -> Vec<&Init> {
        let arms = &self.arms;
        let mut inits = Vec::new();
        if arms.baseline || arms.contrastive {
            inits.push(&self.model.init);
        }
        if arms.transfer {
            inits.push(&self.transfer.init);
        }
        inits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arms_that_are_on_need_weights() {
        let mut recipe = Recipe::default();
        assert_eq!(recipe.inits(), [&Init::Random]);
        recipe.arms.transfer = true;
        assert_eq!(recipe.inits(), [&Init::Random, &recipe.transfer.init]);
        recipe.arms.baseline = false;
        recipe.arms.contrastive = false;
        assert_eq!(recipe.inits(), [&recipe.transfer.init]);
    }
}
