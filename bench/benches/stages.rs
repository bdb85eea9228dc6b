//! Criterion over all pure stages; a name given after `--` picks among them.
//! It must not define work of its own: that stands in `src/stages`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use criterion::{Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for mut stage in clarion_bench::stages::all().expect("samples can be made") {
        let (group, name) = stage.name.clone().split_once(": ").map_or_else(
            || ("other".to_owned(), stage.name.clone()),
            |(group, name)| (group.to_owned(), name.to_owned()),
        );
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(u64::from(stage.per.items)));
        group.bench_function(name, |bencher| bencher.iter_custom(|runs| stage.time(runs)));
        group.finish();
    }
    criterion.final_summary();
}
