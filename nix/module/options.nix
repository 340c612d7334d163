# services.gateway: the program and where it is reached. What belongs to a part stands in that part's file.
{
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
in
{
  options.services.gateway = {
    enable = lib.mkEnableOption "the gateway, a single address for all language models of the house";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ../package.nix { };
      defaultText = lib.literalMD "the package of this flake, built with your nixpkgs";
      description = "The program.";
    };

    host = mkOption {
      type = types.str;
      default = "127.0.0.1";
      example = "0.0.0.0";
      description = ''
        Address to listen on. Anything but loopback can be reached by other machines, in clear text; `nginx.enable` is
        the better way. `::` is every address. A number, or `localhost`: systemd looks no name up.
      '';
    };

    port = mkOption {
      type = types.port;
      default = 4000;
      description = "Port to listen on.";
    };

    listen = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "192.168.1.2:4000"
        "/run/apps/gateway.sock"
      ];
      description = ''
        More addresses, as `ListenStream=` of systemd has them. `/run/gateway.sock` is always there, for members of the
        group `gateway` (with `nginx.enable`: of Nginx's group).
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Open the firewall: for ports 80 and 443 with `nginx.enable`, else for `port`.";
    };

    idleTimeout = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "15m";
      description = ''
        Let the gateway end by itself after so long without a connection; the next one starts it again. Needs systemd
        255. Written as in the settings: `"15m"`, `"1h"`.
      '';
    };
  };
}
