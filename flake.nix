{
  description = "A self-hosted gateway to language models: one URL and one key for all of them";

  # The only input: every further one would be one more hash to trust.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      each = make: lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: make nixpkgs.legacyPackages.${system});
      package = pkgs: pkgs.callPackage ./nix/package.nix { };
    in
    {
      packages = each (pkgs: {
        gateway = package pkgs;
        default = package pkgs;
      });

      overlays.default = final: _: { gateway = package final; };

      nixosModules.default = ./module.nix;
      nixosModules.gateway = ./module.nix;

      # For services of your own that want the same chain of secrets.
      lib.mkSecretService = import ./nix/mk-secret-service.nix { inherit lib; };

      devShells = each (pkgs: {
        default = import ./nix/shell.nix { inherit pkgs; };
      });

      checks = each (
        pkgs:
        import ./nix/checks.nix {
          inherit pkgs;
          gateway = package pkgs;
          module = ./module.nix;
        }
      );
    };
}
