# gateway.toml: what the operator writes, what the module adds, and its check at build time.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkIf mkOption types;
  cfg = config.services.gateway;
  toml = pkgs.formats.toml { };

  # TOML has no null: an option that nobody set is left out.
  written =
    value:
    if lib.isAttrs value then
      lib.mapAttrs (_: written) (lib.filterAttrs (_: v: v != null) value)
    else if lib.isList value then
      map written value
    else
      value;

  canRun = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
  raw = toml.generate "gateway.toml" (written cfg.settings);
  # The real program reads the file: a typo fails the build, at its line. It can only be run where it is built for.
  checked = pkgs.runCommand "gateway.toml" { } ''
    ${lib.optionalString canRun "${lib.getExe cfg.package} check --offline ${raw}"}
    cp ${raw} $out
  '';

  setting =
    type: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description;
    };
  time = types.either types.str types.ints.unsigned;
  size = types.either types.str types.ints.unsigned;
in
{
  options.services.gateway = {
    settings = mkOption {
      default = { };
      description = ''
        `gateway.toml`, see docs/configuration.md for every field. Those below are checked by type, all of them by the
        program when the system is built. It lies in the store, which everybody can read: write secrets as `env:NAME`.
      '';
      example = lib.literalExpression ''
        {
          server.body_limit = "64MiB";
          defaults.timeout = "5m";
        }
      '';
      type = types.submodule {
        freeformType = toml.type;
        options = {
          master_key = setting types.str ''
            The key that callers show, as `env:NAME`. `env:GATEWAY_MASTER_KEY` where a source may have it.
          '';
          allow_anonymous = setting types.bool "Serve callers without a key, although other machines can connect.";
          database_url = setting types.str "Postgres. Set `database.createLocally` or `database.url` instead.";
          server = {
            body_limit = setting size "Largest request body; Nginx gets the same limit. 32 MiB if nothing is said.";
            drain = setting time "How long open calls may go on after a stop was asked for. 30 s if nothing is said.";
            early_commit = setting time "Silence after which a stream gets its 200 and comments.";
            root_path = setting types.str "A prefix, such as `/llm`, under which every route is served too.";
            trusted_proxies = setting (types.listOf types.str) ''
              Proxies whose `X-Forwarded-For` is believed. With `nginx.enable`: `[ "unix" ]`, which is Nginx.
            '';
            cors_origins = setting (types.listOf types.str) "Web origins that may call from a browser.";
          };
          log.level = setting types.str "`error`, `warn`, `info`, `debug`, `trace`, or a filter.";
          defaults = {
            timeout = setting time "Time for a whole answer; Nginx waits longer. 600 s if nothing is said.";
            stream_timeout = setting time "The longest silence of a stream.";
            drop_params = setting types.bool "Drop parameters that a provider does not take, instead of a 400.";
          };
        };
      };
    };

    models = mkOption {
      default = [ ];
      description = ''
        `[[models]]` of `gateway.toml`: one deployment each. The same name twice is served in turn. Every field of
        docs/configuration.md may be given.
      '';
      example = lib.literalExpression ''
        [
          { name = "fast"; model = "groq/llama-3.3-70b-versatile"; }
          { name = "local"; model = "ollama/qwen3:8b"; api_base = "http://nas.home.example:11434"; }
        ]
      '';
      type = types.listOf (
        types.submodule {
          freeformType = toml.type;
          options = {
            name = mkOption {
              type = types.str;
              description = "What callers ask for; one `*` may stand for any text.";
            };
            model = mkOption {
              type = types.str;
              description = "`provider/model`.";
            };
          };
        }
      );
    };

    keys = mkOption {
      default = { };
      description = ''
        Keys of persons and apps: `[keys.NAME]` of `gateway.toml`, with what LiteLLM's `/key/generate` takes. They are
        there from the start, cannot be changed by the API, and end when they are taken out. Users, teams and budgets:
        `settings.users`, `settings.teams`, `settings.budgets`.
      '';
      example = lib.literalExpression ''
        {
          phone = { models = [ "fast" ]; max_budget = 5; budget_duration = "30d"; file = "/run/secrets/phone-key"; };
          laptop.hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        }
      '';
      type = types.attrsOf (
        types.submodule (
          { name, config, ... }:
          {
            freeformType = toml.type;
            options = {
              key = mkOption {
                type = types.nullOr types.str;
                default =
                  if config.hash != null then
                    null
                  else
                    "env:GATEWAY_KEY_${lib.toUpper (lib.replaceStrings [ "-" ] [ "_" ] name)}";
                defaultText = lib.literalExpression ''"env:GATEWAY_KEY_<NAME>"'';
                description = "The key, as a reference to one of the secrets.";
              };
              hash = mkOption {
                type = types.nullOr types.str;
                default = null;
                description = "In the place of the key its SHA-256 in hex, which is no secret.";
              };
              file = mkOption {
                type = types.nullOr types.path;
                default = null;
                description = "File that holds the key; becomes `GATEWAY_KEY_<NAME>`.";
              };
            };
          }
        )
      );
    };

    configFile = mkOption {
      type = types.package;
      internal = true;
      readOnly = true;
      description = "The checked file.";
    };
  };

  config = mkIf cfg.enable {
    services.gateway = {
      configFile = checked;
      settings = {
        master_key = mkIf (cfg.secrets.mayHave "GATEWAY_MASTER_KEY") (mkDefault "env:GATEWAY_MASTER_KEY");
        models = mkIf (cfg.models != [ ]) cfg.models;
        keys = mkIf (cfg.keys != { }) (lib.mapAttrs (_: key: removeAttrs key [ "file" ]) cfg.keys);
      };
    };
  };
}
