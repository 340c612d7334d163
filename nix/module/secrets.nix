# Where secrets come from. Each source adds to the one file that the gateway reads, /run/gateway-secrets/env.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.gateway;
  # Sources whose names are known only when they are asked.
  isOpenEnded = cfg.environmentFile != null || cfg.secrets.command != [ ];
  mkSecretService = import ../mk-secret-service.nix { inherit lib; };
in
{
  options.services.gateway = {
    environmentFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/secrets/gateway.env";
      description = ''
        File of `NAME=value` lines, such as a template of sops-nix or a secret of agenix. Root has to be able to read
        it; the gateway gets its own copy. Never a file of the store.
      '';
    };

    secrets = {
      files = mkOption {
        type = types.attrsOf types.path;
        default = { };
        example = lib.literalExpression ''{ GROQ_API_KEY = config.sops.secrets.groq.path; }'';
        description = "Variables whose value is what a file holds. For sops-nix, agenix, opnix, or files made by hand.";
      };

      command = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [
          "/run/current-system/sw/bin/bao-env"
          "kv/gateway"
        ];
        description = "Command that prints `NAME=value` lines. It runs as root, sandboxed, with the network.";
      };

      onePassword = {
        references = mkOption {
          type = types.attrsOf types.str;
          default = { };
          example = {
            GATEWAY_MASTER_KEY = "op://Homelab/Gateway/credential";
          };
          description = "Variables and where 1Password has them.";
        };
        tokenFile = mkOption {
          type = types.nullOr types.path;
          default = null;
          example = "/etc/gateway/op-token";
          description = "File with the token of a service account, for root alone. Only the unit that fetches gets it.";
        };
        package = mkOption {
          type = types.package;
          default = pkgs._1password-cli;
          defaultText = lib.literalExpression "pkgs._1password-cli";
          description = "The tool `op`. It is unfree: `nixpkgs.config.allowUnfreePredicate` has to allow it.";
        };
      };

      path = mkOption {
        type = types.listOf types.package;
        default = [ ];
        description = "Packages that `command` calls.";
      };

      after = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "opnix-secrets.service" ];
        description = "Units that bring the files; they are wanted, and waited for.";
      };

      timeout = mkOption {
        type = types.str;
        default = "2min";
        description = "Time for all sources together, as systemd writes it. After it the fetch has failed.";
      };

      present = mkOption {
        type = types.bool;
        internal = true;
        readOnly = true;
        description = "Whether there is any source.";
      };

      mayHave = mkOption {
        type = types.raw;
        internal = true;
        readOnly = true;
        description = "name -> whether one of the sources has it, as far as can be known when the system is built.";
      };
    };
  };

  config = lib.mkMerge [
    {
      services.gateway.secrets.present =
        isOpenEnded || cfg.secrets.files != { } || cfg.secrets.onePassword.references != { };
      services.gateway.secrets.mayHave =
        name: isOpenEnded || cfg.secrets.files ? ${name} || cfg.secrets.onePassword.references ? ${name};
    }
    (lib.mkIf cfg.enable {
      services.gateway.secrets.files = lib.mkMerge (
        lib.mapAttrsToList (
          name: key: lib.mkIf (key.file != null && key.key != null) { ${lib.removePrefix "env:" key.key} = key.file; }
        ) cfg.keys
      );
      systemd = lib.mkIf cfg.secrets.present (mkSecretService {
        name = "gateway";
        fetch = "${cfg.package}/libexec/gateway/fetch-secrets";
        inherit (cfg) environmentFile;
        inherit (cfg.secrets)
          files
          command
          onePassword
          after
          timeout
          ;
        before = [
          "gateway-config.service"
          "gateway.service"
        ];
        path = [ cfg.package ] ++ cfg.secrets.path;
        # What was rotated is in force as soon as it is here; a database's password needs another process.
        tell = [ "${lib.getExe cfg.package} reload --if-running --or-restart gateway.service --state-dir /run/gateway" ];
      });
    })
  ];
}
