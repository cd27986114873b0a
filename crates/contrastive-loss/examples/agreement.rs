//! Prints the README's table of losses with the agreement measured on the fixtures, or writes it between the README's markers:
//! `cargo run --release -p contrastive-loss --example agreement -- --write`.

#[path = "../tests/suite/reference.rs"]
mod reference;

use reference::{Agreement, Fixture, measure};
use std::fmt::Write;

/// Heading; name in recipes, or — ; function or type; what it is; its fixtures; where it comes from.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
);

const ROWS: &[Row] = &[
    (
        "`npairs`",
        "npairs",
        "row-wise cross-entropy with label targets",
        &["npairs"],
        "[Sohn 2016](https://papers.nips.cc/paper/6200-improved-deep-metric-learning-with-multi-class-n-pair-loss-objective)",
    ),
    (
        "–",
        "npairs_multilabel",
        "npairs over several labels",
        &["npairs_multilabel"],
        "TensorFlow Addons, code",
    ),
    (
        "`supcon_out`, `supcon_in`",
        "supcon",
        "SupCon, L_out and L_in, three denominators",
        &[
            "supcon_out",
            "supcon_in",
            "supcon_one_positive",
            "supcon_only_negatives",
        ],
        "[Khosla 2020](https://arxiv.org/abs/2004.11362), eq. 2, 3",
    ),
    (
        "`nt_xent`",
        "nt_xent",
        "SimCLR's NT-Xent",
        &["nt_xent"],
        "[Chen 2020](https://arxiv.org/abs/2002.05709), eq. 1",
    ),
    (
        "`supcon_weighted`",
        "supcon_weighted",
        "SupCon, classes weighted, positives capped",
        &[
            "supcon_weighted",
            "supcon_effective_number",
            "supcon_capped",
        ],
        "Khosla 2020, eq. 2, 3; [Cui 2019](https://arxiv.org/abs/1901.05555)",
    ),
    (
        "–",
        "supcon_soft",
        "SupCon with given weights",
        &["supcon_soft"],
        "Khosla 2020, eq. 2, weighted",
    ),
    (
        "–",
        "supcon_multilabel",
        "SupCon over several or soft labels",
        &[
            "supcon_multilabel_product",
            "supcon_multilabel_jaccard",
            "supcon_multilabel_any",
            "supcon_multilabel_per_label",
        ],
        "Dao 2021; Zhang 2024",
    ),
    (
        "`info_nce`",
        "info_nce",
        "InfoNCE in the batch, one or both ways",
        &["info_nce"],
        "[van den Oord 2018](https://arxiv.org/abs/1807.03748), eq. 4",
    ),
    (
        "–",
        "info_nce",
        "InfoNCE with a queue",
        &["info_nce_queue"],
        "[He 2020](https://arxiv.org/abs/1911.05722), eq. 1",
    ),
    (
        "`sigmoid`",
        "sigmoid",
        "SigLIP's pairwise sigmoid",
        &["sigmoid"],
        "[Zhai 2023](https://arxiv.org/abs/2303.15343), alg. 1",
    ),
    (
        "`barlow_twins`",
        "barlow_twins",
        "Barlow Twins",
        &["barlow_twins"],
        "[Zbontar 2021](https://arxiv.org/abs/2103.03230), code",
    ),
    (
        "`vicreg`",
        "vicreg",
        "VICReg",
        &["vicreg"],
        "[Bardes 2022](https://arxiv.org/abs/2105.04906), eq. 6",
    ),
    (
        "`triplet`",
        "Triplet",
        "triplets: all, hard, semi-hard, mined",
        &[
            "triplet_all",
            "triplet_all_mean",
            "triplet_all_soft",
            "triplet_hard",
            "triplet_hard_soft",
            "triplet_semi_hard",
            "triplet_mined",
        ],
        "[Schroff 2015](https://arxiv.org/abs/1503.03832), eq. 3, 4; [Hermans 2017](https://arxiv.org/abs/1703.07737), code",
    ),
    (
        "`max_margin`",
        "MaxMargin",
        "max-margin contrastive",
        &["max_margin", "max_margin_all", "max_margin_memory"],
        "Hadsell 2006",
    ),
    (
        "`lifted_structure`",
        "LiftedStructure",
        "lifted structure",
        &["lifted_structure"],
        "[Song 2016](https://arxiv.org/abs/1511.06452)",
    ),
    (
        "`generalized_lifted`",
        "GeneralizedLifted",
        "generalised lifted structure",
        &["generalized_lifted"],
        "Hermans 2017",
    ),
    (
        "`multi_similarity`",
        "MultiSimilarity",
        "multi-similarity",
        &[
            "multi_similarity",
            "multi_similarity_mined",
            "multi_similarity_memory",
        ],
        "[Wang 2019](https://arxiv.org/abs/1904.06627), code",
    ),
    (
        "`circle`",
        "Circle",
        "circle",
        &["circle"],
        "[Sun 2020](https://arxiv.org/abs/2002.10857), eq. 5, 6",
    ),
    (
        "`nca`",
        "Nca",
        "neighbourhood components",
        &["nca"],
        "Goldberger 2004, eq. 6",
    ),
    (
        "`proxy_nca`",
        "proxy_nca",
        "proxy-NCA",
        &["proxy_nca"],
        "[Movshovitz-Attias 2017](https://arxiv.org/abs/1703.07464)",
    ),
    (
        "`proxy_anchor`",
        "proxy_anchor",
        "proxy-anchor",
        &["proxy_anchor"],
        "[Kim 2020](https://arxiv.org/abs/2003.13911), eq. 4",
    ),
    (
        "`normalized_softmax`",
        "normalized_softmax",
        "normalised softmax",
        &["normalized_softmax"],
        "[Zhai 2019](https://arxiv.org/abs/1811.12649), code",
    ),
    (
        "`cosface`",
        "cosface",
        "CosFace",
        &["cosface"],
        "[Wang 2018](https://arxiv.org/abs/1801.09414), eq. 4",
    ),
    (
        "`arcface`",
        "arcface",
        "ArcFace",
        &["arcface"],
        "[Deng 2019](https://arxiv.org/abs/1801.07698), eq. 3",
    ),
    (
        "`subcenter_arcface`",
        "subcenter_arcface",
        "sub-centre ArcFace",
        &["subcenter_arcface"],
        "Deng 2020 (ECCV)",
    ),
];

const BEGIN: &str =
    "<!-- agreement: cargo run --release -p contrastive-loss --example agreement -- --write -->\n";
const END: &str = "<!-- /agreement -->\n";

/// The table and the line below it.
fn table() -> String {
    let measured = measure();
    let made_by = Fixture::read("pairs.safetensors").made_by;
    let mut text = String::from(
        "| recipe name | here | what | source | compared with | values | gradients |\n|---|---|---|---|---|---|---|\n",
    );
    for (recipe, item, what, cases, source) in ROWS {
        let all: Vec<&Agreement> = cases
            .iter()
            .map(|case| {
                &measured
                    .iter()
                    .find(|(name, _)| name == case)
                    .expect(case)
                    .1
            })
            .collect();
        let largest = |pick: fn(&Agreement) -> [f64; 2]| {
            [0, 1].map(|dtype| all.iter().fold(0f64, |m, a| m.max(pick(a)[dtype])))
        };
        let mut with: Vec<&str> = cases
            .iter()
            .map(|case| made_by["sources"][case].as_str().expect(case))
            .collect();
        with.sort_unstable();
        with.dedup();
        let (values, gradients) = (largest(|a| a.value), largest(|a| a.gradient));
        writeln!(
            text,
            "| {recipe} | `{item}` | {what} | {source} | {} | {} | {} |",
            with.join(", "),
            pair(values),
            pair(gradients)
        )
        .expect("writing to a string");
    }
    let version = |package: &str| made_by[package].as_str().expect(package).to_owned();
    writeln!(
        text,
        "\nLargest difference over three seeds, f64 / f32: of the mean loss (relative to the larger of it and 1), of its gradient (relative \
         to the largest entry). pml: pytorch-metric-learning {} on PyTorch {}; the others are TensorFlow Addons' (tfa), the paper's own code \
         or the bare equation, restated in PyTorch in `tests/fixtures/make_reference.py`. Circle differs where PyTorch's softplus becomes linear.",
        version("pytorch-metric-learning"),
        version("torch").split('+').next().unwrap_or_default(),
    )
    .expect("writing to a string");
    text
}

fn pair([double, single]: [f64; 2]) -> String {
    format!("{double:.0e} / {single:.0e}")
}

fn main() {
    let table = table();
    if std::env::args().nth(1).as_deref() != Some("--write") {
        print!("{table}");
        return;
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("the README");
    let (before, rest) = readme.split_once(BEGIN).expect("the opening marker");
    let (_, after) = rest.split_once(END).expect("the closing marker");
    std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).expect("the README");
}
