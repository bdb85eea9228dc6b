//! Serves a fast sink (`sink`) or the strict APNs simulator (`apns`) until its input ends, then tells what
//! each request has cost it. It must not know what drives it: h2load, say.

use std::error::Error;
use std::io::{Read, Write, stdin, stdout};

use clarion_simulator::{FastSink, Options, Simulator, SinkOptions};

/// CPU time of all threads of this process, in nanoseconds.
fn cpu_ns() -> Result<u64, Box<dyn Error>> {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        total += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(total)
}

fn wait_for_the_end() -> Result<(), Box<dyn Error>> {
    let mut rest = Vec::new();
    stdin().read_to_end(&mut rest)?;
    Ok(())
}

fn tell(requests: u64, before: u64) -> Result<(), Box<dyn Error>> {
    let spent = cpu_ns()? - before;
    let each = spent as f64 / 1000.0 / requests.max(1) as f64;
    writeln!(stdout(), "{requests} requests, {each:.3} µs of CPU each")?;
    Ok(())
}

fn sink(tls: bool) -> Result<(), Box<dyn Error>> {
    let sink = FastSink::start(SinkOptions {
        tls,
        ..SinkOptions::default()
    })?;
    let before = cpu_ns()?;
    writeln!(stdout(), "{}", sink.origin())?;
    wait_for_the_end()?;
    tell(sink.requests(), before)
}

async fn apns(log: bool) -> Result<(), Box<dyn Error>> {
    let log_path = log.then(|| std::env::temp_dir().join("clarion-measure.tsv"));
    let options = Options {
        accept_any_credential: false,
        log_path,
        ..Options::default()
    };
    let simulator = Simulator::start(Options {
        strict_first_stream: false,
        ..options
    })
    .await?;
    let key = simulator.apns_test_key("TEAM000001", "KEY0000001")?;
    let now = std::fs::metadata("/proc/self")?
        .modified()?
        .duration_since(std::time::UNIX_EPOCH)?;
    let before = cpu_ns()?;
    writeln!(
        stdout(),
        "{} {}",
        simulator.apns_origin(),
        key.provider_token(now.as_secs() as i64)?
    )?;
    tokio::task::spawn_blocking(|| wait_for_the_end().map_err(|error| error.to_string())).await??;
    tell(simulator.stats().processed, before)
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match std::env::args().nth(1).as_deref() {
        Some("sink") => sink(true),
        Some("sink-clear") => sink(false),
        Some("apns") => runtime.block_on(apns(false)),
        Some("apns-log") => runtime.block_on(apns(true)),
        _ => Err("measure sink | sink-clear | apns | apns-log".into()),
    }
}
