# services.gateway for NixOS. docs/nixos.md leads through it, docs/options.md lists the options.
{
  imports = [
    ./nix/module/options.nix
    ./nix/module/settings.nix
    ./nix/module/units.nix
    ./nix/module/secrets.nix
    ./nix/module/database.nix
    ./nix/module/nginx.nix
    ./nix/module/backup.nix
    ./nix/module/mcp.nix
    ./nix/module/assertions.nix
  ];
  meta.maintainers = [ ];
}
