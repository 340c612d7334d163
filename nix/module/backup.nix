# A dump of the database that Restic, or any other program, can pick up: of Postgres on this machine, or of SQLite.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkIf mkOption types;
  cfg = config.services.gateway;
  postgresql = config.services.postgresql.package;
  hardening = import ../hardening.nix;
  quote = import ../quote.nix;
  directory = toString cfg.backup.directory;
  isPostgres = cfg.database.createLocally;
  dump = "${directory}/gateway.${if isPostgres then "dump" else "db"}";
  # Under another name until it is whole.
  new = "${dump}.new";
  embedded = "/var/lib/gateway/gateway.db";
  commands =
    if isPostgres then
      [
        [
          "${postgresql}/bin/pg_dump"
          "--host=/run/postgresql"
          "--port=${toString config.services.postgresql.settings.port}"
          "--format=custom"
          "--file=${new}"
          "gateway"
        ]
        [
          "${postgresql}/bin/pg_restore"
          "--list"
          "--file=/dev/null"
          new
        ]
      ]
    else
      [
        [
          (lib.getExe' pkgs.coreutils "rm")
          "-f"
          new
        ]
        # A copy of one moment, while the gateway goes on writing. No setting and no secret is needed for it.
        [
          (lib.getExe cfg.package)
          "store"
          "backup"
          "--config"
          "/dev/null"
          "--state-dir"
          "/var/lib/gateway"
          new
        ]
      ];
in
{
  options.services.gateway.backup = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = "Dump the database regularly: Postgres on this machine, or SQLite where there is no Postgres.";
    };
    directory = mkOption {
      type = types.path;
      default = "/var/backup/gateway";
      description = "Where the dump lies: `gateway.dump` in the form of `pg_restore`, or `gateway.db` of SQLite.";
    };
    startAt = mkOption {
      type = types.str;
      default = "03:15";
      description = "When, as `OnCalendar=` of systemd has it.";
    };
    restic = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "nas" ];
      description = ''
        Names in `services.restic.backups` that take dump and state with them. Each makes a new dump first. Nothing
        under `/run` is among the paths, so no secret is.
      '';
    };
    paths = mkOption {
      type = types.listOf types.str;
      readOnly = true;
      description = "What a backup has to hold; for programs other than Restic.";
    };
  };

  config = lib.mkMerge [
    {
      services.gateway.backup.paths = [
        "/var/lib/gateway"
      ]
      ++ lib.optional cfg.backup.enable directory;
    }
    (mkIf cfg.enable {
      services.restic.backups = lib.genAttrs cfg.backup.restic (_: {
        inherit (cfg.backup) paths;
      });
      # An older dump is better than no backup: wanted, not required.
      systemd.services = mkIf cfg.backup.enable (
        {
          gateway-backup = {
            description = "Dump of the gateway's database";
            wants = lib.optional isPostgres "postgresql.target";
            after = lib.optional isPostgres "postgresql.target";
            # Nobody has called yet.
            unitConfig = lib.optionalAttrs (!isPostgres) { ConditionPathExists = embedded; };
            serviceConfig = hardening // {
              Type = "oneshot";
              User = "gateway";
              Group = "gateway";
              # SQLite takes its locks in files beside the database.
              ReadWritePaths = [ (quote.word directory) ] ++ lib.optional (!isPostgres) "/var/lib/gateway";
              RestrictAddressFamilies = [ "AF_UNIX" ];
              ExecStart = map quote.execLine (
                commands
                ++ [
                  [
                    (lib.getExe' pkgs.coreutils "mv")
                    "-fT"
                    new
                    dump
                  ]
                ]
              );
              TimeoutStartSec = "1h";
              IOSchedulingClass = "idle";
              Nice = 10;
            };
          };
        }
        // lib.listToAttrs (
          map (name: {
            name = "restic-backups-${name}";
            value = {
              wants = [ "gateway-backup.service" ];
              after = [ "gateway-backup.service" ];
            };
          }) cfg.backup.restic
        )
      );
      systemd.timers.gateway-backup = mkIf cfg.backup.enable {
        description = "Dump of the gateway's database";
        wantedBy = [ "timers.target" ];
        timerConfig = {
          OnCalendar = cfg.backup.startAt;
          Persistent = true;
          RandomizedDelaySec = "10min";
        };
      };
      systemd.tmpfiles.rules = mkIf cfg.backup.enable [ "d ${quote.word directory} 0700 gateway gateway -" ];
    })
  ];
}
