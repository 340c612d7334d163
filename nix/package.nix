# The program with its manual page, completions and the script that collects secrets.
#
# The project's own tests parse this file and build nothing with it: see docs/nixos.md.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
}:
let
  inherit (lib) fileset;
in
rustPlatform.buildRustPackage {
  pname = "gateway";
  version = (lib.importTOML ../Cargo.toml).package.version;

  # What the program is made of: a change of a document or of a Nix file is no reason to build it again. Cargo wants to
  # find the tests and the bench that Cargo.toml names.
  src = fileset.toSource {
    root = ./..;
    fileset = fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../src
      ../tests/main.rs
      ../tests/bench
      ./fetch-secrets.sh
    ];
  };
  # No hash of our own to keep true: the lock file has the hash of every crate, and there are no git dependencies.
  cargoLock.lockFile = ../Cargo.lock;

  # Thin LTO; the profile for packages. The tests are run by tests/run, which brings what they need.
  buildType = "dist";
  doCheck = false;

  nativeBuildInputs = [ installShellFiles ];
  postInstall = ''
    install -D -m 0755 nix/fetch-secrets.sh $out/libexec/gateway/fetch-secrets
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/gateway man > gateway.1
    installManPage gateway.1
    installShellCompletion --cmd gateway \
      --bash <($out/bin/gateway completions bash) \
      --fish <($out/bin/gateway completions fish) \
      --zsh <($out/bin/gateway completions zsh)
  '';

  meta = {
    description = "Self-hosted gateway to language models, compatible with LiteLLM Proxy";
    license = lib.licenses.asl20;
    mainProgram = "gateway";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
    maintainers = [ ];
  };
}
