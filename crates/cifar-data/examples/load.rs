//! Finds a data set as the command line would and describes it.
//!
//!     cargo run --release -p cifar-data --example load -- auto [FOLDER]

use std::time::Instant;

use cifar_data::{Normalization, ProgressEvent, SourceOptions, open};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut options =
        SourceOptions::from_env(arguments.next().as_deref().unwrap_or("auto").parse()?);
    options.data_dir = arguments.next().map(Into::into);
    let started = Instant::now();
    let dataset = open(&options, &mut |event: &ProgressEvent| match event {
        ProgressEvent::Download { .. } => {}
        event => eprintln!("{event:?}"),
    })?;
    if let Some(notice) = dataset.notice() {
        eprintln!("{notice}");
    }
    println!("{:#?}\nopened in {:.2?}", dataset.info(), started.elapsed());
    let started = Instant::now();
    let train = dataset.train()?;
    println!(
        "{} training images decoded in {:.2?}",
        train.len(),
        started.elapsed()
    );
    let fitted = Normalization::fit(&train, &(0..train.len()).collect::<Vec<_>>())?;
    println!("mean {:.5?}, std {:.5?}", fitted.mean, fitted.std);
    Ok(())
}
