//! The page's script: a few small files, and the hash by which the page allows this script and no other.

use sha2::{Digest, Sha256};

use super::png::base64;

/// The whole script. Its parts share one scope that nothing outside can reach.
pub(crate) fn text() -> &'static str {
    concat!(
        "(() => {\n\"use strict\";\n",
        include_str!("../../templates/script/base.js"),
        include_str!("../../templates/script/curves.js"),
        include_str!("../../templates/script/maps.js"),
        include_str!("../../templates/script/card.js"),
        include_str!("../../templates/script/film.js"),
        "})();\n",
    )
}

/// `sha256-…`, for the page's Content-Security-Policy.
pub(crate) fn hash() -> String {
    format!("sha256-{}", base64(&Sha256::digest(text())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_asks_for_nothing_and_cannot_end_its_element() {
        let text = text();
        for forbidden in [
            "</",
            "<!--",
            "fetch(",
            "XMLHttpRequest",
            "import(",
            "eval(",
            "innerHTML",
            "http",
        ] {
            assert!(!text.contains(forbidden), "the script contains {forbidden}");
        }
        assert_eq!(hash().len(), "sha256-".len() + 44);
    }
}
