# `nix flake check`: the package, and the module on virtual machines.
#
# The machines are written for a nixpkgs that the project's own tests cannot reach: there these files are parsed and
# no more. `tests/nix` evaluates the module by a stand-in instead.
{
  pkgs,
  gateway,
  module,
}:
let
  machine = file: pkgs.testers.runNixOSTest (import file { inherit gateway module pkgs; });
in
{
  package = gateway;
  minimal = machine ./tests/minimal.nix;
  house = machine ./tests/house.nix;
  secrets = machine ./tests/secrets.nix;
  home-assistant = machine ./tests/home-assistant.nix;
  restart = machine ./tests/restart.nix;
}
