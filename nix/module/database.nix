# Postgres: on this machine, with the identity of the user as its password, or somewhere else.
{ config, lib, ... }:
let
  inherit (lib) mkIf mkOption types;
  cfg = config.services.gateway;
  # The name of the socket has the port.
  port = config.services.postgresql.settings.port;
  other = lib.optionalString (port != 5432) "&port=${toString port}";
  local = "postgresql:///gateway?user=gateway&host=/run/postgresql${other}";
  # The program takes this variable for its database by itself; here the rest of the module has to know.
  brought = cfg.secrets.files ? DATABASE_URL || cfg.secrets.onePassword.references ? DATABASE_URL;
  elsewhere =
    if cfg.database.url != null then
      cfg.database.url
    else if brought && !cfg.database.createLocally then
      "env:DATABASE_URL"
    else
      null;
in
{
  options.services.gateway.database = {
    createLocally = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Run Postgres on this machine with a database and a user `gateway`, reached over its socket without a password:
        keys, people and the ledger are kept there. If not, and without `url`, they are in `/var/lib/gateway/gateway.db`.
      '';
    };
    url = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "env:DATABASE_URL";
      description = "A Postgres elsewhere. With a password in it, write it as a secret and refer to it.";
    };
  };

  config = mkIf cfg.enable {
    services.gateway.settings.database_url = mkIf (cfg.database.createLocally || elsewhere != null) (
      lib.mkDefault (if elsewhere != null then elsewhere else local)
    );

    services.postgresql = mkIf cfg.database.createLocally {
      enable = true;
      ensureDatabases = [ "gateway" ];
      ensureUsers = [
        {
          name = "gateway";
          ensureDBOwnership = true;
        }
      ];
    };

    # Wanted, not required: the gateway serves without it, and a restart of Postgres is no restart of the gateway.
    systemd.services.gateway = mkIf cfg.database.createLocally {
      wants = [ "postgresql.target" ];
      after = [ "postgresql.target" ];
    };
  };
}
