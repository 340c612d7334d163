# The program with its manual page, completions and the script that collects secrets.
#
# Only evaluated by the project's own tests; see docs/nixos.md.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
}:
let
  root = ./..;
  # What the program is made of: a change of a document or of a Nix file is no reason to build it again.
  parts = [
    "Cargo.toml"
    "Cargo.lock"
    "src"
    "tests"
    "nix"
  ];
  part = path: lib.head (lib.splitString "/" (lib.removePrefix "${toString root}/" (toString path)));
in
rustPlatform.buildRustPackage {
  pname = "gateway";
  version = (lib.importTOML ../Cargo.toml).package.version;

  src = lib.cleanSourceWith {
    src = root;
    filter = path: _type: builtins.elem (part path) parts;
  };
  # No hash of our own to keep true: the lock file has the hash of every crate, and there are no git dependencies.
  cargoLock.lockFile = ../Cargo.lock;

  # Thin LTO; the profile for packages. The black-box tests need a Postgres and a network namespace of their own.
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
