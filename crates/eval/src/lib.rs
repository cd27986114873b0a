#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod alignment;
mod atomic;
mod classification;
mod comparison;
mod eigen;
mod embedding;
mod error;
mod features;
mod json;
mod knn;
mod number;
mod pca;
mod predictions;
mod products;
mod rank;
mod report;
mod results;
mod retrieval;
mod tensors;
mod uniformity;

pub use alignment::alignment;
pub use alignment::view_alignment;
#[doc(hidden)]
pub use atomic::write_atomically;
pub use classification::ClassificationMetrics;
pub use classification::classification;
pub use comparison::Comparison;
pub use comparison::Method;
pub use comparison::wilson_interval;
pub use embedding::EmbeddingConfig;
pub use embedding::embedding_metrics;
pub use error::Error;
pub use error::Result;
pub use features::Features;
pub use knn::Knn;
pub use knn::KnnConfig;
pub use knn::knn;
pub use pca::Pca2;
pub use pca::pca2;
pub use predictions::Predictions;
pub use rank::effective_rank;
pub use report::CurvePoint;
pub use report::EmbeddingMap;
pub use report::EmbeddingMaps;
pub use report::ReportInput;
pub use report::ReportPaths;
pub use report::SamplePhoto;
pub use report::SamplePrediction;
pub use report::StageCurve;
pub use report::summary_table;
pub use report::write_report;
pub use results::ARMS;
pub use results::ArmResult;
pub use results::DatasetRecord;
pub use results::EmbeddingMetrics;
pub use results::Environment;
pub use results::Results;
pub use results::SCHEMA;
pub use results::StageRecord;
pub use results::TestMetrics;
pub use results::TrainRecord;
pub use retrieval::Retrieval;
pub use retrieval::retrieval;
pub use uniformity::uniformity;
