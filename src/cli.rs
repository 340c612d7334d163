//! The command line.

mod import;
mod keys;
mod mcp;
mod people;
mod place;
mod store;
mod units;

use crate::config::units::count;
use crate::config::{Mode, Sources, load};
use crate::{control, demo, doctor, serve, systemd};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A self-hosted gateway to language models: one OpenAI-compatible URL for every app of the house.
#[derive(Parser)]
#[command(name = "gateway", version, args_conflicts_with_subcommands = true, max_term_width = 100)]
#[command(
    after_help = "Try it without any configuration: gateway demo\nWithout a command the gateway serves: `gateway --config FILE --port N`."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    Serve(Serve),
    /// Check a configuration and say everything that is wrong with it
    Check(Check),
    /// Have the running gateway read its configuration and secrets again
    Reload(Reload),
    /// Make, list, show, revoke and rotate keys of callers
    Key(keys::Keys),
    /// Make, list, show, change and delete users
    User(people::Users),
    /// Make, list, show, change and delete teams, and say who is in them
    Team(people::Teams),
    /// Bring the tables of the database up to date; a gateway that starts does so by itself
    Migrate(store::Migrate),
    /// Look after the store of keys, people and spend
    #[command(subcommand)]
    Store(store::Act),
    /// Servers of tools: how they are, what they offer; call a tool, approve a call
    Mcp(mcp::Tools),
    /// Look at everything a call needs, and say what is wrong and what to do
    Doctor(Doctor),
    /// Convert the configuration of another gateway
    #[command(subcommand)]
    Import(import::Import),
    /// Write units for systemd, with secrets, configuration, socket and sandbox
    SystemdUnits(units::Units),
    /// Run with a built-in model, without configuration, keys or network
    Demo(Demo),
    /// Look after the built-in prices
    #[command(subcommand, hide = true)]
    Prices(PriceTable),
    /// Print a completion script for a shell
    #[command(hide = true)]
    Completions { shell: clap_complete::Shell },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

#[derive(Args)]
struct Files {
    /// gateway.toml, or a LiteLLM config.yaml [default: ./gateway.toml, then /etc/gateway/gateway.toml]
    #[arg(short, long, value_name = "FILE", env = "GATEWAY_CONFIG")]
    config: Option<PathBuf>,
    /// File of NAME=value lines with the secrets that the configuration refers to
    #[arg(long, value_name = "FILE", env = "GATEWAY_ENV_FILE")]
    env_file: Option<PathBuf>,
}

#[derive(Args)]
struct Serve {
    #[command(flatten)]
    files: Files,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long)]
    host: Option<String>,
    /// Port to listen on [default: 4000]
    #[arg(short, long)]
    port: Option<u16>,
    /// Directory for state [default: $STATE_DIRECTORY, else ~/.local/state/gateway]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// End after so long without any connection, such as 10m; systemd's socket starts it again
    #[arg(long, value_name = "DURATION")]
    idle_timeout: Option<crate::config::file::Duration>,
}

#[derive(Args)]
struct Check {
    /// The file to check
    file: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// Look at the file alone: no secret, no network, no state is needed
    #[arg(long)]
    offline: bool,
}

#[derive(Args)]
struct Reload {
    #[command(flatten)]
    files: Files,
    /// The directory of the running gateway's control socket: its state directory, under systemd /run/gateway
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Done, too, if no gateway runs
    #[arg(long)]
    if_running: bool,
    /// Where a setting waits for a restart, have systemd restart this unit
    #[arg(long, value_name = "UNIT")]
    or_restart: Option<String>,
}

#[derive(Args)]
struct Doctor {
    #[command(flatten)]
    files: Files,
    /// The state directory of the gateway
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum PriceTable {
    /// Print the table of prices that these files make; what was left out goes to standard error
    Build {
        /// Facts as .csv, or a LiteLLM price map as .json; later files win
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The day as of which the prices hold
        #[arg(long, value_name = "YYYY-MM-DD")]
        date: String,
    },
}

#[derive(Args)]
struct Demo {
    /// Port on 127.0.0.1
    #[arg(short, long, default_value_t = 4000)]
    port: u16,
    /// Directory for state
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// The exit code of wrong use, as clap's own.
const WRONG_USE: u8 = 2;

/// Reads the command line and carries it out.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => {
            let Some(sources) = sources(args.files) else { return no_config() };
            serve::run(
                Sources {
                    host: args.host,
                    port: args.port,
                    state_dir: args.state_dir,
                    idle_timeout: args.idle_timeout.map(|d| d.0),
                    ..sources
                },
                |_, _| async {},
            )
        }
        Command::Check(args) => {
            let files = Files { config: args.file.or(args.files.config), ..args.files };
            let Some(sources) = sources(files) else { return no_config() };
            check(&sources, if args.offline { Mode::Offline } else { Mode::Live })
        }
        Command::Reload(args) => reload(args),
        Command::Key(args) => keys::run(args).and_then(|text| print(text.as_bytes())),
        Command::User(args) => people::users(args).and_then(|text| print(text.as_bytes())),
        Command::Team(args) => people::teams(args).and_then(|text| print(text.as_bytes())),
        Command::Migrate(args) => store::migrate(args).and_then(|text| print(text.as_bytes())),
        Command::Store(act) => store::run(act).and_then(|text| print(text.as_bytes())),
        Command::Mcp(args) => mcp::run(args).and_then(|text| print(text.as_bytes())),
        Command::Doctor(args) => {
            let env_file = args.files.env_file.clone();
            let found = sources(args.files).unwrap_or_default();
            let (report, healthy) = doctor::examine(Sources { env_file, state_dir: args.state_dir, ..found });
            match print(report.as_bytes()) {
                Ok(()) if !healthy => return ExitCode::FAILURE,
                done => done,
            }
        }
        Command::Import(what) => import::run(what),
        Command::Prices(PriceTable::Build { files, date }) => build_prices(&files, &date),
        Command::SystemdUnits(args) => units::write(args),
        Command::Demo(args) => demo::run(args.port, args.state_dir),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "gateway", &mut script);
            print(&script)
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(|e| e.to_string())
                .and_then(|()| print(&page))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("gateway: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output; a reader that has seen enough is no failure.
fn print(bytes: &[u8]) -> Result<(), String> {
    match std::io::stdout().write_all(bytes) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.to_string()),
        _ => Ok(()),
    }
}

/// The named configuration, LiteLLM's variable for it, or one of the usual places.
fn sources(files: Files) -> Option<Sources> {
    let usual = ["gateway.toml", "/etc/gateway/gateway.toml"].into_iter().map(PathBuf::from).find(|path| path.exists());
    let config = files.config.or_else(|| std::env::var_os("CONFIG_FILE_PATH").map(PathBuf::from)).or(usual)?;
    Some(Sources { config: Some(config), env_file: files.env_file, ..Sources::default() })
}

/// The same for commands that look after a gateway: where nothing is named, the one that the units of this machine run,
/// with its secrets and its state.
fn of_machine(files: Files, state_dir: Option<PathBuf>) -> Sources {
    let there = |path: &str| Some(PathBuf::from(path)).filter(|path| path.exists());
    let found = sources(files).unwrap_or_default();
    let config = found.config.or_else(|| there(systemd::RENDERED));
    let is_ours =
        config.as_ref().is_some_and(|path| ["/etc/gateway", "/run/gateway"].iter().any(|dir| path.starts_with(dir)));
    let ours = |path| if is_ours { there(path) } else { None };
    Sources {
        config,
        env_file: found.env_file.or_else(|| ours(systemd::COLLECTED)),
        state_dir: state_dir.or_else(|| ours(systemd::STATE)),
        ..Sources::default()
    }
}

fn no_config() -> ExitCode {
    eprintln!(
        "gateway: there is no configuration: name one with --config FILE, write ./gateway.toml, or try `gateway demo`"
    );
    ExitCode::from(WRONG_USE)
}

fn check(sources: &Sources, mode: Mode) -> Result<(), String> {
    let config = load(sources, mode)?;
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    let name = sources.config.as_deref().unwrap_or(Path::new("-")).display();
    let (models, warnings) = (config.deployments.len(), config.warnings.len());
    print(format!("{name} is valid: {}, {}\n", count(models, "model"), count(warnings, "warning")).as_bytes())
}

fn reload(args: Reload) -> Result<(), String> {
    let socket = control_socket(args.files, args.state_dir)?;
    let reply = if args.if_running {
        let Some(reply) = control::ask_if_running(&socket, "reload")? else {
            println!("no gateway runs at {}; nothing to reload", socket.display());
            return Ok(());
        };
        reply
    } else {
        control::ask(&socket, "reload")?
    };
    for warning in &reply.warnings {
        eprintln!("warning: {warning}");
    }
    if !reply.ok {
        return Err(reply.message);
    }
    println!("{}", reply.message);
    match args.or_restart {
        Some(unit) if reply.wants_restart => systemd::restart(&unit),
        _ => Ok(()),
    }
}

/// Where the running gateway listens for orders: in the directory that is named, else where its configuration says.
fn control_socket(files: Files, directory: Option<PathBuf>) -> Result<PathBuf, String> {
    if let Some(directory) = directory {
        return Ok(directory.join(control::SOCKET));
    }
    let sources = sources(files).unwrap_or_default();
    // A file that is broken now must not keep the question from being asked.
    let config = load(&sources, Mode::Offline).or_else(|_| load(&Sources::default(), Mode::Offline))?;
    Ok(control::path(&config.state_dir))
}

fn build_prices(files: &[PathBuf], date: &str) -> Result<(), String> {
    let built = crate::price::build(files, date)?;
    for line in &built.report {
        eprintln!("{line}");
    }
    print!("{}", built.text);
    Ok(())
}
