# What a change needs: the compiler, and the tools of the recipes in the justfile.
{ pkgs }:
pkgs.mkShell {
  packages = with pkgs; [
    cargo
    rustc
    rustfmt
    clippy
    rust-analyzer
    cargo-nextest
    cargo-insta
    cargo-deny
    just
    postgresql
    nginx
    python3
    nodejs
    nixfmt
  ];
}
