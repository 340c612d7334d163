//! From the name of a model to the deployment that is asked, among eight: at most 2 µs, whatever the strategy.
//!
//!     cargo bench --manifest-path tests/bench/routing/Cargo.toml

use criterion::{Criterion, criterion_group, criterion_main};
use gateway::config::{Mode, Sources, load};
use gateway::route::{Question, Routes};
use std::hint::black_box;
use std::time::{Duration, Instant};

const STRATEGIES: [&str; 7] = [
    "simple-shuffle",
    "least-busy",
    "usage-based-routing",
    "usage-based-routing-v2",
    "latency-based-routing",
    "cost-based-routing",
    "peak-ewma",
];

/// Eight deployments of one name, each as a household may write it.
fn routes(settings: &str, more: &str) -> Routes {
    let model = |i| {
        format!(
            "[[models]]\nname = \"m\"\nmodel = \"openai_like/m\"\nid = \"{i}\"\napi_base = \"http://x/v1\"\n\
             rpm = {}\ninfo = {{ input_cost_per_token = 0.00000{i}, output_cost_per_token = 0.00000{i} }}\n{more}",
            100_000_000 + i
        )
    };
    let text = format!("[routing]\n{settings}\n{}", (1..=8).map(model).collect::<String>());
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(file.path(), text).unwrap();
    let sources = Sources { config: Some(file.path().to_owned()), ..Sources::default() };
    let config = load(&sources, Mode::Offline).unwrap();
    Routes::new(config.deployments, config.routing)
}

fn choose(routes: &Routes, affinity: Option<u64>) {
    let question = Question {
        now: Instant::now(),
        settings: &routes.settings,
        tried: &[],
        refused: &[],
        tags: &[],
        prompt_tokens: 1000,
        streams: true,
        region: None,
        affinity,
    };
    let plan = routes.plan(black_box("m")).unwrap();
    black_box(plan.next(&question).unwrap());
}

fn choices(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("choice among 8");
    for strategy in STRATEGIES {
        let routes = routes(&format!("strategy = \"{strategy}\""), "");
        for (i, deployment) in routes.deployments.iter().enumerate() {
            let took = Duration::from_millis(100 + i as u64);
            deployment.pulse.succeeded(Instant::now(), Some(took), Some(took), 10);
        }
        group.bench_function(strategy, |bencher| bencher.iter(|| choose(&routes, None)));
    }
    let checked = routes("pre_call_checks = true", "max_parallel_requests = 10\nlimits = { tpm = 100000000 }\n");
    group.bench_function("checks, slots and limits", |bencher| bencher.iter(|| choose(&checked, None)));
    let sticky = routes("session_affinity = true", "");
    group.bench_function("session affinity", |bencher| bencher.iter(|| choose(&sticky, Some(black_box(7)))));
    group.finish();
}

criterion_group!(benches, choices);
criterion_main!(benches);
